"""Watching for storages that cannot watch: each watched key counts as changed whenever `confirm` is called."""

from collections.abc import Sequence
from functools import partial
from math import inf

from sessioncore._storage_calls import Moved, Stored, Unreadable
from sessioncore._storage_capabilities import LoadsMany
from sessioncore._storage_protocol import Storage, capability
from sessioncore._watchers import Changed, Watchers
from sessioncore.concurrency._gather import gather

__all__ = ["Polling"]


class Polling:
    """The capability `Watches` for a storage that lacks it."""

    notices_within: float | None = inf  # as often as `watch_interval` says

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._loads_many = capability(storage, LoadsMany)
        self._watchers = Watchers()

    async def watch(self, keys: Sequence[str], changed: Changed) -> list[Stored | Moved | Unreadable | None]:
        """Load the keys, and remember them."""
        self._watchers.add(keys, changed)
        if self._loads_many is not None:
            return await self._loads_many.load_many(keys)
        return await gather([partial(self._storage.load, key) for key in keys])

    def unwatch(self, key: str, changed: Changed) -> None:
        """Forget a key."""
        self._watchers.remove(key, changed)

    async def confirm(self) -> None:
        """Report for each key that it may have changed."""
        self._watchers.notify_all()
