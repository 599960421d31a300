"""The life of a session within one request, as a table.

Five states, six verbs. A pair that is not listed cannot happen or is refused;
`docs/lifecycle.md` shows this same table, and a test compares the two. What a
verb does to storage is decided in `_plan`, not here.
"""

from enum import IntEnum

__all__ = ["AFTER", "ENDED", "FRESH", "GONE", "LIVE", "RELEASED", "TRANSITIONS", "State", "Verb"]


class State(IntEnum):
    """Where a session stands; an IntEnum, since its members are the rows of `AFTER`."""

    FRESH = 0  # nothing is stored; the first write will create a record
    LIVE = 1  # a record is stored, and this request has read it
    ENDED = 2  # this request ended the record; a later write creates another
    GONE = 3  # somebody else ended the record; what this request changed is dropped
    RELEASED = 4  # given back; any use raises


# Looking a member up on its class costs more than most of what requests do with it.
FRESH, LIVE, ENDED, GONE, RELEASED = State


class Verb(IntEnum):
    """What can happen to a session."""

    WRITE = 0  # set, delete, mutate, bind_owner, set_idle_timeout
    ROTATE = 1  # regenerate, login
    END = 2  # reset, destroy
    STORED = 3  # the commit created, replaced or moved the record
    LOST = 4  # the commit found the record gone
    RELEASE = 5


TRANSITIONS: dict[tuple[State, Verb], State] = {
    (State.FRESH, Verb.WRITE): State.FRESH,
    (State.FRESH, Verb.ROTATE): State.FRESH,
    (State.FRESH, Verb.END): State.ENDED,
    (State.FRESH, Verb.STORED): State.LIVE,
    (State.FRESH, Verb.RELEASE): State.RELEASED,
    (State.LIVE, Verb.WRITE): State.LIVE,
    (State.LIVE, Verb.ROTATE): State.LIVE,
    (State.LIVE, Verb.END): State.ENDED,
    (State.LIVE, Verb.STORED): State.LIVE,
    (State.LIVE, Verb.LOST): State.GONE,
    (State.LIVE, Verb.RELEASE): State.RELEASED,
    (State.ENDED, Verb.WRITE): State.ENDED,
    (State.ENDED, Verb.ROTATE): State.ENDED,
    (State.ENDED, Verb.END): State.ENDED,
    (State.ENDED, Verb.STORED): State.LIVE,
    (State.ENDED, Verb.RELEASE): State.RELEASED,
    # A request whose session was ended elsewhere may go on reading and writing its own copy,
    # but none of it is stored again, under any ID (P2), until it ends the session itself.
    (State.GONE, Verb.WRITE): State.GONE,
    (State.GONE, Verb.ROTATE): State.GONE,
    (State.GONE, Verb.END): State.ENDED,
    (State.GONE, Verb.RELEASE): State.RELEASED,
    (State.RELEASED, Verb.RELEASE): State.RELEASED,
}

# The same by position: hashing the members of an Enum runs Python code, twice for each look-up.
AFTER = tuple(tuple(TRANSITIONS.get((state, verb)) for verb in Verb) for state in State)
