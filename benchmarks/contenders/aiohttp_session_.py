"""aiohttp-session: RedisStorage, and its encrypted cookie."""

from typing import Any

from aiohttp_session import get_session, new_session, setup
from aiohttp_session.cookie_storage import EncryptedCookieStorage
from aiohttp_session.redis_storage import RedisStorage
from benchmarks.families.aiohttp import app as aiohttp_app
from benchmarks.places import Place
from benchmarks.workloads import handlers, next_owner

NAME = "aiohttp-session"
FAMILY = "aiohttp"
STORAGES = ("redis", "cookie")


def build(place: Place) -> Any:
    async def login(request: Any) -> None:
        data = dict(await get_session(request))
        session = await new_session(request)
        session.update(data)
        session["owner"] = next_owner()

    async def logout(request: Any) -> None:
        (await get_session(request)).invalidate()

    storage: Any = (
        RedisStorage(place.redis(), max_age=3600, secure=True)
        if place.name == "redis"
        else EncryptedCookieStorage(b"0123456789abcdef0123456789abcdef", max_age=3600, secure=True)
    )
    app = aiohttp_app(handlers(load=get_session, login=login, logout=logout))
    setup(app, storage)
    return app
