"""A storage with the seven calls and nothing else, and one that also has to wait for a server."""

import itertools
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import ClassVar

import anyio
from anyio.lowlevel import checkpoint
from msgspec import Struct

from sessioncore import StorageError, StorageUnavailable
from sessioncore.storage import BoundsCalls, Stored, Unreadable, Written
from sessioncore.testing import ManualClock, Rig

__all__ = ["Row", "ServerStorage", "SevenCallStorage", "seven_call_rig"]


class Row(Struct, frozen=True):
    """One record. Anything else in the dictionary was not written by the storage."""

    data: bytes
    version: int
    ends: float
    owner: str | None


class SevenCallStorage:
    """A dictionary behind a lock. Each call pauses while it holds the lock, as a transaction on a server does."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.rows: dict[str, object] = {}
        self.clock = clock
        self._versions = itertools.count(1)
        self._lock = anyio.Lock()

    async def load(self, key: str, *, renew: float | None = None) -> Stored | Unreadable | None:
        async with self._lock:
            row = await self.find(key)
            if renew is not None and isinstance(row, Row):
                row = self.rows[key] = Row(row.data, row.version, self.clock() + renew, row.owner)
            return self.shown(row)

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        async with self._lock:
            return self.put(key, data, ttl, owner) if await self.find(key) is None else None

    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        async with self._lock:
            row = await self.find(key)
            if not isinstance(row, Row) or row.version != version:
                return self.shown(row)
            return self.put(key, data, ttl, owner)

    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Written:
        async with self._lock:
            row = await self.find(key)
            if not isinstance(row, Row) or row.version != version:
                return self.shown(row)
            if await self.find(new_key) is not None:
                raise StorageError("the new key is taken; nothing was changed")  # KeyTaken would be better
            del self.rows[key]
            return self.put(new_key, data, ttl, owner)

    async def touch(self, key: str, ttl: float) -> bool:
        return isinstance(await self.load(key, renew=ttl), Stored)

    async def delete(self, *keys: str) -> int:
        async with self._lock:
            live = [key for key in dict.fromkeys(keys) if await self.find(key) is not None]
            for key in keys:
                self.rows.pop(key, None)
            return len(live)

    async def owned_keys(self, owner: str) -> list[str]:
        async with self._lock:
            rows = [(key, await self.find(key)) for key in tuple(self.rows)]
            return [key for key, row in rows if isinstance(row, Row) and row.owner == owner]

    async def find(self, key: str) -> Row | Unreadable | None:
        row = self.rows.get(key)
        await checkpoint()
        if isinstance(row, Row):
            return row if row.ends > self.clock() else None
        return None if row is None else Unreadable()

    def shown(self, row: Row | Unreadable | None) -> Stored | Unreadable | None:
        return Stored(row.data, row.version, row.ends - self.clock()) if isinstance(row, Row) else row

    def put(self, key: str, data: bytes, ttl: float, owner: str | None) -> int:
        version = next(self._versions)
        self.rows[key] = Row(data, version, self.clock() + ttl, owner)
        return version


class ServerStorage(SevenCallStorage):
    """A storage whose server can stop answering; it bounds its calls itself."""

    capabilities: ClassVar[frozenset[type]] = frozenset({BoundsCalls})

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.speaks = anyio.Event()
        self.speaks.set()
        self.bound = 60.0

    def bound_calls(self, seconds: float) -> bool:
        self.bound = min(self.bound, seconds)
        return True

    @asynccontextmanager
    async def silence(self) -> AsyncGenerator[None]:
        self.speaks = anyio.Event()
        try:
            yield
        finally:
            self.speaks.set()

    async def find(self, key: str) -> Row | Unreadable | None:
        await self.hear()
        return await super().find(key)

    async def hear(self) -> None:
        try:
            with anyio.fail_after(self.bound):
                await self.speaks.wait()
        except TimeoutError as exc:
            raise StorageUnavailable("the server does not answer") from exc


def seven_call_rig(storage: SevenCallStorage, clock: ManualClock) -> Rig:
    """A rig that reads the dictionary directly, and can put something foreign there."""

    async def advance(seconds: float) -> None:
        clock.advance(seconds)

    async def remaining(key: str) -> float | None:
        row = storage.rows.get(key)
        return row.ends - clock() if isinstance(row, Row) and row.ends > clock() else None

    async def make_unreadable(key: str) -> None:
        storage.rows[key] = "another program's"

    silence = storage.silence if isinstance(storage, ServerStorage) else None
    return Rig(storage, 0.05, advance, remaining, make_unreadable, silence)
