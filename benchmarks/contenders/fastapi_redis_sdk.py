"""Redis' own SDK for FastAPI.

Its records need HGETEX and HSETEX (Redis 8) or HEXPIRE (7.4), so it runs only where the server has them;
it is not part of the `bench` extra: `pip install fastapi-redis-sdk`.
"""

import os
from typing import Any

from benchmarks.families.fastapi import app as fastapi_app
from benchmarks.places import Place
from benchmarks.workloads import handlers, next_owner
from redis_fastapi import FastAPIRedis, get_settings

NAME = "fastapi-redis-sdk"
FAMILY = "fastapi"
STORAGES = ("redis-8",)


def build(place: Place) -> Any:
    async def login(request: Any) -> None:
        request.session["owner"] = next_owner()  # principal_keys: the ID changes by itself

    async def logout(request: Any) -> None:
        request.session.clear()

    os.environ["REDIS_URL"] = place.url  # where its settings look
    get_settings.cache_clear()
    app = fastapi_app(handlers(session_of=lambda request: request.session, login=login, logout=logout))
    FastAPIRedis(app).lifespan().sessions(principal_keys=["owner"], idle_ttl=1800, absolute_ttl=28800)
    return app
