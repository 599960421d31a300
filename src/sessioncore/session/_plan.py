"""What a commit does, decided before anything is done.

One pure function from facts to a step, so that every combination can be tested
without a loop, a storage or a clock. `_commit` carries the step out.
"""

from enum import Enum

from sessioncore.session._states import ENDED, FRESH, LIVE, State

__all__ = ["CREATE", "MOVE", "NOTHING", "REPLACE", "TOUCH", "Step", "decide"]


class Step(Enum):
    """The one storage operation that a commit needs."""

    NOTHING = "nothing"
    TOUCH = "touch"  # renew the idle clock only
    CREATE = "create"
    REPLACE = "replace"
    MOVE = "move"  # replace under a new ID


NOTHING, TOUCH, CREATE, REPLACE, MOVE = Step


def decide(state: State, *, changed: bool, rotated: bool, renewal_due: bool) -> Step:
    """Choose the step for a session in `state`.

    `changed`: it holds something to store that the storage does not have yet.
    `rotated`: regenerate or login asked for a new ID.
    `renewal_due`: the idle clock is staler than `touch_interval` allows.
    """
    if state is FRESH or state is ENDED:
        return CREATE if changed else NOTHING
    if state is not LIVE:
        return NOTHING  # GONE: nothing brings it back; RELEASED: changes were dropped
    if rotated:
        return MOVE
    if changed:
        return REPLACE
    return TOUCH if renewal_due else NOTHING
