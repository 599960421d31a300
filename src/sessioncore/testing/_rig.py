"""What a storage check stands on, and the little words that the checks share.

A rig hides the clock: one storage takes a number that is advanced, another one a
server whose clock can only be waited for.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from msgspec import Struct

from sessioncore.storage import Clears, Opens, Purges, Storage, Stored, Written

LONG = 1000.0  # seconds; far beyond the life of any check


class CheckedStorage(Storage, Opens, Clears, Purges, Protocol):
    """A storage with every capability that the checks look at."""


class Rig(Struct, frozen=True):
    """One empty, opened storage, and the way to let its time pass.

    `tick` is the smallest ttl in seconds that the checks may use: 0.05 suits a real
    clock. `advance` lets that many seconds pass. `remaining` is the storage's own view
    of the seconds that a key has left, None if there is no such record: where it can,
    it reads them by another way than `load`.
    """

    storage: CheckedStorage
    tick: float
    advance: Callable[[float], Awaitable[None]]
    remaining: Callable[[str], Awaitable[float | None]]


Check: TypeAlias = Callable[[Rig], Awaitable[None]]


class ManualClock:
    """A clock that stands still until it is told to move; call it for the time in seconds."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; a negative number sets the clock back."""
        self._now += seconds


def version(result: Written) -> int:
    """The version out of a write that must have worked."""
    assert type(result) is int, f"a write that should work returned {type(result).__name__}"
    return result


def record(result: Written) -> Stored:
    """The record out of a call that must have found one."""
    assert isinstance(result, Stored), f"a record was expected, not {type(result).__name__}"
    assert type(result.data) is bytes
    assert type(result.version) is int
    return result


def about(seconds: float | None, wanted: float) -> bool:
    """True if that is a ttl of `wanted` from which no more than a slow machine was lost."""
    return seconds is not None and wanted - 10 < seconds <= wanted + 0.01


async def put(rig: Rig, key: str, data: bytes = b"data", ttl: float = LONG, owner: str | None = None) -> int:
    """Create a record that must be new, and return its version."""
    return version(await rig.storage.create(key, data, ttl, owner=owner))


async def holds(rig: Rig, key: str, data: bytes, at: int) -> bool:
    """True if `key` bears exactly this data at this version."""
    stored = record(await rig.storage.load(key))
    return stored.data == data and stored.version == at


async def wait_out(rig: Rig) -> None:
    """Let a ttl of one tick pass for certain."""
    await rig.advance(rig.tick * 2)
