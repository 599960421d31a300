"""sessioncore in a Litestar application."""

from typing import Any

from benchmarks.families.litestar import app as litestar_app
from benchmarks.ours import login, logout, store_in
from benchmarks.places import Place
from benchmarks.workloads import handlers

from sessioncore_litestar import SessionPlugin

NAME = "sessioncore (Litestar)"
FAMILY = "litestar"
STORAGES = ("memory", "redis")


def build(place: Place) -> Any:
    paths = handlers(
        session_of=lambda request: request.session,
        login=lambda request: login(request.session),
        logout=lambda request: logout(request.session),
    )
    return litestar_app(paths, plugins=[SessionPlugin(store_in(place))])
