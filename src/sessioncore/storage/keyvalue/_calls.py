"""The calls to a key-value store, with its errors turned into those of the storage contract."""

import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from sessioncore._errors import StorageError, StorageUnavailable
from sessioncore.storage.keyvalue._protocol import NOT_OURS, REFUSALS, KeyValueStore, SupportsCull, SupportsKeys

__all__ = ["LISTING", "StoreCalls"]

LISTING = 10_000  # keys: no store of py-key-value lists more, and it does not say if there are more
_LONGEST_CHECK = 10.0  # seconds: nothing else limits the time of a start
_T = TypeVar("_T")


class StoreCalls:
    """The calls to one store.

    Each raises StorageUnavailable if the store does not answer, and StorageError if it refuses.
    """

    def __init__(self, store: KeyValueStore, clock: Callable[[], float]) -> None:
        self.store = store
        self._clock = clock

    def replace_store(self, store: KeyValueStore) -> KeyValueStore:
        """Make calls to another store from now on; return the former one."""
        former, self.store = self.store, store
        return former

    async def get(self, name: str, collection: str) -> dict[str, Any] | None:
        """Return a value; None: there is none; an empty one: it cannot be read, so it is not ours."""
        return await self._call(self._get(name, collection))

    async def _get(self, name: str, collection: str) -> dict[str, Any] | None:
        try:
            return await self.store.get(name, collection=collection)
        except Exception as exc:
            if type(exc).__name__ not in NOT_OURS:
                raise
            return {}

    async def put(self, name: str, value: dict[str, Any], collection: str, expires_at: float) -> None:
        """Set a value, which the store may remove after `expires_at`."""
        # Some stores round down to whole seconds. The value holds its exact end; the store's ttl only frees room.
        ttl = math.ceil(max(expires_at - self._clock(), 0.0)) + 1
        await self._call(self.store.put(name, value, collection=collection, ttl=ttl))

    async def delete(self, name: str, collection: str) -> bool:
        """Remove a value; return whether there was one."""
        return await self._call(self.store.delete(name, collection=collection))

    @property
    def lists_names(self) -> bool:
        """Whether the store can list its keys."""
        return isinstance(self.store, SupportsKeys)

    async def names(self, collection: str) -> list[str]:
        """Return the names of the keys, up to `LISTING`."""
        if not isinstance(self.store, SupportsKeys):
            raise StorageError("this key-value store cannot list its keys; use a separate collection, and delete it")
        return await self._call(self.store.keys(collection, limit=LISTING))

    async def cull(self) -> None:
        """Let the store remove what has expired, if it does so on request."""
        if isinstance(self.store, SupportsCull):
            await self._call(self.store.cull())

    async def check(self, collection: str) -> None:
        """Check that the store replies within ten seconds."""

        async def read() -> None:
            with anyio.fail_after(_LONGEST_CHECK):
                await self._get("-", collection)

        await self._call(read())

    async def _call(self, call: Awaitable[_T]) -> _T:
        try:
            return await call
        except Exception as exc:  # each driver that py-key-value uses has its own errors
            kind = type(exc).__name__
            if kind in REFUSALS:
                raise StorageError(f"the key-value store refused ({kind}); see its limits and its wrappers") from exc
            raise StorageUnavailable(
                f"the key-value store does not answer ({kind}); look at its server, and at the cause"
            ) from exc
