"""sessioncore in a Starlette application."""

from typing import Any

from benchmarks.families.starlette import app as starlette_app
from benchmarks.ours import login, logout, store_in
from benchmarks.places import Place
from benchmarks.workloads import handlers
from starlette.middleware import Middleware

from sessioncore_asgi import SessionMiddleware

NAME = "sessioncore (Starlette)"
FAMILY = "starlette"
STORAGES = ("memory", "redis")


def build(place: Place) -> Any:
    paths = handlers(
        session_of=lambda request: request.session,
        login=lambda request: login(request.session),
        logout=lambda request: logout(request.session),
    )
    return starlette_app(paths, [Middleware(SessionMiddleware, store=store_in(place))])
