"""What a commit decides by, as tables: the lifecycle, the choice of the call, and what its answer means."""

from fnmatch import fnmatchcase
from itertools import product
from types import NoneType
from typing import Any

import pytest

from sessioncore import Moved, StorageError, StorageUnavailable, Stored, Unreadable
from sessioncore.persistence._verdicts import VERDICTS, Verdict, verdict_of
from sessioncore.session._lifecycle import TRANSITIONS, Action, Phase, Verb, decide
from sessioncore.storage import KeyTaken

# Read as: from this phase, these verbs lead there; what is missing cannot happen or is refused.
EXPECTED = {
    Phase.FRESH: "WRITE:FRESH ROTATE:FRESH END:ENDED STORED:LIVE MOVED:STALE",
    Phase.LIVE: "WRITE:LIVE ROTATE:LIVE END:ENDED STORED:LIVE LOST:GONE MOVED:STALE",
    Phase.ENDED: "WRITE:ENDED ROTATE:ENDED END:ENDED STORED:LIVE MOVED:STALE",
    Phase.GONE: "WRITE:GONE ROTATE:GONE END:ENDED",
    Phase.STALE: "WRITE:STALE ROTATE:STALE END:ENDED STORED:LIVE MOVED:STALE",
    Phase.WITHHELD: "WRITE:WITHHELD ROTATE:WITHHELD END:WITHHELD STORED:LIVE MOVED:STALE",
}


def test_each_pair_of_phase_and_verb_leads_where_the_table_says_or_is_not_listed() -> None:
    for phase, verb in product(Phase, Verb):
        expected = dict(step.split(":") for step in EXPECTED[phase].split()).get(verb.name)
        assert TRANSITIONS.get((phase, verb)) == (None if expected is None else Phase[expected]), (phase, verb)


def test_only_an_end_of_its_own_leads_a_gone_session_back_to_life() -> None:
    reached, frontier = {Phase.GONE}, [Phase.GONE]
    while frontier:
        here = frontier.pop()
        for (before, verb), after in TRANSITIONS.items():
            if before is here and verb is not Verb.END and after not in reached:
                reached.add(after)
                frontier.append(after)
    assert reached == {Phase.GONE}


# Of changed, rotated, login and renewal due, in this order, "1" and "0"; the first row that matches counts.
ACTIONS: dict[Phase, list[tuple[str, Action]]] = {
    Phase.GONE: [("????", Action.NOTHING)],
    Phase.STALE: [("??1?", Action.CREATE), ("????", Action.NOTHING)],
    Phase.WITHHELD: [("??1?", Action.CREATE), ("????", Action.NOTHING)],
    Phase.FRESH: [("1???", Action.CREATE), ("????", Action.NOTHING)],
    Phase.ENDED: [("1???", Action.CREATE), ("????", Action.NOTHING)],
    Phase.LIVE: [("?1??", Action.MOVE), ("1???", Action.REPLACE), ("???1", Action.TOUCH), ("????", Action.NOTHING)],
}


def test_each_combination_of_facts_has_its_one_action() -> None:
    for phase, facts in product(Phase, product("01", repeat=4)):
        expected = next(action for row, action in ACTIONS[phase] if fnmatchcase("".join(facts), row))
        changed, rotated, login, due = (fact == "1" for fact in facts)
        action = decide(phase, changed=changed, rotated=rotated, login=login, renewal_due=due)
        assert action is expected, (phase, facts)


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


@pytest.mark.parametrize("action", MEANING, ids=lambda action: action.name)
def test_each_answer_to_a_call_has_its_meaning_or_breaks_the_contract(action: Action) -> None:
    for name, answer in ANSWERS.items():
        meaning = MEANING[action].get(name)
        if meaning is not None:
            assert verdict_of(action, answer) is Verdict[meaning], name
        else:
            with pytest.raises(StorageError, match=r"see the contract in sessioncore\.Storage"):
                verdict_of(action, answer)
    for base in (KeyTaken, StorageUnavailable, StorageError):  # an error of the storage's own means what its base means
        own: Any = type("Own", (base,), {})("mine")
        assert verdict_of(action, own) is verdict_of(action, base("ours"))


def test_the_tables_are_complete_and_hold_nothing_that_cannot_happen() -> None:
    assert VERDICTS.keys() == MEANING.keys() == set(Action) - {Action.NOTHING}
    errors = {StorageError, KeyTaken, StorageUnavailable}
    for row in VERDICTS.values():
        assert errors <= row.keys() <= errors | {int, NoneType, Stored, Moved, Unreadable}
    used = {verdict for row in VERDICTS.values() for verdict in row.values()} | {Verdict.RENEWED, Verdict.GONE}
    assert used == set(Verdict)
