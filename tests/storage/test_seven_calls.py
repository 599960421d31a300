"""A storage with the seven required calls and nothing else passes the kit, and says what it cannot do."""

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from tests.processes import ENVIRONMENT
from tests.storage.seven_calls import ServerStorage, SevenCallStorage, seven_call_rig
from tests.views import Visitor

from sessioncore import ConfigError, MemoryStorage, SessionConfig, SessionStore, StorageError
from sessioncore.storage import Clears, KeepsTombstones, Opens, Purges, Scans, capabilities_of
from sessioncore.testing import STORAGE_CHECKS, Check, FailingStorage, ManualClock, NotApplicable, Rig

pytestmark = pytest.mark.anyio

REQUIRED = [check for check in STORAGE_CHECKS if not check.needs]
OF_CAPABILITIES = [check for check in STORAGE_CHECKS if check.needs]


@pytest.mark.parametrize("check", REQUIRED)
async def test_it_keeps_the_contract_of_the_seven_calls(check: Check) -> None:
    clock = ManualClock()
    await check(seven_call_rig(SevenCallStorage(clock), clock))


async def test_a_check_of_what_it_does_not_declare_is_not_applicable() -> None:
    clock = ManualClock()
    for check in OF_CAPABILITIES:
        names = ", ".join(sorted(capability.__name__ for capability in check.needs))
        with pytest.raises(NotApplicable, match=f"SevenCallStorage does not declare {names}"):
            await check(seven_call_rig(SevenCallStorage(clock), clock))


@pytest.mark.parametrize("check", [check for check in STORAGE_CHECKS if check.needs == ServerStorage.capabilities])
async def test_one_that_bounds_its_calls_is_checked_for_that_too(check: Check) -> None:
    clock = ManualClock()
    await check(seven_call_rig(ServerStorage(clock), clock))


async def test_a_rig_of_a_storage_alone_waits_and_asks_by_load() -> None:
    timed = {"a_record_ends_with_its_ttl", "a_ttl_is_kept_exactly"}
    for check in (check for check in STORAGE_CHECKS if check.__name__ in timed):
        await check(Rig(MemoryStorage()))
        timed.remove(check.__name__)
    assert not timed


SUITE = """
import asyncio, unittest
from sessioncore.testing import STORAGE_CHECKS, Rig

class Nothing:
    pass

def test_a_check():
    check = next(check for check in STORAGE_CHECKS if check.needs)
    asyncio.run(check(Rig(Nothing())))

class Case(unittest.TestCase):
    def test_a_check(self):
        test_a_check()
"""


@pytest.mark.parametrize(("runner", "says"), [("pytest", "2 skipped"), ("unittest", "OK (skipped=1)")])
def test_a_check_that_does_not_apply_is_reported_as_skipped(tmp_path: Path, runner: str, says: str) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE, "utf-8")
    command = [sys.executable, "-m", runner, "test_suite.py"]
    environment = {**ENVIRONMENT, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert says in run.stdout + run.stderr


# -- sessions over it


def make_store(**settings: Any) -> tuple[SessionStore, list[str], ManualClock]:
    clock = ManualClock()
    events: list[str] = []
    config = SessionConfig(
        storage=SevenCallStorage(clock), clock=clock, on_event=lambda event: events.append(event.kind), **settings
    )
    return SessionStore(config), events, clock


async def no_keys(owner: str) -> list[str]:
    return []


async def test_what_needs_a_capability_says_so_and_the_rest_needs_none() -> None:
    store, _, _ = make_store()
    async with store:
        await store.create({"n": 1})
        await store.check()
        assert await store.purge_expired() == 0
        cast("SevenCallStorage", store.storage).owned_keys = no_keys  # type: ignore[method-assign]
        with pytest.raises(StorageError, match=r"owned_keys\(\) did not find"):
            await store.check()
        with pytest.raises(ConfigError, match=r"SevenCallStorage cannot find .* reset"):
            await store.reset()


@pytest.mark.parametrize("rotates", [False, True])
async def test_a_record_that_cannot_be_read_any_more_is_not_overwritten(rotates: bool) -> None:
    store, events, _ = make_store()
    storage = cast("SevenCallStorage", store.storage)
    exchange = await Visitor(store).arrive((await store.create({"n": 1})).id)
    exchange.session["n"] = 2
    if rotates:
        await exchange.session.regenerate()
    storage.rows.update(dict.fromkeys(storage.rows, "another program's"))
    with pytest.raises(StorageError, match="nothing was stored"):
        await exchange.commit(200)
    await exchange.finish(failed=True)
    assert [*storage.rows.values()] == ["another program's"]
    assert events.count("corrupt") == 1


async def test_a_failing_storage_in_front_of_it_can_do_no_more() -> None:
    behind = SevenCallStorage(ManualClock())
    assert capabilities_of(FailingStorage(behind)) == {Opens}
    kept = {Clears, KeepsTombstones, Opens, Purges, Scans}
    assert capabilities_of(FailingStorage(FailingStorage(MemoryStorage()))) == kept
    store = SessionStore(SessionConfig(storage=FailingStorage(behind)))
    async with store:
        await store.create({"n": 1})
        with pytest.raises(ConfigError, match="FailingStorage cannot find"):
            await store.reset()
