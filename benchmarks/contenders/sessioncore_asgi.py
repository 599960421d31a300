"""sessioncore on ASGI without a framework."""

from typing import Any

from benchmarks.families.asgi import app as raw_app
from benchmarks.ours import login, logout, store_in
from benchmarks.places import Place
from benchmarks.workloads import handlers

from sessioncore_asgi import SessionMiddleware

NAME = "sessioncore"
FAMILY = "asgi"
STORAGES = ("memory", "sqlite", "redis", "postgres")


def build(place: Place) -> Any:
    paths = handlers(
        session_of=lambda scope: scope["session"],
        login=lambda scope: login(scope["session"]),
        logout=lambda scope: logout(scope["session"]),
    )
    return SessionMiddleware(raw_app(paths), store_in(place))
