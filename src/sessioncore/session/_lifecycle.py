"""The life of a session within one request, as tables.

`TRANSITIONS` says which phase follows from what happens; a pair that is not listed
cannot happen or is refused. `docs/lifecycle.md` shows the same table, and a test compares
the two. `decide` says which call a commit makes. Both are pure.
"""

from enum import IntEnum

__all__ = [
    "AFTER", "CREATE", "ENDED", "FRESH", "GONE", "LIVE", "MOVE", "NOTHING", "REPLACE", "TOUCH", "TRANSITIONS",
    "Action", "Phase", "Verb", "decide",
]  # fmt: skip


class Phase(IntEnum):
    """Where a session stands; an IntEnum, since its members are the rows of `AFTER`."""

    FRESH = 0  # nothing is stored; the first write will create a record
    LIVE = 1  # a record is stored, and this request has read it
    ENDED = 2  # this request ended the record; a later write creates another
    GONE = 3  # somebody else ended the record; what this request changed is dropped


# Looking a member up on its class costs more than most of what requests do with it.
FRESH, LIVE, ENDED, GONE = Phase


class Verb(IntEnum):
    """What can happen to a session."""

    WRITE = 0  # set, delete, mutate, bind_owner, set_idle_timeout
    ROTATE = 1  # regenerate, login
    END = 2  # reset, destroy
    STORED = 3  # the commit created, replaced or moved the record
    LOST = 4  # the commit found the record gone


TRANSITIONS: dict[tuple[Phase, Verb], Phase] = {
    (Phase.FRESH, Verb.WRITE): Phase.FRESH,
    (Phase.FRESH, Verb.ROTATE): Phase.FRESH,
    (Phase.FRESH, Verb.END): Phase.ENDED,
    (Phase.FRESH, Verb.STORED): Phase.LIVE,
    (Phase.LIVE, Verb.WRITE): Phase.LIVE,
    (Phase.LIVE, Verb.ROTATE): Phase.LIVE,
    (Phase.LIVE, Verb.END): Phase.ENDED,
    (Phase.LIVE, Verb.STORED): Phase.LIVE,
    (Phase.LIVE, Verb.LOST): Phase.GONE,
    (Phase.ENDED, Verb.WRITE): Phase.ENDED,
    (Phase.ENDED, Verb.ROTATE): Phase.ENDED,
    (Phase.ENDED, Verb.END): Phase.ENDED,
    (Phase.ENDED, Verb.STORED): Phase.LIVE,
    # A request whose session was ended elsewhere may go on reading and writing its own copy,
    # but none of it is stored again, under any ID (P2), until it ends the session itself.
    (Phase.GONE, Verb.WRITE): Phase.GONE,
    (Phase.GONE, Verb.ROTATE): Phase.GONE,
    (Phase.GONE, Verb.END): Phase.ENDED,
}

# The same by position: hashing the members of an Enum runs Python code, twice for each look-up.
AFTER = tuple(tuple(TRANSITIONS.get((phase, verb)) for verb in Verb) for phase in Phase)


class Action(IntEnum):
    """The one storage call that a commit needs; FIND looks for an earlier one whose reply was lost."""

    NOTHING = 0
    TOUCH = 1  # renew the idle clock only
    CREATE = 2
    REPLACE = 3
    MOVE = 4  # replace under a new ID
    FIND = 5


NOTHING, TOUCH, CREATE, REPLACE, MOVE, _ = Action


def decide(phase: Phase, *, changed: bool, rotated: bool, renewal_due: bool) -> Action:
    """Choose what to do for a session in `phase`.

    `changed`: it holds something to store that the storage does not have yet.
    `rotated`: regenerate or login asked for a new ID.
    `renewal_due`: the idle clock is staler than `touch_interval` allows.
    """
    if phase is FRESH or phase is ENDED:
        return CREATE if changed else NOTHING
    if phase is not LIVE:
        return NOTHING  # GONE: nothing brings it back
    if rotated:
        return MOVE
    if changed:
        return REPLACE
    return TOUCH if renewal_due else NOTHING
