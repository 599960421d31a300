"""Litestar's own server-side sessions."""

from typing import Any

from benchmarks.families.litestar import app as litestar_app
from benchmarks.places import Place
from benchmarks.workloads import handlers, next_owner
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.stores.memory import MemoryStore
from litestar.stores.redis import RedisStore

NAME = "Litestar server-side"
FAMILY = "litestar"
STORAGES = ("memory", "redis")


def build(place: Place) -> Any:
    async def login(request: Any) -> None:
        request.session["owner"] = next_owner()  # it cannot change the ID

    async def logout(request: Any) -> None:
        request.clear_session()

    store: Any = RedisStore(place.redis()) if place.name == "redis" else MemoryStore()
    paths = handlers(session_of=lambda request: request.session, login=login, logout=logout)
    return litestar_app(paths, middleware=[ServerSideSessionConfig(secure=True).middleware], stores={"sessions": store})
