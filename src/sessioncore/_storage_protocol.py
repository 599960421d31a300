"""The storage contract: what sessioncore requires of a storage.

A storage keeps opaque bytes. It does not know sessions, IDs or deadlines: keys and owners are
text that already has the store's `key_prefix`, and times to live are in seconds. Seven calls
are required (`Storage`); what else a storage can do is declared in `capabilities`.
`sessioncore.testing.STORAGE_CHECKS` tests this contract.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias

from sessioncore._storage_calls import Call, Later, Moved, Reply, Stored, Unreadable

__all__ = [
    "PROBE_SUFFIX", "AnswersNow", "BoundsCalls", "Clears", "KeepsTombstones", "LoadsMany", "Moved", "Opens", "Purges",
    "SpreadsKeys", "Storage", "Stored", "Unreadable", "Watches", "Written", "capabilities_of",
]  # fmt: skip


PROBE_SUFFIX: Final = ":sessioncore-check"
"""The end of every key and owner that `SessionStore.check` uses: such a record is no session.

It is not counted and not listed, and `clear` leaves it alone. It lives for less than a minute.
"""

Written: TypeAlias = int | Stored | Moved | Unreadable | None
"""The result of a conditional write: the new version, or what the key holds instead; None if it holds nothing."""


class Storage(Protocol):
    """The seven calls that every storage must have.

    Every call may raise `StorageUnavailable`, with the driver's error as its cause, when the
    storage cannot be reached. The outcome of a write is then unknown, and the storage must not
    send the write again. Two cases are told apart from that, if the storage can: `WritesRefused`,
    when it replies but takes no writes at the moment; and a `TimeoutError` as the cause, when it
    did not reply in time. A call that fails in any other way must have changed nothing. A missing
    record is not an error. Cancellation must not be caught. Every record has a `ttl`, in seconds
    and above zero.

    A version is an integer. A key never has the same version twice, not even after it was
    deleted and created again: this makes `replace` safe.

    Something that the storage did not write, or a record without a ttl, is never overwritten:
    `load`, `replace` and `move` return `Unreadable()`, `touch` returns False, and for `create`
    and the target of a `move` the key is in use. `delete` removes it.

    A class declares what else it can do in an attribute `capabilities`, a frozenset of the
    protocols below (`Opens`, `Clears`, `Purges`, `SpreadsKeys`, `LoadsMany`, `KeepsTombstones`,
    `Watches`, `AnswersNow`, `BoundsCalls`); see `capabilities_of`.
    """

    async def load(self, key: str, *, renew: float | None = None) -> Stored | Moved | Unreadable | None:
        """Return the live record at `key`, or None.

        With `renew`, set its ttl to that many seconds in the same round trip, without
        changing data or version; the returned ttl is the new one.
        """
        ...

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        """Store a new record and return its version, or None if the key is in use."""
        ...

    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        """Write if the record still has `version`: an atomic compare-and-set.

        Return the new version. If another caller wrote meanwhile, change nothing and return the
        current record. If there is no record any more, create nothing and return None.
        `owner=None` removes the owner.
        """
        ...

    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Written:
        """Do what `replace` does, and give the record a new key in the same atomic step.

        Afterwards the old key does not exist any more, or nothing has changed.

        Raises:
            KeyTaken: `new_key` is in use, and nothing was changed. For this reason only: another error fails the move.
        """
        ...

    async def touch(self, key: str, ttl: float) -> bool:
        """Set the ttl of a live record; return False if there is none. An expired record stays expired."""
        ...

    async def delete(self, *keys: str) -> int:
        """Delete these records and their entries in the index of owners; return how many were live."""
        ...

    async def owned_keys(self, owner: str) -> list[str]:
        """Return the keys of live records whose last create, replace or move named `owner`."""
        ...


# -- optional capabilities


class Opens(Protocol):
    """A storage that must be opened and closed, because what it needs is outside this process: a server, a file.

    What is outside may be set up wrong. So `SessionStore.start` and `check` prove that the seven
    calls work, on a record of their own, for storages with this capability only.
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
        """Check what the seven calls do not show: that each server replies, settings that weaken a promise.

        Raises:
            StorageUnavailable: a server does not reply.
            StorageError: the storage is set up wrong; the text says what to do.
        """
        ...

    async def aclose(self) -> None:
        """Close what `open` has opened. A second call has no effect."""
        ...


