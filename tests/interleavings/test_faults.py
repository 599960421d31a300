"""Planted faults: whoever explores on top of one has to notice it, or the exploring is worth nothing."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import combinations_with_replacement, product

import pytest
from tests.interleavings.core_faults import CORE_FAULTS
from tests.interleavings.explore import Scenario, explore
from tests.interleavings.faults import STORAGE_FAULTS, Faulty
from tests.interleavings.programs import Meeting, Site, programs
from tests.interleavings.test_lost_replies import OTHERS, PROGRAMS, Doubtful, LosesOne, Plan
from tests.interleavings.test_owner_limits import PAIRS as LOGINS
from tests.interleavings.test_owner_limits import Devices
from tests.interleavings.test_tasks_of_one_request import PAIRS as OF_ONE_REQUEST
from tests.interleavings.test_tasks_of_one_request import PARTS, OneRequest

PAIRS = list(combinations_with_replacement(programs(1, 2), 2))


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


@pytest.mark.parametrize("fault", STORAGE_FAULTS)
def test_a_storage_that_breaks_a_promise_is_found_out(fault: type[Faulty]) -> None:
    pairs = [(one, two) for one, two in PAIRS if not fault.needs_taken_ids or "expire" not in one + two]
    site = Site(make=fault, taken=fault.needs_taken_ids)
    assert "schedule" in found_by(Meeting(site, one, two) for one, two in pairs)


def test_without_a_fault_nothing_is_found() -> None:
    site = Site(make=Faulty)
    assert not found_by(Meeting(site, one, two) for one, two in PAIRS[::40])


# -- faults of the core itself: they are searched for in what `make test` plays with the core as it is


def meetings() -> Iterator[Scenario]:
    site = Site()
    yield from (Meeting(site, one, two) for one, two in PAIRS[::3])


def strangers() -> Iterator[Scenario]:
    site = Site(taken=True)
    pairs = [(one, two) for one, two in PAIRS if "expire" not in one + two]
    yield from (Meeting(site, one, two) for one, two in pairs[::20])


def tasks() -> Iterator[Scenario]:
    site = Site(replies=True)
    for part in range(PARTS):
        yield from (OneRequest(site, one, two) for one, two in OF_ONE_REQUEST[part::PARTS][::12])


def doubts() -> Iterator[Scenario]:
    for number in (1, 2, 3):
        plan = Plan(number, arrives=True)
        site = Site(make=partial(LosesOne, plan=plan))
        pairs = product(PROGRAMS, OTHERS[number::3])
        yield from (Doubtful(site, plan, one, two, fresh=False) for one, two in pairs)


def refusals() -> Iterator[Scenario]:
    site = Site(max_sessions_per_owner=1, on_owner_limit="refuse")
    yield from (Devices(site, one, two, mode="refuse", known=False, shared=False) for one, two in LOGINS)


def evictions() -> Iterator[Scenario]:
    site = Site(max_sessions_per_owner=1, on_owner_limit="evict_oldest")
    yield from (Devices(site, one, two, mode="evict_oldest", known=True, shared=True) for one, two in LOGINS)


SEARCHES: dict[str, Callable[[], Iterable[Scenario]]] = {
    search.__name__: search for search in (meetings, strangers, tasks, doubts, refusals, evictions)
}


@pytest.mark.parametrize("name", CORE_FAULTS)
def test_a_core_that_breaks_a_promise_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, search = CORE_FAULTS[name]
    plant(monkeypatch)
    assert "schedule" in found_by(SEARCHES[search]())
