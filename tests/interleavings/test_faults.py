"""Planted faults: the explorations of `make test` notice each of them."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pytest
from tests.interleavings.core_faults import CORE_FAULTS
from tests.interleavings.explore import Scenario, explore
from tests.interleavings.faults import STORAGE_FAULTS, Faulty
from tests.interleavings.programs import Meeting, Site
from tests.interleavings.test_lost_replies import Doubtful, LosesOne, Plan, played
from tests.interleavings.test_owner_limits import PLAYED as LOGINS
from tests.interleavings.test_owner_limits import Devices, Mode
from tests.interleavings.test_pairs import PLAYED, PLAYED_WITH_A_STRANGER
from tests.interleavings.test_tasks_of_one_request import PLAYED as TASKS
from tests.interleavings.test_tasks_of_one_request import OneRequest
from tests.interleavings.test_values_in_place import PLAYED as PLAYED_ON_A_LIST
from tests.interleavings.test_values_in_place import PLAYED_BY_TASKS, Lists, ListsOfTasks


def found_by(scenarios: Iterable[Scenario]) -> str:
    """Return the message of the first schedule that contradicts the model or an assertion of the core; "" if none does.

    Other errors do not count, because the planted fault itself may have raised them.
    """
    for scenario in scenarios:
        try:
            explore(scenario, switches=1 if isinstance(scenario, Devices | ListsOfTasks) else None)
        except AssertionError as error:
            if isinstance(error.__cause__, AssertionError):
                return str(error)
    return ""


@pytest.mark.proves("P2", "P4")
@pytest.mark.parametrize("fault", STORAGE_FAULTS)
def test_a_storage_that_breaks_a_promise_is_found_out(fault: type[Faulty]) -> None:
    site = Site(make=fault, taken=fault.needs_taken_ids)
    pairs = PLAYED_WITH_A_STRANGER if fault.needs_taken_ids else PLAYED
    assert "schedule" in found_by(Meeting(site, one, two) for one, two in pairs)


# -- faults of the core itself


SEARCHES: dict[str, Callable[[], Iterable[Scenario]]] = {
    "meetings": lambda: (Meeting(site, one, two) for site in [Site()] for one, two in PLAYED),
    "strangers": lambda: (
        Meeting(site, one, two) for site in [Site(taken=True)] for one, two in PLAYED_WITH_A_STRANGER
    ),
    "tasks": lambda: (OneRequest(site, one, two) for site in [Site(replies=True)] for one, two in TASKS),
    "lists": lambda: (Lists(site, one, two) for site in [Site()] for one, two in PLAYED_ON_A_LIST),
    "list of tasks": lambda: (
        ListsOfTasks(site, one, two) for site in [Site(replies=True)] for one, two in PLAYED_BY_TASKS
    ),
    "doubts": lambda: (
        Doubtful(Site(make=partial(LosesOne, plan=plan)), plan, one, two, fresh=False)
        for plan in [Plan(number, arrives=True) for number in (1, 2, 3)]
        for one, two in played(plan.number)
    ),
    "refusals": lambda: devices("refuse", known=False, shared=False),
    "evictions": lambda: devices("evict_oldest", known=True, shared=True),
}


def devices(mode: Mode, *, known: bool, shared: bool) -> Iterator[Scenario]:
    site = Site(max_sessions_per_owner=1, on_owner_limit=mode)
    return (Devices(site, one, two, mode=mode, known=known, shared=shared) for one, two in LOGINS)


@pytest.mark.proves("P2", "P3", "P4")
@pytest.mark.parametrize("name", CORE_FAULTS)
def test_a_core_that_breaks_a_promise_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, search = CORE_FAULTS[name]
    plant(monkeypatch)
    assert "schedule" in found_by(SEARCHES[search]())
