"""Starlette's SessionMiddleware: the data itself in a signed cookie."""

from typing import Any

from benchmarks.families.asgi import app as raw_app
from benchmarks.places import Place
from benchmarks.workloads import handlers, next_owner
from starlette.middleware.sessions import SessionMiddleware

NAME = "Starlette SessionMiddleware"
FAMILY = "asgi"
STORAGES = ("cookie",)


def session_of(scope: Any) -> Any:
    session = scope["session"]
    session.mark_accessed()  # as Starlette's own Request.session does
    return session


def build(place: Place) -> Any:
    async def login(scope: Any) -> None:
        scope["session"]["owner"] = next_owner()  # there is no ID to change

    async def logout(scope: Any) -> None:
        scope["session"].clear()

    paths = handlers(session_of=session_of, login=login, logout=logout)
    return SessionMiddleware(raw_app(paths), secret_key="a secret of some length", https_only=True)
