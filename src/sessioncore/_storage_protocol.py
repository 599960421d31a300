"""The storage contract: all that sessioncore asks of a place to keep records.

A storage moves opaque bytes. It knows no session, no ID and no deadline: keys and
owners are text that already bears the store's `key_prefix`, times to live are
seconds. Seven calls are required (`Storage`); what a storage can do beyond them it
names in `capabilities`. `sessioncore.testing.STORAGE_CHECKS` is this page as running code.
"""

from typing import Final, Protocol, TypeAlias

from sessioncore._storage_calls import Call, Later, Reply, Stored, Unreadable

__all__ = [
    "AnswersNow", "BoundsCalls", "Clears", "Opens", "Purges", "Storage", "Stored", "Unreadable", "Written",
    "capabilities_of",
]  # fmt: skip


Written: TypeAlias = int | Stored | Unreadable | None
"""The result of a conditional write: the new version, what is at the key instead, or None if nothing is."""


class Storage(Protocol):
    """Where records live: the seven calls that every storage has.

    Every call may raise `StorageUnavailable` (the driver's error as its cause) when the
    storage cannot be reached; the outcome of a write is then unknown, and the write is
    never sent again blindly. A call that fails in any other way has changed nothing.
    Absence is not an error. Cancellation is never caught. A `ttl` is in seconds and above
    zero; no record is ever without one.

    A version is an integer that a key never has twice, not even after the key was
    deleted and created again: that is what makes `replace` safe.

    Something that the storage did not write, or a record that lost its end, is never
    overwritten: `load`, `replace` and `move` answer `Unreadable()`, `touch` answers False,
    and to `create` and as the target of a `move` the key is taken. `delete` removes it.

    A class may name what it can do beyond this page in an attribute `capabilities`, a
    frozenset of the protocols below (`Opens`, `Clears`, `Purges`, `AnswersNow`,
    `BoundsCalls`); see `capabilities_of`.
    """

    async def load(self, key: str, *, renew: float | None = None) -> Stored | Unreadable | None:
        """Return the live record at `key`, or None.

        With `renew`, set its ttl to that many seconds in the same trip, without
        rewriting data or version; the ttl returned is the one after it.
        """
        ...

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        """Store a new record and return its version, or None if the key is taken."""
        ...

    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        """Write if the record still has `version`: compare and set, in one atomic step.

        Returns the new version; or the current record if another caller wrote
        meanwhile (nothing is changed); or None if there is no record any more
        (nothing is created). `owner=None` means: no owner from now on.
        """
        ...

    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Written:
        """Do what `replace` does, and give the record a new key in the same atomic step.

        Afterwards the old key is gone, or nothing has changed.

        Raises:
            KeyTaken: `new_key` is taken; nothing is changed. Any other error means that the move failed.
        """
        ...

    async def touch(self, key: str, ttl: float) -> bool:
        """Set the ttl of a live record; False if there is none. Never revives."""
        ...

    async def delete(self, *keys: str) -> int:
        """End these records, their owner entries with them; return how many were live."""
        ...

    async def owned_keys(self, owner: str) -> list[str]:
        """Return the keys of live records whose last create, replace or move named `owner`."""
        ...


# -- what a storage may offer beyond the seven calls


class Opens(Protocol):
    """A storage that has something to open, such as connections or tables, and to close."""

    async def open(self) -> None:
        """Get ready: connect, create tables. Called again, it has no effect."""
        ...

    async def check(self) -> None:
        """Return if the storage answers.

        Raises:
            StorageUnavailable: it does not.
        """
        ...

    async def aclose(self) -> None:
        """Release what `open` took. Called again, it has no effect."""
        ...


class Clears(Protocol):
    """A storage that can find the records of a prefix."""

    async def clear(self, prefix: str) -> int:
        """End every record whose key begins with `prefix`, and nothing else; return how many."""
        ...


class Purges(Protocol):
    """A storage in which expired records take room until they are removed."""

    async def purge_expired(self) -> int:
        """Remove what has expired and still takes room, in bounded batches; return how many."""
        ...


class AnswersNow(Protocol):
    """A storage that can answer a call without waiting, always or now and then.

    The store asks it before each call. A call that was answered is done; one that is
    answered with LATER is made in the usual way.
    """

    def answer_now(self, call: Call) -> Reply | Later:
        """Return what the call would return, or LATER if that takes waiting and nothing was done.

        Raises:
            StorageError: as the call would.
        """
        ...


class BoundsCalls(Protocol):
    """A storage that ends its calls in time by itself.

    A store sets a timer for each call to its storage. One that can do so for less, such
    as by one timer for all calls on a connection, has this capability. It speaks for
    `load`, `create`, `replace` and `move`.
    """

    def bound_calls(self, seconds: float) -> bool:
        """From now on let each call end within `seconds`, with StorageUnavailable if there is no answer.

        Called by every store that is built on this storage; the smallest number holds for
        all. False: it cannot promise that, and nothing has changed.
        """
        ...


_CALLS: Final = frozenset(name for name in vars(Storage) if not name.startswith("_"))
_ABOUT_CALLS: Final = frozenset({AnswersNow, BoundsCalls})


def capabilities_of(storage: object) -> frozenset[type]:
    """Return what the class of `storage` declares in `capabilities`.

    The class is asked, so a wrapper that passes attributes on does not seem to have what
    it does not keep. A subclass that overrides a call but declares nothing itself keeps
    only those capabilities that promise nothing about the calls.
    """
    overridden = False
    for kind in type(storage).__mro__:
        declared: frozenset[type] | None = vars(kind).get("capabilities")
        if declared is not None:
            return declared - _ABOUT_CALLS if overridden else declared
        overridden = overridden or not _CALLS.isdisjoint(vars(kind))
    return frozenset()
