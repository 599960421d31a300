"""The commit's decision, over every combination of its inputs."""

from itertools import product

import pytest

from sessioncore.session._plan import Step, decide
from sessioncore.session._states import State

FACTS = list(product([False, True], repeat=3))


def expected(state: State, changed: bool, rotated: bool, due: bool) -> Step:
    """The same decision, written as a table: the first row that matches counts."""
    rows = [
        (state in {State.GONE, State.RELEASED}, Step.NOTHING),
        (state in {State.FRESH, State.ENDED} and changed, Step.CREATE),
        (state in {State.FRESH, State.ENDED}, Step.NOTHING),
        (rotated, Step.MOVE),
        (changed, Step.REPLACE),
        (due, Step.TOUCH),
    ]
    return next((step for matches, step in rows if matches), Step.NOTHING)


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
@pytest.mark.parametrize(("changed", "rotated", "due"), FACTS)
def test_each_combination_has_its_one_step(state: State, changed: bool, rotated: bool, due: bool) -> None:
    step = decide(state, changed=changed, rotated=rotated, renewal_due=due)
    assert step is expected(state, changed, rotated, due)


@pytest.mark.parametrize(("changed", "rotated", "due"), FACTS)
def test_what_was_ended_elsewhere_is_never_written(changed: bool, rotated: bool, due: bool) -> None:
    for state in (State.GONE, State.RELEASED):
        assert decide(state, changed=changed, rotated=rotated, renewal_due=due) is Step.NOTHING


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
def test_an_untouched_session_is_not_written(state: State) -> None:
    assert decide(state, changed=False, rotated=False, renewal_due=False) is Step.NOTHING


def test_only_a_live_record_is_replaced_moved_or_renewed() -> None:
    for state, (changed, rotated, due) in product(State, FACTS):
        step = decide(state, changed=changed, rotated=rotated, renewal_due=due)
        assert state is State.LIVE or step in {Step.NOTHING, Step.CREATE}
        assert state is not State.LIVE or step is not Step.CREATE
