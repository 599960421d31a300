"""A storage for tests that fails, waits or loses replies when a test tells it to."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, ClassVar, Final, TypeVar, cast

import anyio

from sessioncore._errors import ConfigError, StorageUnavailable
from sessioncore._storage_protocol import capability
from sessioncore.storage import (
    Clears,
    KeepsTombstones,
    Move,
    Moved,
    Opens,
    Purges,
    Scans,
    Storage,
    Stored,
    Unreadable,
    Written,
    capabilities_of,
)

__all__ = ["FailingStorage", "Fault"]

T = TypeVar("T")

Failure = Callable[[], Exception]

_DOWN: Final = frozenset({
    "load", "create", "replace", "move", "touch", "delete", "owned_keys", "clear", "purge_expired", "scan", "open",
    "check",
})  # fmt: skip
_CALLS: Final = _DOWN | {"aclose"}  # a storage that is down can still be closed


class Fault:
    """A fault of a `FailingStorage`; it lasts until `release()`, or the end of a `with` statement on this object.

    `entered` is an `anyio.Event`, set when the fault affects its first call.
    """

    def __init__(self, calls: frozenset[str], times: int | None, *, late: bool, failure: Failure | None) -> None:
        self.entered: anyio.Event = anyio.Event()
        self.late: Final = late
        self._calls = calls
        self._left = times
        self._failure = failure
        self._released = anyio.Event()

    def __enter__(self) -> "Fault":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Let all calls pass from now on, and those that are held continue."""
        self._left = 0
        self._released.set()

    def takes(self, call: str) -> bool:
        """Return whether the fault hits this call, and count it if so."""
        if call not in self._calls or self._left == 0:
            return False
        if self._left is not None:
            self._left -= 1
        return True

    async def strike(self) -> None:
        """Raise the error, or wait for `release()` if there is none to raise."""
        self.entered.set()
        if self._failure is not None:
            raise self._failure()
        await self._released.wait()


class _NothingToOpen:
    async def open(self) -> None: ...

    async def check(self) -> None: ...

    async def aclose(self) -> None: ...


class FailingStorage:
    """A storage that passes every call on to another one, until a test tells it to break some of them.

    `fail`, `lose_reply`, `hold` and `hold_reply` take the names of calls (none: every call
    except `aclose`) and how many `times` to break them (None: until the fault is released).
    Each returns its `Fault`. If several faults are for the same call, the oldest one applies.
    `calls` lists the names of all calls, in the order in which they were made.

    A subclass may declare `capabilities` itself. Hold and release calls in the event loop
    in which they are made.
    """

    capabilities: ClassVar[frozenset[type]] = frozenset()

    def __init__(self, storage: Storage) -> None:
        if type(self).capabilities is FailingStorage.capabilities:
            # Capabilities are looked up on the class, so this object gets a class that declares what `storage` can do.
            # Not AnswersNow and BoundsCalls: a call that is to fail or wait has to be awaited and timed.
            # Opens in any case: a storage whose start is to fail has to be opened.
            kept = capabilities_of(storage) & {Clears, KeepsTombstones, Purges, Scans} | {Opens}
            self.__class__ = cast("Any", type(type(self).__name__, (type(self),), {"capabilities": kept}))
        self.calls: list[str] = []
        self._storage = storage
        opens = capability(storage, Opens)
        self._opens = _NothingToOpen() if opens is None else opens
        self._faults: list[Fault] = []

    def __repr__(self) -> str:
        return f"<FailingStorage {self._storage!r}>"

    def fail(self, *calls: str, error: Exception | None = None, times: int | None = None) -> Fault:
        """Raise `error` (by default StorageUnavailable) from these calls, which do nothing."""
        return self._break(calls, times, late=False, failure=lambda: error or StorageUnavailable("failed by a test"))

    def lose_reply(self, *calls: str, error: Exception | None = None, times: int | None = None) -> Fault:
        """Carry these calls out, but raise `error` (by default StorageUnavailable) instead of returning."""
        return self._break(calls, times, late=True, failure=lambda: error or StorageUnavailable("reply lost by a test"))

    def hold(self, *calls: str, times: int | None = None) -> Fault:
        """Let these calls wait until they are released, and then carry them out."""
        return self._break(calls, times, late=False, failure=None)

    def hold_reply(self, *calls: str, times: int | None = None) -> Fault:
        """Carry these calls out, but let them return only when they are released."""
        return self._break(calls, times, late=True, failure=None)

    def restore(self) -> None:
        """Release every fault: everything works again."""
        for fault in self._faults:
            fault.release()
        self._faults.clear()

    def _break(self, calls: tuple[str, ...], times: int | None, *, late: bool, failure: Failure | None) -> Fault:
        if unknown := {*calls} - _CALLS:
            raise ConfigError(f"a storage has no call {', '.join(sorted(unknown))}; see Storage and its capabilities")
        fault = Fault(frozenset(calls) or _DOWN, times, late=late, failure=failure)
        self._faults.append(fault)
        return fault

    async def _through(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        self.calls.append(name)
        fault = next((fault for fault in self._faults if fault.takes(name)), None)
        if fault is not None and not fault.late:
            await fault.strike()
        result = await call()
        if fault is not None and fault.late:
            await fault.strike()
        return result

    async def load(self, key: str, *, renew: float | None = None) -> Stored | Moved | Unreadable | None:
        return await self._through("load", lambda: self._storage.load(key, renew=renew))

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        return await self._through("create", lambda: self._storage.create(key, data, ttl, owner=owner))

    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        return await self._through(
            "replace", lambda: self._storage.replace(key, data, ttl, version=version, owner=owner)
        )

    async def move(
        self,
        key: str,
        new_key: str,
        data: bytes,
        ttl: float,
        *,
        version: int,
        owner: str | None = None,
        tombstone: float = 0.0,
    ) -> Written:
        call = Move(key, new_key, data, ttl, version, owner, tombstone)
        return await self._through("move", lambda: cast("Awaitable[Written]", call.invoke(self._storage)))

    async def touch(self, key: str, ttl: float) -> bool:
        return await self._through("touch", lambda: self._storage.touch(key, ttl))

    async def delete(self, *keys: str) -> int:
        return await self._through("delete", lambda: self._storage.delete(*keys))

    async def owned_keys(self, owner: str) -> list[str]:
        return await self._through("owned_keys", lambda: self._storage.owned_keys(owner))

    # The calls of capabilities: if the wrapped storage lacks Clears, Purges or Scans, this class does not declare it.

    async def clear(self, prefix: str) -> int:
        return await self._through("clear", lambda: cast("Clears", self._storage).clear(prefix))

    async def scan(self, prefix: str) -> AsyncGenerator[list[str]]:
        batches = cast("Scans", self._storage).scan(prefix)

        async def following() -> list[str] | None:
            return await anext(batches, None)

        while (batch := await self._through("scan", following)) is not None:
            yield batch

    async def purge_expired(self) -> int:
        return await self._through("purge_expired", lambda: cast("Purges", self._storage).purge_expired())

    async def open(self) -> None:
        await self._through("open", self._opens.open)

    async def check(self) -> None:
        await self._through("check", self._opens.check)

    async def aclose(self) -> None:
        await self._through("aclose", self._opens.aclose)
