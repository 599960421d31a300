"""What a commit does, decided before anything is done.

One pure function from facts to a step, so that every combination can be tested
without a loop, a storage or a clock. `_commit` carries the step out.
"""

from enum import Enum

from sessioncore._states import State

__all__ = ["Step", "decide"]


class Step(Enum):
    """The one storage operation that a commit needs."""

    NOTHING = "nothing"
    TOUCH = "touch"  # renew the idle clock only
    CREATE = "create"
    REPLACE = "replace"
    MOVE = "move"  # replace under a new ID


def decide(state: State, *, changed: bool, rotated: bool, renewal_due: bool) -> Step:
    """Choose the step for a session in `state`.

    `changed`: it holds something to store that the storage does not have yet.
    `rotated`: regenerate or login asked for a new ID.
    `renewal_due`: the idle clock is staler than `touch_interval` allows.
    """
    if state in {State.FRESH, State.ENDED}:
        return Step.CREATE if changed else Step.NOTHING
    if state is not State.LIVE:
        return Step.NOTHING  # GONE: nothing brings it back; RELEASED: changes were dropped
    if rotated:
        return Step.MOVE
    if changed:
        return Step.REPLACE
    return Step.TOUCH if renewal_due else Step.NOTHING
