"""sessioncore in an aiohttp application."""

from typing import Any

from benchmarks.families.aiohttp import app as aiohttp_app
from benchmarks.ours import login, logout, store_in
from benchmarks.places import Place
from benchmarks.workloads import handlers

from sessioncore_aiohttp import get_session, setup

NAME = "sessioncore (aiohttp)"
FAMILY = "aiohttp"
STORAGES = ("memory", "redis")


def build(place: Place) -> Any:
    async def log_in(request: Any) -> None:
        await login(await get_session(request))

    async def log_out(request: Any) -> None:
        await logout(await get_session(request))

    app = aiohttp_app(handlers(load=get_session, login=log_in, logout=log_out))
    setup(app, store_in(place))
    return app
