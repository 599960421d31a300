"""Tools for tests: the storage contract as running code, and a clock that is moved by hand.

`STORAGE_CHECKS` is the contract `sessioncore.storage.Storage` as small async functions.
Each takes a `Rig` with an empty storage of its own, asserts, and returns; they need no
test framework (but not `python -O`, which drops assertions). A check of a capability
that the storage does not declare raises `NotApplicable`, which pytest and unittest
report as skipped.

`sign_in` and `FailingStorage` are for tests of applications: a stored session and the
cookie that its client sends; a storage that fails, waits or loses its replies when it
is told to.
"""

from sessioncore.testing import (
    _answering,
    _bounding,
    _clearing,
    _ends,
    _loading_many,
    _opening,
    _owners,
    _purging,
    _races,
    _reads,
    _scanning,
    _times,
    _tombstones,
    _unreadable,
    _watching,
    _writes,
)
from sessioncore.testing._failing import FailingStorage, Fault
from sessioncore.testing._rig import Check, ManualClock, NotApplicable, Rig
from sessioncore.testing._visitor import SignedIn, sign_in

__all__ = [
    "BEST_EFFORT_CHECKS",
    "STORAGE_CHECKS",
    "Check",
    "FailingStorage",
    "Fault",
    "ManualClock",
    "NotApplicable",
    "Rig",
    "SignedIn",
    "sign_in",
]

BEST_EFFORT_CHECKS: tuple[Check, ...] = (
    *_reads.CHECKS,
    *_times.CHECKS,
    *_writes.CHECKS,
    *_ends.CHECKS,
    *_owners.CHECKS,
    *_unreadable.CHECKS,
    *_opening.CHECKS,
    *_opening.SPREADING,
    *_tombstones.CHECKS,
    *_loading_many.CHECKS,
    *_loading_many.WITH_TOMBSTONES,
    *_clearing.CHECKS,
    *_purging.CHECKS,
    *_scanning.CHECKS,
    *_scanning.WITH_TOMBSTONES,
    *_answering.CHECKS,
    *_bounding.CHECKS,
    *_watching.CHECKS,
)
"""The checks that hold without compare-and-set as well: all that a single caller can see."""

STORAGE_CHECKS: tuple[Check, ...] = (*BEST_EFFORT_CHECKS, *_races.CHECKS, *_tombstones.RACES, *_purging.RACES)
"""The whole contract: also what holds for parallel and for cancelled callers."""
