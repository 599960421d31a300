"""The lifecycle of a session within one request, as a table.

`TRANSITIONS` gives the next phase for each phase and verb; a pair that is not listed cannot
happen or is refused. `docs/lifecycle.md` shows the same table, and a test compares the two.
`decide` chooses the storage call of a commit.
"""

from enum import IntEnum

__all__ = [
    "CREATE", "END", "ENDED", "FIND", "FRESH", "GONE", "LIVE", "LOST", "MOVE", "MOVED", "NEXT_PHASE", "NOTHING",
    "REPLACE", "STALE", "STORED", "TOUCH", "TRANSITIONS", "WITHHELD", "Action", "Phase", "Verb", "decide",
]  # fmt: skip


class Phase(IntEnum):
    """The phase of a session; an IntEnum, because `NEXT_PHASE` is indexed by it."""

    FRESH = 0  # nothing is stored; the first write will create a record
    LIVE = 1  # a record is stored, and this request has read it
    ENDED = 2  # this request ended the record; a later write creates another one
    GONE = 3  # another request ended the record; this request's changes are dropped
    STALE = 4  # the request's ID was replaced, or it has two: changes are dropped, but a login begins a session
    WITHHELD = 5  # a trusted site made the request, and the browser kept the cookie back: as STALE


# Module globals, because looking up a member on its class is slow.
FRESH, LIVE, ENDED, GONE, STALE, WITHHELD = Phase


class Verb(IntEnum):
    """What can happen to a session."""

    WRITE = 0  # set, delete, mutate, bind_owner, set_idle_timeout and the like
    ROTATE = 1  # regenerate, login
    END = 2  # reset, destroy
    STORED = 3  # the commit created, replaced or moved the record
    LOST = 4  # the commit found the record gone
    MOVED = 5  # the commit found that another request has moved the record, perhaps the one that it had just made


WRITE, ROTATE, END, STORED, LOST, MOVED = Verb

TRANSITIONS: dict[tuple[Phase, Verb], Phase] = {
    (Phase.FRESH, Verb.WRITE): Phase.FRESH,
    (Phase.FRESH, Verb.ROTATE): Phase.FRESH,
    (Phase.FRESH, Verb.END): Phase.ENDED,
    (Phase.FRESH, Verb.STORED): Phase.LIVE,
    (Phase.FRESH, Verb.MOVED): Phase.STALE,
    (Phase.LIVE, Verb.WRITE): Phase.LIVE,
    (Phase.LIVE, Verb.ROTATE): Phase.LIVE,
    (Phase.LIVE, Verb.END): Phase.ENDED,
    (Phase.LIVE, Verb.STORED): Phase.LIVE,
    (Phase.LIVE, Verb.LOST): Phase.GONE,
    (Phase.LIVE, Verb.MOVED): Phase.STALE,
    (Phase.ENDED, Verb.WRITE): Phase.ENDED,
    (Phase.ENDED, Verb.ROTATE): Phase.ENDED,
    (Phase.ENDED, Verb.END): Phase.ENDED,
    (Phase.ENDED, Verb.STORED): Phase.LIVE,
    (Phase.ENDED, Verb.MOVED): Phase.STALE,
    # A request whose session is gone may go on reading and writing its own copy, but nothing
    # of it is stored, under any ID, until the request ends the session itself.
    (Phase.GONE, Verb.WRITE): Phase.GONE,
    (Phase.GONE, Verb.ROTATE): Phase.GONE,
    (Phase.GONE, Verb.END): Phase.ENDED,
    # The browser has the session's new ID, or is about to get it, so a late request must not replace its cookie.
    (Phase.STALE, Verb.WRITE): Phase.STALE,
    (Phase.STALE, Verb.ROTATE): Phase.STALE,
    (Phase.STALE, Verb.END): Phase.ENDED,
    (Phase.STALE, Verb.STORED): Phase.LIVE,
    (Phase.STALE, Verb.MOVED): Phase.STALE,
    # The browser has a cookie that did not come with the request, so nothing but a login may replace it.
    (Phase.WITHHELD, Verb.WRITE): Phase.WITHHELD,
    (Phase.WITHHELD, Verb.ROTATE): Phase.WITHHELD,
    (Phase.WITHHELD, Verb.END): Phase.WITHHELD,
    (Phase.WITHHELD, Verb.STORED): Phase.LIVE,
    (Phase.WITHHELD, Verb.MOVED): Phase.STALE,
}

# TRANSITIONS as nested tuples: a dict lookup would call the enum members' slow Python __hash__.
NEXT_PHASE = tuple(tuple(TRANSITIONS.get((phase, verb)) for verb in Verb) for phase in Phase)


class Action(IntEnum):
    """The storage call of a commit; FIND looks for an earlier write whose reply was lost."""

    NOTHING = 0
    TOUCH = 1  # renew the idle clock only
    CREATE = 2
    REPLACE = 3
    MOVE = 4  # replace under a new ID
    FIND = 5


NOTHING, TOUCH, CREATE, REPLACE, MOVE, FIND = Action


def decide(phase: Phase, *, changed: bool, rotated: bool, login: bool, renewal_due: bool) -> Action:
    """Choose the storage call that a commit makes for a session in `phase`.

    `changed`: there are changes to store.
    `rotated`: regenerate or login asked for a new ID. `login`: it was a login.
    `renewal_due`: the idle clock is older than `touch_interval`.
    """
    if phase is FRESH or phase is ENDED:
        return CREATE if changed else NOTHING
    if phase is not LIVE:  # GONE must not come back; STALE and WITHHELD must not replace the client's other ID
        return CREATE if phase is not GONE and login else NOTHING
    if rotated:
        return MOVE
    if changed:
        return REPLACE
    return TOUCH if renewal_due else NOTHING
