"""The lifecycle table: every pair of a state and a verb, listed or not."""

from pathlib import Path

import pytest

from sessioncore.session._states import TRANSITIONS, State, Verb

PAIRS = [(state, verb) for state in State for verb in Verb]
# Read as: from this state, these verbs lead there; what is missing cannot happen or is refused.
EXPECTED = {
    State.FRESH: "WRITE:FRESH ROTATE:FRESH END:ENDED STORED:LIVE RELEASE:RELEASED",
    State.LIVE: "WRITE:LIVE ROTATE:LIVE END:ENDED STORED:LIVE LOST:GONE RELEASE:RELEASED",
    State.ENDED: "WRITE:ENDED ROTATE:ENDED END:ENDED STORED:LIVE RELEASE:RELEASED",
    State.GONE: "WRITE:GONE ROTATE:GONE END:ENDED RELEASE:RELEASED",
    State.RELEASED: "RELEASE:RELEASED",
}


@pytest.mark.parametrize(("state", "verb"), PAIRS, ids=lambda part: part.name)
def test_each_pair_leads_where_the_table_says_or_is_not_listed(state: State, verb: Verb) -> None:
    steps = dict(step.split(":") for step in EXPECTED[state].split())
    expected = steps.get(verb.name)
    assert TRANSITIONS.get((state, verb)) == (None if expected is None else State[expected])


def test_released_is_final() -> None:
    assert {after for (before, _), after in TRANSITIONS.items() if before is State.RELEASED} == {State.RELEASED}


def test_nothing_brings_a_gone_session_back_to_life() -> None:
    """P2: no way from GONE to LIVE but through an end of one's own."""
    reached, frontier = {State.GONE}, [State.GONE]
    while frontier:
        here = frontier.pop()
        for (before, verb), after in TRANSITIONS.items():
            if before is here and verb is not Verb.END and after not in reached:
                reached.add(after)
                frontier.append(after)
    assert reached == {State.GONE, State.RELEASED}


def test_every_state_can_be_reached_and_released() -> None:
    assert {after for _, after in TRANSITIONS.items()} | {State.FRESH} == set(State)
    assert all((state, Verb.RELEASE) in TRANSITIONS for state in State)


def test_the_documented_table_is_the_one_that_runs() -> None:
    """The rows of docs/lifecycle.md that read state, verb, next state."""
    rows = [
        [cell.strip(" `*").upper() for cell in line.strip("| ").split("|")]
        for line in Path("docs/lifecycle.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("|")
    ]
    shown = [row for row in rows if len(row) == 3 and row[0] in State.__members__ and row[1] in Verb.__members__]
    assert {(State[before], Verb[verb]): State[after] for before, verb, after in shown} == TRANSITIONS
    assert len(shown) == len(TRANSITIONS)
