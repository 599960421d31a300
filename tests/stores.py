"""Storages that watch, wait or fail: real storages with something in front of them."""

from collections.abc import Awaitable, Callable
from typing import Any

from anyio.lowlevel import checkpoint

from sessioncore import MemoryStorage, StorageUnavailable, Stored
from sessioncore.storage import LATER, AnswersNow, Call, Clears, Later, Opens, Purges, Reply

__all__ = ["AlternatingStorage", "PromptStorage", "SpyStorage", "SuspendingStorage"]


class SpyStorage:
    """A MemoryStorage that records each call, and lets a test step in before or after it."""

    capabilities = frozenset({Clears, Opens, Purges})

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.inner = MemoryStorage(clock=clock) if clock is not None else MemoryStorage()
        self.calls: list[str] = []
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self.after: dict[str, Callable[[], Awaitable[None]]] = {}
        self.down: set[str] = set()

    async def _through(self, operation: str, call: Callable[[], Awaitable[Any]]) -> Any:
        self._note(operation)
        if step := self.before.pop(operation, None):
            await step()
        result = await call()
        if step := self.after.pop(operation, None):
            await step()
        return result

    def _note(self, operation: str) -> None:
        self.calls.append(operation)
        if operation in self.down or "all" in self.down:
            raise StorageUnavailable("the storage is switched off by a test")

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


class PromptStorage(SpyStorage):
    """One that answers at once, as a MemoryStorage does, where no test steps in."""

    capabilities = SpyStorage.capabilities | {AnswersNow}

    def answer_now(self, call: Call) -> Reply | Later:
        if call.operation in self.before or call.operation in self.after:
            return LATER
        self._note(call.operation)
        return self.inner.answer_now(call)


class AlternatingStorage(PromptStorage):
    """One that answers at once only now and then: every other call has to be awaited."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        super().__init__(clock)
        self._later = False

    def answer_now(self, call: Call) -> Reply | Later:
        self._later = not self._later
        return LATER if self._later else super().answer_now(call)


class SuspendingStorage(SpyStorage):
    """One whose every call lets others run, before and after it, as a network does; `turns` times each."""

    def __init__(self, clock: Callable[[], float] | None = None, *, turns: int = 1) -> None:
        super().__init__(clock)
        self.turns = turns

    async def _through(self, operation: str, call: Callable[[], Awaitable[Any]]) -> Any:
        for _ in range(self.turns):
            await checkpoint()
        result = await super()._through(operation, call)
        for _ in range(self.turns):
            await checkpoint()
        return result
