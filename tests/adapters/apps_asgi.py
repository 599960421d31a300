"""The scenario application in Starlette, with the ASGI middleware around it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from tests.adapters.page import PageRequest, PageResponse
from tests.adapters.pages import PAGES
from tests.adapters.socket_page import talk, talk_by_text

from sessioncore import SessionStore
from sessioncore_asgi import SessionMiddleware, get_session

__all__ = ["make_app"]

Page = Callable[[PageRequest], Awaitable[PageResponse]]
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]


def _response(answer: PageResponse) -> Response:
    response: Response
    if answer.raised:
        raise HTTPException(answer.status, "as you asked", dict(answer.headers))
    if answer.file is not None:
        response = FileResponse(answer.file)
    elif answer.chunks is not None:
        response = StreamingResponse(answer.chunks, answer.status)
    else:
        response = Response(answer.body, answer.status, media_type="text/plain" if answer.body else None)
    for name, value in answer.headers:
        response.headers.append(name, value)
    response.background = BackgroundTask(answer.background) if answer.background is not None else None
    return response


def _handler(page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        return _response(await page(PageRequest(request, get_session)))

    return handle


def make_app(
    store: SessionStore,
    *others: tuple[str, SessionStore],
    pages: Mapping[str, Page] = PAGES,
    talk: Callable[..., Awaitable[None]] = talk,
    lifespan: Any = None,
) -> Any:
    """Return the application with `store`, and with others under their `scope_key`."""

    async def ws(socket: WebSocket) -> None:
        await talk_by_text(talk, PageRequest(socket, get_session), socket, WebSocketDisconnect)

    routes = [Route(f"/{name}", _handler(page), methods=METHODS) for name, page in pages.items()]
    share = [Route("/share/{id}", _handler(page)) for name, page in pages.items() if name == "share"]
    app: Any = Starlette(routes=[*routes, *share, WebSocketRoute("/ws", ws)], lifespan=lifespan)
    for scope_key, other in reversed(others):
        app = SessionMiddleware(app, other, scope_key=scope_key)
    return SessionMiddleware(app, store)
