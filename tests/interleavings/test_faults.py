"""Planted faults: whoever explores on top of one has to notice it, or the exploring is worth nothing."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import combinations_with_replacement

import pytest
from msgspec import Raw
from tests.interleavings.explore import Scenario, explore
from tests.interleavings.faults import STORAGE_FAULTS, Faulty
from tests.interleavings.programs import Meeting, Site, programs
from tests.interleavings.test_lost_replies import OTHERS, PROGRAMS, Doubtful, LosesOne, Plan
from tests.interleavings.test_owner_limits import PAIRS as LOGINS
from tests.interleavings.test_owner_limits import Devices

from sessioncore import Stored
from sessioncore.persistence._commit_steps import CommitSteps
from sessioncore.persistence._drive import Step
from sessioncore.persistence._owners import Owners
from sessioncore.session._delta import Delta

PAIRS = list(combinations_with_replacement(programs(1, 2), 2))


def found_by(scenarios: Iterable[Scenario]) -> str:
    """Return what the first schedule says that goes wrong; "" if none does."""
    for scenario in scenarios:
        try:
            explore(scenario)
        except AssertionError as error:
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


def sent_again(self: CommitSteps, _: Stored) -> Step | None:
    """Forget the doubt: make the write again without a look at what is there."""
    self.state.roll_back()
    return self.start()


def as_first_seen(self: Delta, data: dict[str, Raw], *_: object) -> None:
    """Do not compute mutations anew on what others have stored."""
    data.update(self.puts)


async def not_enforced(*_: object) -> bool:
    """Let every login pass that is stored already."""
    return False


def doubtful() -> Iterator[Scenario]:
    for number in (1, 2):
        plan = Plan(number, arrives=True)
        site = Site(make=partial(LosesOne, plan=plan))
        yield from (Doubtful(site, plan, one, two, fresh=False) for one in PROGRAMS[::3] for two in OTHERS[1:5:2])


def meetings() -> Iterator[Scenario]:
    site = Site()
    yield from (Meeting(site, one, two) for one, two in PAIRS if "mutate" in one and "mutate" in two)


def devices() -> Iterator[Scenario]:
    site = Site(max_sessions_per_owner=1, on_owner_limit="refuse")
    for known in (False, True):
        yield from (Devices(site, one, two, mode="refuse", known=known, shared=False) for one, two in LOGINS[:12])


CORE_FAULTS: dict[str, tuple[type, str, object, Callable[[], Iterable[Scenario]]]] = {
    "a doubt is forgotten": (CommitSteps, "_found", sent_again, doubtful),
    "a mutation is not computed anew": (Delta, "_put_anew", as_first_seen, meetings),
    "an owner's limit is not enforced": (Owners, "enforce_limit", not_enforced, devices),
}


@pytest.mark.parametrize("name", CORE_FAULTS)
def test_a_core_that_breaks_a_promise_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, method, fault, search = CORE_FAULTS[name]
    monkeypatch.setattr(where, method, fault)
    assert "schedule" in found_by(search())
