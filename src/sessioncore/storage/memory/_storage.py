"""Records in this process: for tests, for development, and for a service of one process.

Every call costs the same at ten records and at ten million. What ends is removed
little by little as new records come in, never by a walk over all of them.
"""

import time
from collections.abc import Callable

from anyio.lowlevel import checkpoint

from sessioncore._errors import ConfigError
from sessioncore._storage_calls import Call, Reply, Stored
from sessioncore._storage_protocol import AnswersNow, BoundsCalls, Clears, Opens, Purges
from sessioncore.storage.memory._table import Table

__all__ = ["MemoryStorage"]

_BATCH = 1000  # keys looked at by `purge_expired` before others get their turn


class MemoryStorage:
    """Records in a dict, lost when the process ends; on asyncio and on trio.

    With `max_sessions`, a new record beyond that number pushes out the one nearest its
    end (to a sixteenth of its time to live); a create is never refused. `clock` returns
    seconds. One storage belongs to one event loop: share nothing between threads.

    Raises:
        ConfigError: `max_sessions` is no whole number, or below 1.
    """

    capabilities = frozenset({AnswersNow, BoundsCalls, Clears, Opens, Purges})

    def __init__(self, max_sessions: int | None = None, *, clock: Callable[[], float] = time.time) -> None:
        if max_sessions is not None and (type(max_sessions) is not int or max_sessions < 1):
            raise ConfigError(
                f"max_sessions must be a whole number above zero, or None for no limit, not {max_sessions!r}"
            )
        self._limit = max_sessions
        self._table = Table(max_sessions, clock)

    def __len__(self) -> int:
        """How many records take room, those that have ended but are not removed yet included."""
        return len(self._table)

    def __bool__(self) -> bool:
        """An empty storage is a storage, too: `storage or another` must not take the other."""
        return True

    def __repr__(self) -> str:
        return f"<MemoryStorage records={len(self._table)} max_sessions={self._limit}>"

    def bound_calls(self, seconds: float) -> bool:
        """Return True: no call ever waits, so none can be late."""
        return True

    def answer_now(self, call: Call) -> Reply:
        """Answer any call at once.

        Raises:
            KeyTaken: of a move, as `move` does.
        """
        reply: Reply = call.on(self._table)
        return reply

    async def load(self, key: str, *, renew: float | None = None) -> Stored | None:
        """Return the live record at `key`, or None; with `renew`, set its ttl first."""
        return self._table.load(key, renew=renew)

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        """Store a new record and return its version, or None if the key is taken."""
        return self._table.create(key, data, ttl, owner=owner)

    async def replace(
        self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> int | Stored | None:
        """Write if the record still has `version`; else return it as it is, or None if it is gone."""
        return self._table.replace(key, data, ttl, version=version, owner=owner)

    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> int | Stored | None:
        """Do what `replace` does, and give the record a new key in the same step.

        Raises:
            KeyTaken: `new_key` is taken; nothing is changed.
        """
        return self._table.move(key, new_key, data, ttl, version=version, owner=owner)

    async def touch(self, key: str, ttl: float) -> bool:
        """Set the ttl of a live record; False if there is none."""
        return self._table.touch(key, ttl)

    async def delete(self, *keys: str) -> int:
        """End these records; return how many were live."""
        return self._table.delete(*keys)

    async def clear(self, prefix: str) -> int:
        """End every record whose key begins with `prefix`; return how many. Looks at every key."""
        return await self.delete(*self._table.keys(prefix))

    async def owned_keys(self, owner: str) -> list[str]:
        """Return the keys of the owner's live records."""
        return self._table.owned_keys(owner)

    async def purge_expired(self) -> int:
        """Remove what has expired; other tasks run between batches. Returns how many were removed.

        A record is certain to be found when a sixteenth of its ttl (one second at least)
        has passed since its end.
        """
        before = len(self._table)
        removed = 0
        while self._table.sweep(_BATCH):
            removed += before - len(self._table)
            await checkpoint()
            before = len(self._table)
        return removed + before - len(self._table)

    async def open(self) -> None:
        """Do nothing: there is nothing to get ready."""

    async def check(self) -> None:
        """Do nothing: memory always answers."""

    async def aclose(self) -> None:
        """Do nothing: the records stay as long as this object."""
