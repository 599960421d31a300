"""Litestar's encrypted cookie."""

from typing import Any

from benchmarks.families.litestar import app as litestar_app
from benchmarks.places import Place
from benchmarks.workloads import handlers, next_owner
from litestar.middleware.session.client_side import CookieBackendConfig

NAME = "Litestar cookie"
FAMILY = "litestar"
STORAGES = ("cookie",)


def build(place: Place) -> Any:
    async def login(request: Any) -> None:
        request.session["owner"] = next_owner()  # there is no ID to change

    async def logout(request: Any) -> None:
        request.clear_session()

    paths = handlers(session_of=lambda request: request.session, login=login, logout=logout)
    config = CookieBackendConfig(secret=b"0123456789abcdef0123456789abcdef", secure=True)
    return litestar_app(paths, middleware=[config.middleware])
