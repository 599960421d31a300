"""Records in this process: for tests, for development, and for a service of one process.

A call costs the same with ten records and with ten million. Expired records are removed
a few at a time as new ones are written, never by iterating over all records.
"""

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, ClassVar

from anyio.lowlevel import checkpoint

from sessioncore._errors import ConfigError
from sessioncore._storage_calls import (
    Call,
    Create,
    Delete,
    Load,
    Move,
    Moved,
    Replace,
    Reply,
    Stored,
    Touch,
    Unreadable,
)
from sessioncore._storage_capabilities import (
    SCANNED_AT_ONCE,
    AnswersNow,
    BoundsCalls,
    Clears,
    KeepsTombstones,
    LoadsMany,
    Purges,
    Scans,
    Watches,
)
from sessioncore._storage_protocol import PROBE_SUFFIX
from sessioncore._watchers import Changed
from sessioncore.storage.memory._table import Table

__all__ = ["MemoryStorage"]

_BATCH = 1000  # keys that `purge_expired` looks at before other tasks get their turn


class MemoryStorage:
    """Keep records in a dict, until the process ends; on asyncio and on trio.

    With `max_sessions`, a new record beyond that number evicts the one that would expire
    first (to within a sixteenth of its ttl); a create is never refused. `clock` returns
    seconds.

    Raises:
        ConfigError: `max_sessions` is not a whole number of at least 1.
    """

    capabilities: ClassVar[frozenset[type]] = frozenset(
        {AnswersNow, BoundsCalls, Clears, KeepsTombstones, LoadsMany, Purges, Scans, Watches}
    )

    def __init__(self, max_sessions: int | None = None, *, clock: Callable[[], float] = time.time) -> None:
        if max_sessions is not None and (type(max_sessions) is not int or max_sessions < 1):
            raise ConfigError(
                f"max_sessions must be a whole number above zero, or None for no limit, not {max_sessions!r}"
            )
        self._limit = max_sessions
        self._table = table = Table(max_sessions, clock)
        self._answers: dict[type, Callable[[Any], Reply]] = {
            Load: table.load,
            Create: table.create,
            Replace: table.replace,
            Move: table.move,
            Touch: table.touch,
            Delete: table.delete,
        }

    def __len__(self) -> int:
        """Return the number of records in memory, including expired ones that are not removed yet."""
        return len(self._table)

    def __bool__(self) -> bool:
        """Return True, also without records: `storage or another` must not choose the other."""
        return True

    def __repr__(self) -> str:
        return f"<MemoryStorage records={len(self._table)} max_sessions={self._limit}>"

    def bound_calls(self, seconds: float) -> bool:
        """Return True: no call ever waits, so every call is in time."""
        return True

    def answer_now(self, call: Call) -> Reply:
        """Make any call at once and return its reply.

        Raises:
            KeyTaken: of a move, as `move` does.
        """
        return self._answers[type(call)](call)

    async def load(self, key: str, *, renew: float | None = None) -> Stored | Moved | None:
        """Return the live record at `key`, or None; with `renew`, set its ttl first."""
        return self._table.load(Load(key, renew))

    async def load_many(self, keys: Sequence[str]) -> list[Stored | Moved | Unreadable | None]:
        """Return for each key what `load` would return."""
        return [self._table.load(Load(key)) for key in keys]

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        """Store a new record and return its version, or None if the key is taken."""
        return self._table.create(Create(key, data, ttl, owner))

    async def replace(
        self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> int | Stored | Moved | None:
        """Write if the record still has `version`; otherwise return the current record, or None."""
        return self._table.replace(Replace(key, data, ttl, version, owner))

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
    ) -> int | Stored | Moved | None:
        """Do what `replace` does, and give the record a new key in the same step.

        Raises:
            KeyTaken: `new_key` is taken; nothing is changed.
        """
        return self._table.move(Move(key, new_key, data, ttl, version, owner, tombstone))

    async def touch(self, key: str, ttl: float) -> bool:
        """Set the ttl of a live record; False if there is none."""
        return self._table.touch(Touch(key, ttl))

    async def delete(self, *keys: str) -> int:
        """Delete these records, following tombstones; return how many were live."""
        return self._table.delete(Delete(keys))

    async def clear(self, prefix: str) -> int:
        """Delete every record whose key begins with `prefix`; return how many. It iterates over all keys."""
        return await self.delete(*[key for key in self._table.keys(prefix) if not key.endswith(PROBE_SUFFIX)])

    async def scan(self, prefix: str) -> AsyncGenerator[list[str]]:
        """Yield the keys of live records that begin with `prefix`; other tasks run between batches."""
        for batch in self._table.scan(prefix, SCANNED_AT_ONCE):
            await checkpoint()
            yield batch

    async def owned_keys(self, owner: str) -> list[str]:
        """Return the keys of the owner's live records."""
        return self._table.owned_keys(owner)

    notices_within: float | None = None

    async def watch(self, keys: Sequence[str], changed: Changed) -> list[Stored | Moved | Unreadable | None]:
        """Return what the keys hold, and watch them; see `Watches`."""
        with self._table.lock:  # otherwise a thread could change what was read before it is watched
            self._table.watchers.add(keys, changed)
            return [self._table.load(Load(key)) for key in keys]

    def unwatch(self, key: str, changed: Changed) -> None:
        """Do not call `changed` for this key any more."""
        self._table.watchers.remove(key, changed)

    async def confirm(self) -> None:
        """Do nothing: each change is reported before the call that makes it returns."""

    async def purge_expired(self) -> int:
        """Remove expired records, and return how many; other tasks run between batches."""
        removed = 0
        for count in self._table.purge(_BATCH):
            removed += count
            await checkpoint()
        return removed

    # `Opens` is not declared, because there is nothing to open or to check. The methods are there for code that opens
    # whatever storage it is given.

    async def open(self) -> None:
        """Do nothing: there is nothing to open."""

    async def check(self) -> None:
        """Do nothing: memory is always available."""

    async def aclose(self) -> None:
        """Do nothing: the records live as long as this object."""
