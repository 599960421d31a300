"""ASGI: the middleware around a Starlette application, and the session by `get_session`, which has a type."""

from typing import assert_type

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from sessioncore import Session, SessionConfig, SessionStore
from sessioncore_asgi import SessionMiddleware, get_session

store = SessionStore(SessionConfig.development())
admins = SessionStore(SessionConfig.development(key_prefix="admin:"))


async def home(request: Request) -> PlainTextResponse:
    session = await get_session(request)
    assert_type(session, Session)
    session["visits"] = session.get("visits", 0) + 1
    return PlainTextResponse(f"{session.handle}: {session['visits']}")


async def socket(websocket: WebSocket) -> None:
    session = await get_session(websocket)
    session["joined"] = True
    await websocket.accept()
    await websocket.send_text(session.owner or "a visitor without a name")
    await websocket.close()


app = Starlette(
    routes=[Route("/", home), WebSocketRoute("/socket", socket)],
    middleware=[
        Middleware(SessionMiddleware, store=store),
        Middleware(SessionMiddleware, store=admins, scope_key="admin", lazy=True),
    ],
)
