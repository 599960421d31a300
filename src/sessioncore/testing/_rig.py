"""What a storage check works on, and the helpers that the checks share.

A rig hides the clock: one storage takes a clock that is moved by hand, another one
talks to a server, on whose clock a check can only wait.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, cast
from unittest import SkipTest

from anyio import sleep
from msgspec import Struct

from sessioncore._errors import StorageError, StorageUnavailable
from sessioncore.storage import AnswersNow, Move, Purges, Storage, Stored, Written, capabilities_of

C = TypeVar("C")

LONG = 1000.0  # seconds; far beyond the life of any check


class Rig(Struct, frozen=True):
    """One empty, opened storage, with a function that lets time pass for it.

    `tick` is the smallest ttl in seconds that the checks may use: 0.05 suits a real
    clock. `advance` lets that many seconds pass; left out, it waits. `remaining` returns
    the seconds that a key has left, or None if there is no such record; if possible, it
    does not use `load`, as it does when left out.

    Two more are for storages to which other programs can write, or which talk to a server:
    `make_unreadable` writes something to a key that the storage would not write, and within
    the async context manager `silence()` the server does not reply.
    """

    storage: Storage
    tick: float = 0.05
    advance: Callable[[float], Awaitable[None]] = sleep
    remaining: Callable[[str], Awaitable[float | None]] | None = None
    make_unreadable: Callable[[str], Awaitable[None]] | None = None
    silence: Callable[[], AbstractAsyncContextManager[None]] | None = None

    async def seconds_left(self, key: str) -> float | None:
        """Return what `remaining` returns, if there is one."""
        if self.remaining is not None:
            return await self.remaining(key)
        found = await self.storage.load(key)
        return found.ttl if isinstance(found, Stored) else None


class NotApplicable(SkipTest):
    """A check was run on a storage without the capability, or on a rig without the means, that it needs.

    It is neither passed nor failed; pytest and unittest report it as skipped.
    """


class Check:
    """A check of one promise of the contract: `await check(rig)` raises if the storage breaks it.

    `needs` names the capabilities that the promise is about; for a storage that does not
    declare them, the check raises `NotApplicable`. `race`: it is about parallel or cancelled callers.
    """

    def __init__(
        self, function: Callable[[Rig], Awaitable[None]], needs: frozenset[type] = frozenset(), *, race: bool = False
    ) -> None:
        self.__name__: str = function.__name__  # the promise in words: test runners report the check under this name
        self.needs = needs
        self.race = race
        self._function = function

    def __repr__(self) -> str:
        return f"<Check {self.__name__}>"

    async def __call__(self, rig: Rig) -> None:
        """Run the check on a rig of its own.

        Raises:
            AssertionError: the storage breaks the promise.
            NotApplicable: the storage does not make it.
            RuntimeError: Python runs without assertions, so nothing would be checked.
        """
        if not __debug__:
            raise RuntimeError("the checks are made of assertions, which `python -O` drops; run Python without it")
        if missing := self.needs - capabilities_of(rig.storage):
            names = ", ".join(sorted(capability.__name__ for capability in missing))
            raise NotApplicable(f"{type(rig.storage).__name__} does not declare {names} in its capabilities")
        await self._function(rig)


def check(*needs: type, race: bool = False) -> Callable[[Callable[[Rig], Awaitable[None]]], Check]:
    """Make a function a `Check`."""
    return lambda function: Check(function, frozenset(needs), race=race)


class ManualClock:
    """A clock that moves only by `advance`; calling it returns the time in seconds."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock by `seconds`; a negative number sets it back."""
        self._now += seconds


def version(result: Written) -> int:
    """Return the version from a write that must succeed."""
    assert type(result) is int, f"a write that should work returned {type(result).__name__}"
    return result


def record(result: Written) -> Stored:
    """Return the record from a call that must find one."""
    assert type(result) is not int, "the version was an old one, so the call must write nothing and return the record"
    assert isinstance(result, Stored), f"a record was expected, not {type(result).__name__}"
    assert type(result.data) is bytes, f"Stored.data is a {type(result.data).__name__}, not bytes"
    assert type(result.version) is int, f"Stored.version is a {type(result.version).__name__}, not an int"
    return result


def about(seconds: float | None, wanted: float) -> bool:
    """Return whether this is a ttl of `wanted`, less the time that a slow machine has needed."""
    return seconds is not None and wanted - 10 < seconds <= wanted + 0.01


async def put(rig: Rig, key: str, data: bytes = b"data", ttl: float = LONG, owner: str | None = None) -> int:
    """Create a record that must be new, and return its version."""
    result = await rig.storage.create(key, data, ttl, owner=owner)
    assert result is not None, f"create takes {key[:40]!r} for in use, though no live record has this key"
    return version(result)


async def move_is_refused(rig: Rig, key: str, new_key: str, at: int, *, tombstone: float = 0.0) -> bool:
    """Return whether a move raises KeyTaken, or another StorageError that does not leave its outcome open."""
    try:
        await Move(key, new_key, b"moved", LONG, at, None, tombstone).invoke(rig.storage)
    except StorageUnavailable:
        raise
    except StorageError:
        return True
    return False


async def holds(rig: Rig, key: str, data: bytes, at: int) -> bool:
    """Return True if `key` holds exactly this data at this version; else the error says what it holds."""
    stored = record(await rig.storage.load(key))
    found, wanted = (stored.data[:40], stored.version), (data[:40], at)
    assert (stored.data, found) == (data, wanted), f"{key!r} holds {found}, not {wanted}"
    return True


async def make_unreadable(rig: Rig, key: str) -> None:
    """Write something to `key` that the storage would not write."""
    if rig.make_unreadable is None:
        raise NotApplicable("this rig has no `make_unreadable`: nothing else can write to the storage")
    await rig.make_unreadable(key)


async def purge(rig: Rig) -> None:
    """Purge, if this storage can: it must make no difference to a check."""
    if Purges in capabilities_of(rig.storage):
        await storage_as(rig, Purges).purge_expired()


async def wait_out(rig: Rig) -> None:
    """Let enough time pass for a ttl of one tick to end."""
    await rig.advance(rig.tick * 2)


def storage_as(rig: Rig, capability: Callable[..., C]) -> C:
    """Return the storage as one with this capability; `Check` has made sure that it is declared."""
    return cast("C", rig.storage)


def answers(rig: Rig) -> AnswersNow:
    """The storage as one that answers at once."""
    storage: Any = rig.storage
    if storage.answer_now is None:
        raise NotApplicable("this storage does not answer at once as it is configured")
    return cast("AnswersNow", storage)
