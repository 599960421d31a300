"""Tools for tests: executable checks of the storage contract, and a clock that is moved by hand.

`STORAGE_CHECKS` test the contract `sessioncore.storage.Storage`; each is a small async function
that takes a `Rig` with an empty storage, and asserts. They need no test framework. With
`python -O`, which drops assertions, they raise RuntimeError. A check of a capability that the
storage does not declare raises `NotApplicable`, which pytest and unittest report as skipped.

`sign_in` and `FailingStorage` are for tests of applications. The first stores a session and
returns the cookie that its client sends; the second is a storage that fails, waits or loses
replies on demand.
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
    "BEST_EFFORT_CHECKS", "STORAGE_CHECKS", "Check", "FailingStorage", "Fault", "ManualClock", "NotApplicable", "Rig",
    "SignedIn", "sign_in",
]  # fmt: skip

_MODULES = (
    _reads, _times, _writes, _ends, _owners, _unreadable, _opening, _races, _tombstones, _loading_many, _clearing,
    _purging, _scanning, _answering, _bounding, _watching,
)  # fmt: skip
_CHECKS = [check for module in _MODULES for check in vars(module).values() if isinstance(check, Check)]

BEST_EFFORT_CHECKS: tuple[Check, ...] = tuple(check for check in _CHECKS if not check.race)
"""The checks that hold without compare-and-set as well: all that a single caller can see."""

STORAGE_CHECKS: tuple[Check, ...] = (*BEST_EFFORT_CHECKS, *(check for check in _CHECKS if check.race))
"""The whole contract: also what holds for parallel and for cancelled callers."""
