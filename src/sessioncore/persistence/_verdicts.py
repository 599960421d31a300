"""What the storage's answers mean to a commit: one table, from the call and the kind of answer to a verdict.

    answer / call        CREATE       REPLACE      MOVE         TOUCH     FIND
    a version            stored       stored       stored       -         -
    a record             -            conflict     conflict     -         found
    Unreadable           -            foreign      foreign      -         overtaken
    None                 taken        gone         gone         -         missing
    True                 -            -            -            renewed   -
    False                -            -            -            gone      -
    KeyTaken             -            refused      taken        -         -
    other StorageError   refused      refused      refused      ignored   unknown
    StorageUnavailable   unknown      unknown      unknown      ignored   unknown

A dash stands for what the storage contract does not allow.
"""

from enum import Enum
from types import NoneType
from typing import Final

from sessioncore._errors import KeyTaken, StorageError, StorageUnavailable
from sessioncore._storage_calls import Stored, Unreadable
from sessioncore.persistence._drive import Answer
from sessioncore.session._lifecycle import CREATE, MOVE, REPLACE, TOUCH, Action

__all__ = ["VERDICTS", "Verdict", "verdict_of"]

FIND = Action.FIND


class Verdict(Enum):
    """What an answer means for the commit."""

    STORED = "stored"
    CONFLICT = "conflict"  # others wrote meanwhile: apply the changes to their record
    FOREIGN = "foreign"  # the record is no longer one of ours: leave it alone
    GONE = "gone"
    TAKEN = "taken"  # never touch what is under that key, it may be a stranger's: choose another ID
    RENEWED = "renewed"
    FOUND = "found"  # a record is where the lost write would be: its bytes tell
    MISSING = "missing"  # the lost write did not arrive, or the record is gone: the write that follows finds out which
    OVERTAKEN = "overtaken"  # others wrote, perhaps on top of the lost write
    REFUSED = "refused"  # the storage said no, and nothing was changed
    UNKNOWN = "unknown"  # nobody knows whether it was stored
    IGNORED = "ignored"  # nothing that the handler stored depends on it, and the storage's event was sent


_STORED, _CONFLICT, _FOREIGN, _GONE, _TAKEN = (
    Verdict.STORED,
    Verdict.CONFLICT,
    Verdict.FOREIGN,
    Verdict.GONE,
    Verdict.TAKEN,
)
_REFUSED, _UNKNOWN, _IGNORED = Verdict.REFUSED, Verdict.UNKNOWN, Verdict.IGNORED
_WRITE_ERRORS: Final[dict[type, Verdict]] = {
    StorageError: _REFUSED,
    KeyTaken: _REFUSED,
    StorageUnavailable: _UNKNOWN,
}
VERDICTS: Final[dict[Action, dict[type, Verdict]]] = {
    CREATE: {int: _STORED, NoneType: _TAKEN, **_WRITE_ERRORS},
    REPLACE: {int: _STORED, Stored: _CONFLICT, Unreadable: _FOREIGN, NoneType: _GONE, **_WRITE_ERRORS},
    MOVE: {int: _STORED, Stored: _CONFLICT, Unreadable: _FOREIGN, NoneType: _GONE, **_WRITE_ERRORS, KeyTaken: _TAKEN},
    TOUCH: {StorageError: _IGNORED, KeyTaken: _IGNORED, StorageUnavailable: _IGNORED},
    FIND: {
        Stored: Verdict.FOUND, Unreadable: Verdict.OVERTAKEN, NoneType: Verdict.MISSING,
        StorageError: _UNKNOWN, KeyTaken: _UNKNOWN, StorageUnavailable: _UNKNOWN,
    },
}  # fmt: skip

# By position: hashing the members of an Enum runs Python code.
_BY_ACTION: Final = tuple(VERDICTS.get(action, {}) for action in Action)


def verdict_of(action: Action, answer: Answer) -> Verdict:
    """Return what `answer` means to a commit whose call is `action`.

    Raises:
        StorageError: the storage contract knows no such answer.
    """
    verdicts = _BY_ACTION[action]
    verdict = verdicts.get(type(answer))
    if verdict is not None:
        return verdict
    if action is TOUCH and isinstance(answer, bool):
        return Verdict.RENEWED if answer else Verdict.GONE
    for kind in (KeyTaken, StorageUnavailable, StorageError):  # storages have subclasses of their own
        if isinstance(answer, kind):
            return verdicts[kind]
    raise StorageError(f"the storage answered {action.name} with a {type(answer).__name__}; see sessioncore.Storage")
