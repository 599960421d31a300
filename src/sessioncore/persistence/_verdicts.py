"""What each answer of the storage means to a commit: a table from the call and the type of the answer to a verdict.

docs/architecture.md shows the same table with a row for each answer, and a test compares the two. An
answer that the table lacks is one that the storage contract does not allow.
"""

from enum import Enum
from types import NoneType
from typing import Final

from sessioncore._errors import KeyTaken, StorageError, StorageUnavailable
from sessioncore._storage_calls import Moved, Stored, Unreadable
from sessioncore.persistence._machine import Answer
from sessioncore.session._lifecycle import CREATE, FIND, MOVE, REPLACE, TOUCH, Action

__all__ = ["STORED", "VERDICTS", "Verdict", "verdict_of"]


class Verdict(Enum):
    """What an answer means to the commit."""

    STORED = "stored"
    CONFLICT = "conflict"  # another request wrote meanwhile: apply the changes to its record
    FOREIGN = "foreign"  # the key holds something that this storage did not write: leave it unchanged
    GONE = "gone"  # there is no record any more: drop the changes
    MOVED = "moved"  # another request has moved the record: drop the changes, but a login begins another session
    TAKEN = "taken"  # the new key is in use, perhaps by another client's session: choose another ID
    RENEWED = "renewed"  # the idle clock was renewed
    FOUND = "found"  # there is a record; compare its bytes with the write whose reply was lost
    MISSING = "missing"  # that write was not stored, or the record is gone; the next write finds out which
    OVERTAKEN = "overtaken"  # another request wrote, perhaps after that write was stored
    REFUSED = "refused"  # the storage refused the call, and nothing was changed
    UNKNOWN = "unknown"  # it is unknown whether the write was stored
    IGNORED = "ignored"  # a renewal failed, which loses no data; the storage's event was sent


STORED: Final = Verdict.STORED
_WRITE_ERRORS: Final[dict[type, Verdict]] = {
    StorageError: Verdict.REFUSED, KeyTaken: Verdict.REFUSED, StorageUnavailable: Verdict.UNKNOWN,
}  # fmt: skip
_CONDITIONAL: Final[dict[type, Verdict]] = {
    int: STORED, Stored: Verdict.CONFLICT, Moved: Verdict.MOVED, Unreadable: Verdict.FOREIGN, NoneType: Verdict.GONE,
    **_WRITE_ERRORS,
}  # fmt: skip
VERDICTS: Final[dict[Action, dict[type, Verdict]]] = {
    CREATE: {int: STORED, NoneType: Verdict.TAKEN, **_WRITE_ERRORS},
    REPLACE: _CONDITIONAL,
    MOVE: {**_CONDITIONAL, KeyTaken: Verdict.TAKEN},
    TOUCH: dict.fromkeys((StorageError, KeyTaken, StorageUnavailable), Verdict.IGNORED),
    FIND: {
        Stored: Verdict.FOUND, Moved: Verdict.MOVED, Unreadable: Verdict.OVERTAKEN, NoneType: Verdict.MISSING,
        **dict.fromkeys((StorageError, KeyTaken, StorageUnavailable), Verdict.UNKNOWN),
    },
}  # fmt: skip

_SUBCLASSED: Final = (Stored, Moved, Unreadable, KeyTaken, StorageUnavailable, StorageError)  # by storages

# VERDICTS as a tuple: a dict lookup would call the enum members' slow Python __hash__.
_BY_ACTION: Final = tuple(VERDICTS.get(action, {}) for action in Action)


def verdict_of(action: Action, answer: Answer) -> Verdict | None:
    """Return what `answer` means to a commit whose call is `action`; None: the contract does not allow it."""
    verdicts = _BY_ACTION[action]
    verdict = verdicts.get(type(answer))
    if verdict is not None:
        return verdict
    if action is TOUCH and isinstance(answer, bool):
        return Verdict.RENEWED if answer else Verdict.GONE
    for kind in _SUBCLASSED:
        if isinstance(answer, kind) and kind in verdicts:
            return verdicts[kind]
    return None
