"""aiohttp: `setup` once, `get_session` in the handlers."""

from typing import assert_type

from aiohttp import web

from sessioncore import Session, SessionConfig, SessionStore
from sessioncore_aiohttp import get_session, session_middleware, setup


async def home(request: web.Request) -> web.Response:
    session = await get_session(request)
    assert_type(session, Session)
    visits: int = session.mutate("visits", lambda count: count + 1, default=0)
    return web.Response(text=f"{visits}")


app = web.Application()
app.router.add_get("/", home)
setup(app, SessionStore(SessionConfig.development()))

by_hand = web.Application(middlewares=[session_middleware(SessionStore(SessionConfig.development()))])
