"""What a commit decides by, as tables: the lifecycle, the choice of the call, and what its answer means."""

from itertools import product
from types import NoneType
from typing import Any

import pytest

from sessioncore import Moved, StorageError, StorageUnavailable, Stored, Unreadable
from sessioncore.persistence._verdicts import VERDICTS, Verdict, verdict_of
from sessioncore.session._lifecycle import TRANSITIONS, Action, Phase, Verb, decide
from sessioncore.storage import KeyTaken

PAIRS = [(phase, verb) for phase in Phase for verb in Verb]
# Read as: from this phase, these verbs lead there; what is missing cannot happen or is refused.
EXPECTED = {
    Phase.FRESH: "WRITE:FRESH ROTATE:FRESH END:ENDED STORED:LIVE MOVED:STALE",
    Phase.LIVE: "WRITE:LIVE ROTATE:LIVE END:ENDED STORED:LIVE LOST:GONE MOVED:STALE",
    Phase.ENDED: "WRITE:ENDED ROTATE:ENDED END:ENDED STORED:LIVE MOVED:STALE",
    Phase.GONE: "WRITE:GONE ROTATE:GONE END:ENDED",
    Phase.STALE: "WRITE:STALE ROTATE:STALE END:ENDED STORED:LIVE MOVED:STALE",
}


@pytest.mark.parametrize(("phase", "verb"), PAIRS, ids=lambda part: part.name)
def test_each_pair_leads_where_the_table_says_or_is_not_listed(phase: Phase, verb: Verb) -> None:
    steps = dict(step.split(":") for step in EXPECTED[phase].split())
    expected = steps.get(verb.name)
    assert TRANSITIONS.get((phase, verb)) == (None if expected is None else Phase[expected])


def test_nothing_brings_a_gone_session_back_to_life() -> None:
    """P2: no way from GONE to LIVE but through an end of one's own."""
    reached, frontier = {Phase.GONE}, [Phase.GONE]
    while frontier:
        here = frontier.pop()
        for (before, verb), after in TRANSITIONS.items():
            if before is here and verb is not Verb.END and after not in reached:
                reached.add(after)
                frontier.append(after)
    assert reached == {Phase.GONE}


def test_every_phase_can_be_reached_and_ended() -> None:
    assert {after for _, after in TRANSITIONS.items()} | {Phase.FRESH} == set(Phase)
    assert all(TRANSITIONS[phase, Verb.END] is Phase.ENDED for phase in Phase)


# -- which call a commit makes

FACTS = list(product([False, True], repeat=4))


def expected_action(phase: Phase, changed: bool, rotated: bool, login: bool, due: bool) -> Action:
    """The same decision, written as a table: the first row that matches counts."""
    rows = [
        (phase is Phase.GONE, Action.NOTHING),
        (phase is Phase.STALE and login, Action.CREATE),
        (phase is Phase.STALE, Action.NOTHING),
        (phase in {Phase.FRESH, Phase.ENDED} and changed, Action.CREATE),
        (phase in {Phase.FRESH, Phase.ENDED}, Action.NOTHING),
        (rotated, Action.MOVE),
        (changed, Action.REPLACE),
        (due, Action.TOUCH),
    ]
    return next((action for matches, action in rows if matches), Action.NOTHING)


@pytest.mark.parametrize("phase", Phase, ids=lambda phase: phase.name)
@pytest.mark.parametrize(("changed", "rotated", "login", "due"), FACTS)
def test_each_combination_has_its_one_action(
    phase: Phase, changed: bool, rotated: bool, login: bool, due: bool
) -> None:
    action = decide(phase, changed=changed, rotated=rotated, login=login, renewal_due=due)
    assert action is expected_action(phase, changed, rotated, login, due)


# -- what an answer means

ANSWERS: dict[str, Any] = {
    "a version": 7,
    "version zero": 0,
    "a record": Stored(b"", 1, 1.0),
    "moved": Moved("session:new"),
    "unreadable": Unreadable(),
    "none": None,
    "true": True,
    "false": False,
    "a text": "x",
    "key taken": KeyTaken("taken"),
    "refused": StorageError("no"),
    "unavailable": StorageUnavailable("down"),
}
ERRORS = ("key taken", "refused", "unavailable")
STORED = {"a version": "STORED", "version zero": "STORED"}
THERE = {"a record": "CONFLICT", "moved": "MOVED", "unreadable": "FOREIGN", "none": "GONE"}
REFUSED = {"key taken": "REFUSED", "refused": "REFUSED", "unavailable": "UNKNOWN"}
MEANING: dict[Action, dict[str, str]] = {  # of each answer that the storage contract allows
    Action.CREATE: {**STORED, "none": "TAKEN", **REFUSED},
    Action.REPLACE: {**STORED, **THERE, **REFUSED},
    Action.MOVE: {**STORED, **THERE, **REFUSED, "key taken": "TAKEN"},
    Action.TOUCH: {"true": "RENEWED", "false": "GONE"} | dict.fromkeys(ERRORS, "IGNORED"),
    Action.FIND: {"a record": "FOUND", "moved": "MOVED", "unreadable": "OVERTAKEN", "none": "MISSING"}
    | dict.fromkeys(ERRORS, "UNKNOWN"),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("action", MEANING, ids=lambda action: action.name)
def test_each_answer_has_its_meaning_or_breaks_the_contract(action: Action, answer: str) -> None:
    meaning = MEANING[action].get(answer)
    if meaning is None:
        with pytest.raises(StorageError, match=r"see the contract in sessioncore\.Storage"):
            verdict_of(action, ANSWERS[answer])
    else:
        assert verdict_of(action, ANSWERS[answer]) is Verdict[meaning]


def test_every_call_has_a_row_with_every_error_and_every_verdict_is_used() -> None:
    assert VERDICTS.keys() == MEANING.keys() == set(Action) - {Action.NOTHING}
    for row in VERDICTS.values():
        assert {StorageError, KeyTaken, StorageUnavailable} <= row.keys()
    used = {verdict for row in VERDICTS.values() for verdict in row.values()} | {Verdict.RENEWED, Verdict.GONE}
    assert used == set(Verdict)


@pytest.mark.parametrize("base", [KeyTaken, StorageUnavailable, StorageError])
@pytest.mark.parametrize("action", MEANING, ids=lambda action: action.name)
def test_an_error_of_the_storages_own_means_what_its_base_means(action: Action, base: type[StorageError]) -> None:
    own = type("Own", (base,), {})
    assert verdict_of(action, own("mine")) is verdict_of(action, base("ours"))


def test_no_table_has_a_row_for_what_no_storage_answers() -> None:
    kinds = {int, NoneType, Stored, Moved, Unreadable, StorageError, KeyTaken, StorageUnavailable}
    assert all(row.keys() <= kinds for row in VERDICTS.values())
