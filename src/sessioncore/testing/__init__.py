"""Tools for tests: the storage contract as running code, and a clock that is moved by hand.

`STORAGE_CHECKS` is the page `sessioncore.storage.Storage` as small async functions.
Each takes a `Rig` with an empty storage of its own, asserts, and returns; they need no
test framework (but not `python -O`, which drops assertions). `sign_in` and
`FailingStorage` are for tests of applications: a stored session and the cookie that its
client sends; a storage that fails, waits or loses its replies when it is told to.
"""

from sessioncore.testing._ends import CHECKS as _ENDS
from sessioncore.testing._failing import FailingStorage, Fault
from sessioncore.testing._owners import CHECKS as _OWNERS
from sessioncore.testing._races import CHECKS as _RACES
from sessioncore.testing._reads import CHECKS as _READS
from sessioncore.testing._rig import Check, ManualClock, Rig
from sessioncore.testing._times import CHECKS as _TIMES
from sessioncore.testing._visitor import SignedIn, sign_in
from sessioncore.testing._writes import CHECKS as _WRITES

__all__ = [
    "BEST_EFFORT_CHECKS",
    "STORAGE_CHECKS",
    "Check",
    "FailingStorage",
    "Fault",
    "ManualClock",
    "Rig",
    "SignedIn",
    "sign_in",
]

BEST_EFFORT_CHECKS: tuple[Check, ...] = (*_READS, *_TIMES, *_WRITES, *_ENDS, *_OWNERS)
"""What holds without compare-and-set, too: all that one caller alone can see."""

STORAGE_CHECKS: tuple[Check, ...] = (*BEST_EFFORT_CHECKS, *_RACES)
"""The whole contract: the above, and what holds among parallel callers and under cancellation."""
