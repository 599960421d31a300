"""Litestar: a plugin, and a parameter named `session`."""

from typing import Any, assert_type

from litestar import Litestar, Request, get, post
from litestar.di import NamedDependency

from sessioncore import Session, SessionConfig, SessionStore
from sessioncore_litestar import SessionBackendConfig, SessionPlugin, get_session

store = SessionStore(SessionConfig.development())


@get("/", media_type="text/plain")
async def home(session: NamedDependency[Session]) -> str:
    assert_type(session, Session)
    return f"{session.mutate('visits', lambda count: count + 1, default=0)}"


@post("/login")
async def login(request: Request[Any, Any, Any]) -> None:
    session = await get_session(request)
    assert_type(session, Session)
    await session.login("ada")


app = Litestar([home, login], plugins=[SessionPlugin(store, exclude="/static")])

backend = SessionBackendConfig(store)
assert_type(backend.key, str)
