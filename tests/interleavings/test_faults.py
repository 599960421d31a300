"""Planted faults: whoever explores with one of them has to notice it, within what `make test` plays."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pytest
from tests.interleavings.core_faults import CORE_FAULTS
from tests.interleavings.explore import Scenario, explore
from tests.interleavings.faults import STORAGE_FAULTS, Faulty
from tests.interleavings.programs import Meeting, Site
from tests.interleavings.test_lost_replies import Doubtful, LosesOne, Plan, played
from tests.interleavings.test_owner_limits import PLAYED as LOGINS
from tests.interleavings.test_owner_limits import Devices
from tests.interleavings.test_pairs import PLAYED, PLAYED_WITH_A_STRANGER
from tests.interleavings.test_tasks_of_one_request import PLAYED as TASKS
from tests.interleavings.test_tasks_of_one_request import OneRequest


def found_by(scenarios: Iterable[Scenario]) -> str:
    """Return what the first schedule says that contradicts the model or an assertion of the core; "" if none does.

    Any other error does not count: it may be the planted fault itself that crashed.
    """
    for scenario in scenarios:
        try:
            explore(scenario, switches=1 if isinstance(scenario, Devices) else None)
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


def meetings() -> Iterator[Scenario]:
    site = Site()
    yield from (Meeting(site, one, two) for one, two in PLAYED)


def strangers() -> Iterator[Scenario]:
    site = Site(taken=True)
    yield from (Meeting(site, one, two) for one, two in PLAYED_WITH_A_STRANGER)


def tasks() -> Iterator[Scenario]:
    site = Site(replies=True)
    yield from (OneRequest(site, one, two) for one, two in TASKS)


def doubts() -> Iterator[Scenario]:
    for number in (1, 2, 3):
        plan = Plan(number, arrives=True)
        site = Site(make=partial(LosesOne, plan=plan))
        yield from (Doubtful(site, plan, one, two, fresh=False) for one, two in played(number))


def refusals() -> Iterator[Scenario]:
    site = Site(max_sessions_per_owner=1, on_owner_limit="refuse")
    yield from (Devices(site, one, two, mode="refuse", known=False, shared=False) for one, two in LOGINS)


def evictions() -> Iterator[Scenario]:
    site = Site(max_sessions_per_owner=1, on_owner_limit="evict_oldest")
    yield from (Devices(site, one, two, mode="evict_oldest", known=True, shared=True) for one, two in LOGINS)


SEARCHES: dict[str, Callable[[], Iterable[Scenario]]] = {
    search.__name__: search for search in (meetings, strangers, tasks, doubts, refusals, evictions)
}


@pytest.mark.proves("P2", "P3", "P4")
@pytest.mark.parametrize("name", CORE_FAULTS)
def test_a_core_that_breaks_a_promise_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, search = CORE_FAULTS[name]
    plant(monkeypatch)
    assert "schedule" in found_by(SEARCHES[search]())
