"""What a storage can do beyond the seven calls of `Storage`, each a protocol of its own.

A storage declares those that it has in its class attribute `capabilities`; see `capabilities_of`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, Protocol

from sessioncore._storage_calls import Call, Later, Moved, Reply, Stored, Unreadable, Written

__all__ = [
    "SCANNED_AT_ONCE", "AnswersNow", "BoundsCalls", "Clears", "KeepsTombstones", "LoadsMany", "Opens", "Purges",
    "Scans", "SpreadsKeys", "Watches",
]  # fmt: skip

SCANNED_AT_ONCE: Final = 500
"""The most keys that `Scans.scan` yields in one batch."""


class Opens(Protocol):
    """A storage that must be opened and closed, because it uses something outside this process: a server, a file.

    That may be set up wrong, so `SessionStore.start` and `check` test storages with this capability: they make
    the seven calls with a record of their own. A store may also be used without a start, as in tests, so a call
    that finds the storage not yet opened opens it.
    """

    async def open(self) -> None:
        """Connect, and create tables. A second call has no effect.

        Raises:
            WritesRefused: the storage is read-only or full at the moment; a later call tries again.
            StorageUnavailable: it cannot be reached.
            StorageError: it is set up wrong; the text says what to do.
        """
        ...

    async def check(self) -> None:
        """Check what the seven calls do not show: whether each server replies, and settings that weaken a promise.

        Raises:
            StorageUnavailable: a server does not reply.
            StorageError: the storage is set up wrong; the text says what to do.
        """
        ...

    async def aclose(self) -> None:
        """Close what `open` has opened. A second call has no effect; `open` may follow."""
        ...


class Clears(Protocol):
    """A storage that can find all records whose keys have a prefix."""

    async def clear(self, prefix: str) -> int:
        """Delete every record whose key begins with `prefix`, and nothing else; return how many were live.

        Records whose keys end with `PROBE_SUFFIX` stay.
        """
        ...


class Scans(Protocol):
    """A storage that can list the records of a prefix, however many there are."""

    def scan(self, prefix: str) -> AsyncIterator[list[str]]:
        """Yield the keys of live records that begin with `prefix`, at most 500 at a time.

        A record that is there all the time, under one key, is listed once; twice only if the
        server rearranges its table meanwhile, as Redis may. One that is created, moved or ended
        meanwhile may be listed or not. Keys that were listed may be deleted between two batches.
        Tombstones, and keys that end with `PROBE_SUFFIX`, are not listed. A batch may be empty.
        """
        ...


class Purges(Protocol):
    """A storage in which expired records use space until they are removed."""

    async def purge_expired(self) -> int:
        """Remove expired records and tombstones, in bounded batches, and nothing else; return how many records."""
        ...


class SpreadsKeys(Protocol):
    """A storage that may spread its keys over several servers, as a cluster does.

    `SessionStore.check` then proves the seven calls on each server, and its errors name the server.
    """

    async def names_on_servers(self, new_name: Callable[[], str]) -> Mapping[str, tuple[str, str, str]]:
        """Return for each server, by its name, two keys and an owner whose data is on that server.

        They are three different results of `new_name()`. A server to which none of the results belongs
        may be missing; if there is only one server, its name may be empty.
        """
        ...


class LoadsMany(Protocol):
    """A storage that can load many records in one round trip; for owners with many sessions.

    Without this capability, a store makes up to 64 calls of `load` at the same time. If the storage has a
    cache, records that must be up to date are loaded by this call, too.
    """

    async def load_many(self, keys: Sequence[str]) -> list[Stored | Moved | Unreadable | None]:
        """Return for each key, in this order, what `load` would return without a cache."""
        ...


class KeepsTombstones(Protocol):
    """A storage that remembers for a while where a record has moved.

    With `tombstone`, `move` leaves a tombstone under the old key in the same atomic step. It has
    the new key and no data. Until it expires,

    - `load`, `replace` and `move` of the old key return `Moved(new_key)`, and `touch` returns
      False; none of them changes anything, and `load(renew=)` renews nothing,
    - `create` and a `move` to the old key find it in use,
    - `delete` of the old key deletes the record under its new key, even after several moves, and
      removes the tombstones on the way. After a `delete` of any of its keys has returned, the
      record is nowhere, even if a `move` ran at the same time,
    - it is not counted as a record: not by `delete`, `clear` and `purge_expired`, which remove
      it, not in the index of owners, and not for a limit on the number of records. If room must
      be made, tombstones go first.

    A record that expires or is deleted under its new key leaves the tombstone as it is.
    """

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
        """Do what `Storage.move` does, and leave a tombstone under the old key for that many seconds.

        Raises:
            KeyTaken: `new_key` is in use, and nothing was changed.
        """
        ...


class Watches(Protocol):
    """A storage that reports when a record was changed or ended, by any process; others are polled."""

    @property
    def notices_within(self) -> float | None:
        """How often `confirm` must be called to notice changes, in seconds; None: they are reported without it."""
        ...

    async def watch(
        self, keys: Sequence[str], changed: Callable[[str], object]
    ) -> list[Stored | Moved | Unreadable | None]:
        """Return for each key what `load` would return, not from a cache, and watch it from then on.

        When a key is written, moved or deleted, call `changed(key)` once, and stop watching the key;
        also call it if changes may have been missed, as after a lost connection. Renewals and the
        end of a ttl need not be reported. `changed` does not raise.
        """
        ...

    def unwatch(self, key: str, changed: Callable[[str], object]) -> None:
        """Do not call `changed` for this key any more."""
        ...

    async def confirm(self) -> None:
        """Return when every change that was complete before this call has been reported.

        Raises:
            StorageUnavailable: that is not known.
        """
        ...


class AnswersNow(Protocol):
    """A storage that can make calls without waiting, always or sometimes.

    The store offers it each call. If it returns a reply, the call is done; if it returns LATER,
    the store awaits the call in the usual way. A storage that cannot do so as it is configured
    may have None in the place of the method.
    """

    def answer_now(self, call: Call) -> Reply | Later:
        """Make the call and return its reply; or do nothing and return LATER, if the call must be awaited.

        Raises:
            StorageError: as the call itself.
        """
        ...


class BoundsCalls(Protocol):
    """A storage that enforces the timeout of its calls itself.

    Without this capability, a store sets a timer for each call. It is for storages that can do
    so more cheaply, for example with one timer for all calls on a connection. It applies to
    `load`, `create`, `replace` and `move`.
    """

    def bound_calls(self, seconds: float) -> bool:
        """From now on, raise StorageUnavailable from a call that has no reply within `seconds`.

        Every store that uses this storage calls this; the smallest number applies to all. Return
        False, and change nothing, if the storage cannot guarantee it.
        """
        ...
