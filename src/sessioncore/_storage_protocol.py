"""The storage contract: what sessioncore requires of a storage.

A storage keeps opaque bytes. It does not know sessions, IDs or deadlines: keys and owners are
text that already has the store's `key_prefix`, and times to live are in seconds. Seven calls
are required (`Storage`); what else a storage can do is declared in `capabilities`.
`sessioncore.testing.STORAGE_CHECKS` tests this contract.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from inspect import signature
from typing import Final, Protocol, TypeVar, cast

from sessioncore._errors import ConfigError
from sessioncore._storage_calls import Moved, Stored, Unreadable, Written
from sessioncore._storage_capabilities import AnswersNow, BoundsCalls, KeepsTombstones, LoadsMany, Watches

__all__ = ["CALLS", "PROBE_SUFFIX", "Storage", "capabilities_of", "capability"]

C = TypeVar("C")

PROBE_SUFFIX: Final = ":sessioncore-check"
"""The end of every key and owner that `SessionStore.check` uses: such a record is no session.

It is not counted and not listed, and `clear` leaves it alone. It lives for less than a minute.
"""


class Storage(Protocol):
    """The seven calls that every storage must have.

    Every call may raise `StorageUnavailable`, with the driver's error as its cause, when the
    storage cannot be reached. The outcome of a write is then unknown, and the storage must not
    send the write again. If it can, it distinguishes two cases: `WritesRefused`, when it
    replies but takes no writes at the moment; and a `TimeoutError` as the cause, when it did not
    reply in time. A call that fails in any other way must have changed nothing. A missing
    record is not an error. Cancellation must not be caught. Every record has a `ttl`, in seconds
    and above zero.

    A version is an integer. A key never has the same version twice, not even after it was
    deleted and created again: this makes `replace` safe.

    Something that the storage did not write, or a record without a ttl, is never overwritten:
    `load`, `replace` and `move` return `Unreadable()`, `touch` returns False, and for `create`
    and the target of a `move` the key is in use. `delete` removes it, unless other programs share
    the keys: a value of theirs, such as a list in Redis, stays and is not counted.

    A class declares what else it can do in an attribute `capabilities`, a frozenset of the
    protocols in `sessioncore.storage` (`Opens`, `Clears`, `Purges`, `Scans`, `SpreadsKeys`,
    `LoadsMany`, `KeepsTombstones`, `Watches`, `AnswersNow`, `BoundsCalls`); see `capabilities_of`.
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
            KeyTaken: `new_key` is in use, and nothing was changed. Raise it for nothing else: a new key is tried.
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


CALLS: Final = frozenset(name for name in vars(Storage) if not name.startswith("_"))
_LOST_BY_OVERRIDING: Final = {AnswersNow: CALLS, BoundsCalls: CALLS, LoadsMany: {"load"}, Watches: {"load"}}
"""For each capability, the calls that it replaces, or makes a promise about."""


def capabilities_of(storage: object) -> frozenset[type]:
    """Return the capabilities that the class of `storage` declares.

    The attribute is read from the class, so a wrapper whose `__getattr__` forwards everything
    does not inherit capabilities. A subclass that overrides a call and declares nothing itself
    loses those that are used in place of its call (`AnswersNow`; for a `load` also `LoadsMany`
    and `Watches`) or promise something about it (`BoundsCalls`); and `KeepsTombstones` if its
    `move` takes no `tombstone`.

    Raises:
        ConfigError: `capabilities` is not a set of classes.
    """
    lost = frozenset[type]()
    for kind in type(storage).__mro__:
        declared: frozenset[type] | None = vars(kind).get("capabilities")
        if declared is not None:
            if not isinstance(declared, AbstractSet) or not all(isinstance(one, type) for one in declared):  # pyright: ignore[reportUnnecessaryIsInstance]  # not every storage is type-checked
                raise ConfigError(
                    f"{kind.__name__}.capabilities must be a frozenset of classes of sessioncore.storage, "
                    "such as frozenset({Clears})"
                )
            return declared - lost
        lost |= {one for one, calls in _LOST_BY_OVERRIDING.items() if not calls.isdisjoint(vars(kind))}
        if "move" in vars(kind) and not _takes_tombstone(vars(kind)["move"]):
            lost |= {KeepsTombstones}
    return frozenset()


def _takes_tombstone(move: Callable[..., object]) -> bool:
    parameters = signature(move).parameters
    return "tombstone" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def capability(storage: object, kind: Callable[..., C]) -> C | None:
    """Return `storage` as one with the capability `kind`, for type checkers; None if it does not declare that.

    The annotation is not `type[C]`, because mypy accepts no protocol there.
    """
    return cast("C", storage) if kind in capabilities_of(storage) else None
