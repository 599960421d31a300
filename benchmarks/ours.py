"""What the sessioncore contenders share: a store with the defaults of production, login and logout."""

from typing import Any

from benchmarks.places import Place
from benchmarks.workloads import next_owner

from sessioncore import MemoryStorage, Session, SessionConfig, SessionStore, SQLiteStorage
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.storage.redis import NearCache, RedisStorage


def store_in(place: Place) -> SessionStore:
    """Return a store with the default configuration, but for the size that the large workload needs."""
    return SessionStore(SessionConfig(storage=_storage(place), max_size=1 << 20))


def _storage(place: Place) -> Any:
    if place.name == "memory":
        return MemoryStorage()
    if place.name == "sqlite":
        return SQLiteStorage(place.url)
    if place.name == "redis":
        return RedisStorage.from_url(place.url)
    if place.name == "redis-near":
        return RedisStorage.from_url(place.url, near_cache=NearCache())
    return PostgresStorage(place.url)


async def login(session: Session) -> None:
    """Change the ID and enter the owner's list: more than any peer does at a login."""
    await session.login(next_owner())


async def logout(session: Session) -> None:
    await session.destroy()
