"""The storage contract: all that sessioncore asks of a place to keep records.

A storage moves opaque bytes. It knows no session, no ID and no deadline: keys
and owners are text that already bears the store's `key_prefix`, times to live
are seconds. `sessioncore.testing.STORAGE_CHECKS` is this page as running code.
"""

from typing import Protocol

from msgspec import Struct

__all__ = ["BoundsCalls", "Storage", "Stored"]


class Stored(Struct, frozen=True, gc=False):
    """A record as the storage holds it: its bytes, its version and its seconds left."""

    data: bytes
    version: int
    ttl: float

    def __repr__(self) -> str:
        return f"<Stored bytes={len(self.data)} version={self.version} ttl={self.ttl:.1f}>"  # the data are the values


class Storage(Protocol):
    """Where records live.

    Every method may raise `StorageUnavailable` (the driver's error as its cause)
    when the storage cannot be reached; the outcome of a write is then unknown and
    the write is never sent again blindly. Absence is not an error. Cancellation is
    never caught. A `ttl` is in seconds and above zero; no record is ever without one.

    A version is an integer that a key never bears twice, also not after the key
    was deleted and created anew: that is what makes `replace` safe.
    """

    async def load(self, key: str, *, renew: float | None = None) -> Stored | None:
        """Return the live record at `key`, or None.

        With `renew`, set its ttl to that many seconds in the same trip, without
        rewriting data or version; the ttl returned is the one after it.
        """
        ...

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        """Store a new record and return its version, or None if the key is taken."""
        ...

    async def replace(
        self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> int | Stored | None:
        """Write if the record still has `version`: compare and set, in one atomic step.

        Returns the new version; or the current record if somebody else wrote
        meanwhile (nothing is changed); or None if there is no record any more
        (nothing is created). `owner=None` means: no owner from now on.
        """
        ...

    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> int | Stored | None:
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

    async def clear(self, prefix: str) -> int:
        """End every record whose key begins with `prefix`, and nothing else; return how many."""
        ...

    async def owned_keys(self, owner: str) -> list[str]:
        """Return the keys of live records whose last create, replace or move named `owner`."""
        ...

    async def purge_expired(self) -> int:
        """Remove what has expired and still takes room, in bounded batches; return how many."""
        ...

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


class BoundsCalls(Protocol):
    """What a storage may offer beyond `Storage`: to see to the time limit of its calls itself.

    A store sets a timer for each call to its storage. One that can do so for less, such
    as by one timer for all calls on a connection, has this method. It speaks for `load`,
    `create`, `replace` and `move` of the same class; a subclass with another one of these
    has the store's timer for it.
    """

    def bound_calls(self, seconds: float) -> bool:
        """From now on let each call end within `seconds`, with StorageUnavailable if there is no answer.

        Called by every store that is built on this storage; the smallest number holds for
        all. False: it cannot promise that, and nothing has changed.
        """
        ...
