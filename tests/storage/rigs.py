"""What the tests of every storage share: how records are made and read, and a rig for each embedded storage."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import pytest

from sessioncore import StorageUnavailable
from sessioncore.storage import MemoryStorage, SQLiteStorage, Storage, Stored, Written
from sessioncore.testing import ManualClock, Rig

T = TypeVar("T")

# For tests of servers, whose drivers support asyncio only, and for tests to which the event loop makes no difference.
ONE_LOOP = pytest.mark.parametrize("anyio_backend", ["asyncio"])

# What the fixture `storage` can be.
KINDS = [
    "memory",
    "spy",  # lacks load_many, and keeps no tombstones
    "sqlite",
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("redis-cluster", marks=pytest.mark.redis),
    pytest.param("postgres", marks=pytest.mark.postgres),
]

RigMaker: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Rig]]


async def made(storage: Storage, key: str, data: bytes = b"data", ttl: float = 1000, **more: Any) -> int:
    """Create a record that must be new."""
    version = await storage.create(key, data, ttl, **more)
    assert version is not None
    return version


async def record_at(storage: Storage, key: str, **more: Any) -> Stored:
    """Load a record that must be there."""
    stored = await storage.load(key, **more)
    assert isinstance(stored, Stored)
    return stored


def version_of(result: Written) -> int:
    """The version that a write has returned, which must have succeeded."""
    assert isinstance(result, int)
    return result


def manual_rig(storage: Storage, clock: ManualClock) -> Rig:
    """A rig for a storage whose only clock is `clock`."""

    async def advance(seconds: float) -> None:
        clock.advance(seconds)

    async def remaining(key: str) -> float | None:
        stored = await storage.load(key)
        return stored.ttl if isinstance(stored, Stored) else None

    return Rig(storage, 0.05, advance, remaining)


@asynccontextmanager
async def memory_rig(_: Path, max_sessions: int | None = None) -> AsyncGenerator[Rig, None]:
    clock = ManualClock()
    yield manual_rig(MemoryStorage(max_sessions=max_sessions, clock=clock), clock)


@asynccontextmanager
async def sqlite_rig(folder: Path) -> AsyncGenerator[Rig, None]:
    path, clock = folder / "sessions.db", ManualClock()
    storage = SQLiteStorage(path, clock=clock)

    async def advance(seconds: float) -> None:
        clock.advance(seconds)

    async def remaining(key: str) -> float | None:
        with closing(sqlite3.connect(path)) as connection:
            row = connection.execute("SELECT ends FROM records WHERE key = ? AND moved_to IS NULL", (key,)).fetchone()
        return None if row is None or row[0] <= clock() else row[0] - clock()

    async def make_unreadable(key: str) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE records SET data = 'text' WHERE key = ? AND moved_to IS NULL", (key,))

    async with aclosing(storage):
        yield Rig(storage, 0.05, advance, remaining, make_unreadable)


RIGS: dict[str, RigMaker] = {
    "memory": memory_rig, "memory-bounded": partial(memory_rig, max_sessions=1000), "sqlite": sqlite_rig
}  # fmt: skip


async def answered(call: Callable[[], Awaitable[T]], seconds: float = 5.0) -> T:
    """Call until there is an answer, and return it; until then only StorageUnavailable may be raised."""
    end = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except StorageUnavailable:
            assert time.monotonic() < end, "the service did not resume in time"
            await asyncio.sleep(0.01)
