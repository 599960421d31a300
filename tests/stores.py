"""Storages that watch, wait or fail: real storages with something in front of them."""

from collections.abc import Awaitable, Callable
from typing import Any

from sessioncore import MemoryStorage, StorageUnavailable, Stored

__all__ = ["SpyStorage"]


class SpyStorage:
    """A MemoryStorage that records each call, and lets a test step in before or after it."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.inner = MemoryStorage(clock=clock) if clock is not None else MemoryStorage()
        self.calls: list[str] = []
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self.after: dict[str, Callable[[], Awaitable[None]]] = {}
        self.down: set[str] = set()

    async def _through(self, operation: str, call: Callable[[], Awaitable[Any]]) -> Any:
        self.calls.append(operation)
        if operation in self.down or "all" in self.down:
            raise StorageUnavailable("the storage is switched off by a test")
        if step := self.before.pop(operation, None):
            await step()
        result = await call()
        if step := self.after.pop(operation, None):
            await step()
        return result

    async def load(self, key: str, *, renew: float | None = None) -> Stored | None:
        found: Stored | None = await self._through("load", lambda: self.inner.load(key, renew=renew))
        return found

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        made: int | None = await self._through("create", lambda: self.inner.create(key, data, ttl, owner=owner))
        return made

    async def replace(
        self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> int | Stored | None:
        done: int | Stored | None = await self._through(
            "replace", lambda: self.inner.replace(key, data, ttl, version=version, owner=owner)
        )
        return done

    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> int | Stored | None:
        done: int | Stored | None = await self._through(
            "move", lambda: self.inner.move(key, new_key, data, ttl, version=version, owner=owner)
        )
        return done

    async def touch(self, key: str, ttl: float) -> bool:
        return bool(await self._through("touch", lambda: self.inner.touch(key, ttl)))

    async def delete(self, *keys: str) -> int:
        return int(await self._through("delete", lambda: self.inner.delete(*keys)))

    async def clear(self, prefix: str) -> int:
        return int(await self._through("clear", lambda: self.inner.clear(prefix)))

    async def owned_keys(self, owner: str) -> list[str]:
        return list(await self._through("owned_keys", lambda: self.inner.owned_keys(owner)))

    async def purge_expired(self) -> int:
        return int(await self._through("purge_expired", self.inner.purge_expired))

    async def open(self) -> None:
        await self._through("open", self.inner.open)

    async def check(self) -> None:
        await self._through("check", self.inner.check)

    async def aclose(self) -> None:
        await self._through("aclose", self.inner.aclose)