class Clears(Protocol):
    """A storage that can find all records whose keys have a prefix."""

    async def clear(self, prefix: str) -> int:
        """Delete every record whose key begins with `prefix`, and nothing else; return how many.

        Records whose keys end with `PROBE_SUFFIX` stay.
        """
        ...


class Purges(Protocol):
    """A storage in which expired records use space until they are removed."""

    async def purge_expired(self) -> int:
        """Remove expired records, in bounded batches; return how many."""
        ...


class SpreadsKeys(Protocol):
    """A storage that may spread its keys over several servers, as a cluster does.

    `SessionStore.check` then proves the seven calls on each server, and its errors name the server.
    """

    async def names_on_servers(self, new_name: Callable[[], str]) -> Mapping[str, tuple[str, str, str]]:
        """Return for each server, by its name, two keys and an owner whose data is on that server.

        They are three different results of `new_name()`. A server on which none of its results
        is may be missing; if there is one server only, its name may be empty.
        """
        ...


class LoadsMany(Protocol):
    """A storage that can load many records in one round trip; for owners with many sessions.

    Without this capability, a store makes up to 64 calls of `load` at the same time.
    """

    async def load_many(self, keys: Sequence[str]) -> list[Stored | Moved | Unreadable | None]:
        """Return for each key, in this order, what `load` would return."""
        ...


class KeepsTombstones(Protocol):
    """A storage that remembers for a while where a record has moved.

    With `tombstone`, `move` leaves a tombstone under the old key in the same atomic step. It has
    the new key and no data. Until it expires,

    - `load`, `replace` and `move` of the old key return `Moved(new_key)`, and `touch` returns
      False; none of them changes anything, and `load(renew=)` renews nothing,
    - `create` and a `move` to the old key find it in use,
    - `delete` of the old key ends the record where it is now, over several moves if need be, and
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
    """A storage that tells when a record was changed or ended, by any process; others are polled."""

    @property
    def notices_within(self) -> float | None:
        """How often `confirm` must be called to notice changes, in seconds; None: they are told without it."""
        ...

    async def watch(
        self, keys: Sequence[str], changed: Callable[[str], object]
    ) -> list[Stored | Moved | Unreadable | None]:
        """Return for each key what `load` would return, not from a cache, and watch it from then on.

        When a key is written, moved or deleted, call `changed(key)`, once, and watch the key no longer;
        call it also when changes may have been missed, as after a lost connection. Renewals, and the
        end of a ttl, need not be told. `changed` does not raise.
        """
        ...

    def unwatch(self, key: str, changed: Callable[[str], object]) -> None:
        """Do not call `changed` for this key any more."""
        ...

    async def confirm(self) -> None:
        """Return when every change that was complete before this call has been told.

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


_CALLS: Final = frozenset(name for name in vars(Storage) if not name.startswith("_"))
_ABOUT_CALLS: Final = frozenset({AnswersNow, BoundsCalls, KeepsTombstones, LoadsMany, Watches})


def capabilities_of(storage: object) -> frozenset[type]:
    """Return the capabilities that the class of `storage` declares.

    The attribute is read from the class, so a wrapper whose `__getattr__` forwards everything
    does not inherit capabilities. A subclass that overrides a call and declares nothing itself
    loses the capabilities that concern calls.
    """
    overridden = False
    for kind in type(storage).__mro__:
        declared: frozenset[type] | None = vars(kind).get("capabilities")
        if declared is not None:
            return declared - _ABOUT_CALLS if overridden else declared
        overridden = overridden or not _CALLS.isdisjoint(vars(kind))
    return frozenset()
