"""starsessions, loaded by the handlers that use the session, as its documentation advises."""

from typing import Any

from benchmarks.families.asgi import app as raw_app
from benchmarks.places import Place
from benchmarks.workloads import handlers, next_owner
from starsessions import CookieStore, InMemoryStore, SessionMiddleware
from starsessions.stores.redis import RedisStore

NAME = "starsessions"
FAMILY = "asgi"
STORAGES = ("memory", "redis", "cookie")


def build(place: Place) -> Any:
    async def load(scope: Any) -> Any:
        await scope["session_handler"].load()  # what load_session(request) does; there is no request here
        return scope["session"]

    async def login(scope: Any) -> None:
        (await load(scope))["owner"] = next_owner()
        scope["session_handler"].regenerate_id()

    async def logout(scope: Any) -> None:
        (await load(scope)).clear()

    if place.name == "redis":
        store: Any = RedisStore(connection=place.redis())
    else:
        store = InMemoryStore() if place.name == "memory" else CookieStore("a secret of some length")
    app = raw_app(handlers(load=load, login=login, logout=logout))
    return SessionMiddleware(app, store=store, lifetime=3600, rolling=True)
