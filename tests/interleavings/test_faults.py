"""Planted faults: whoever explores on top of one has to notice it, or the exploring is worth nothing."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import combinations_with_replacement, islice

import pytest
from tests.interleavings.core_faults import CORE_FAULTS
from tests.interleavings.explore import Scenario, explore
from tests.interleavings.faults import STORAGE_FAULTS, Faulty
from tests.interleavings.programs import Meeting, Site, programs
from tests.interleavings.test_lost_replies import OTHERS, PROGRAMS, Doubtful, LosesOne, Plan
from tests.interleavings.test_owner_limits import PAIRS as LOGINS
from tests.interleavings.test_owner_limits import Devices
from tests.interleavings.test_tasks_of_one_request import PAIRS as OF_ONE_REQUEST
from tests.interleavings.test_tasks_of_one_request import OneRequest

PAIRS = list(combinations_with_replacement(programs(1, 2), 2))


def found_by(scenarios: Iterable[Scenario]) -> str:
    """Return what the first schedule says that contradicts the model; "" if none does. A crash does not count."""
    for scenario in scenarios:
        try:
            explore(scenario)
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


# -- faults of the core itself


def meetings() -> Iterator[Scenario]:
    site = Site()
    yield from (Meeting(site, one, two) for one, two in PAIRS)


def merges() -> Iterator[Scenario]:
    site = Site()
    yield from (Meeting(site, (verb, "save", "read"), ("set",)) for verb in ("set", "mutate"))


def strangers() -> Iterator[Scenario]:
    site = Site(taken=True)
    yield from (Meeting(site, one, two) for one, two in PAIRS if "expire" not in one + two)


def tasks() -> Iterator[Scenario]:
    site = Site(replies=True)
    yield from (OneRequest(site, one, two) for one, two in OF_ONE_REQUEST)


def doubts() -> Iterator[Scenario]:
    for number in (1, 2):
        plan = Plan(number, arrives=True)
        site = Site(make=partial(LosesOne, plan=plan))
        yield from (Doubtful(site, plan, one, two, fresh=False) for one in PROGRAMS for two in OTHERS)


def refusals() -> Iterator[Scenario]:
    site = Site(max_sessions_per_owner=1, on_owner_limit="refuse")
    yield from (Devices(site, one, two, mode="refuse", known=False, shared=False) for one, two in LOGINS)


def evictions() -> Iterator[Scenario]:
    site = Site(max_sessions_per_owner=1, on_owner_limit="evict_oldest")
    yield from (Devices(site, one, two, mode="evict_oldest", known=True, shared=True) for one, two in LOGINS)


SEARCHES: dict[str, Callable[[], Iterable[Scenario]]] = {
    search.__name__: search for search in (meetings, merges, strangers, tasks, doubts, refusals, evictions)
}


@pytest.mark.parametrize("search", SEARCHES.values())
def test_without_a_fault_the_same_search_finds_nothing(search: Callable[[], Iterable[Scenario]]) -> None:
    assert not found_by(islice(search(), 0, None, 40))


@pytest.mark.parametrize("name", CORE_FAULTS)
def test_a_core_that_breaks_a_promise_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, search = CORE_FAULTS[name]
    plant(monkeypatch)
    assert "schedule" in found_by(SEARCHES[search]())
