"""A storage with the seven required calls and nothing else passes the kit, and serves the core."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from tests.storage.seven_calls import ServerStorage, SevenCallStorage, seven_call_rig
from tests.views import Visitor

from sessioncore import (
    ConfigError,
    MemoryStorage,
    OwnerLimitReached,
    SessionConfig,
    SessionNotFound,
    SessionStore,
    StorageError,
)
from sessioncore.storage import (
    AnswersNow,
    BoundsCalls,
    Clears,
    KeepsTombstones,
    LoadsMany,
    Opens,
    Purges,
    capabilities_of,
)
from sessioncore.testing import STORAGE_CHECKS, Check, FailingStorage, ManualClock, NotApplicable

pytestmark = pytest.mark.anyio

REQUIRED = [check for check in STORAGE_CHECKS if not check.needs]
OF_CAPABILITIES = [check for check in STORAGE_CHECKS if check.needs]


@pytest.mark.parametrize("check", REQUIRED)
async def test_it_keeps_the_contract_of_the_seven_calls(check: Check) -> None:
    clock = ManualClock()
    await check(seven_call_rig(SevenCallStorage(clock), clock))


@pytest.mark.parametrize("check", OF_CAPABILITIES)
async def test_a_check_of_what_it_does_not_declare_is_not_applicable(check: Check) -> None:
    clock = ManualClock()
    names = ", ".join(sorted(capability.__name__ for capability in check.needs))
    with pytest.raises(NotApplicable, match=f"SevenCallStorage does not declare {names}"):
        await check(seven_call_rig(SevenCallStorage(clock), clock))


@pytest.mark.parametrize("check", [check for check in STORAGE_CHECKS if check.needs <= ServerStorage.capabilities])
async def test_one_that_bounds_its_calls_is_checked_for_that_too(check: Check) -> None:
    clock = ManualClock()
    await check(seven_call_rig(ServerStorage(clock), clock))


def test_every_capability_has_checks() -> None:
    kinds = {AnswersNow, BoundsCalls, Clears, KeepsTombstones, LoadsMany, Opens, Purges}
    assert {frozenset[type]({kind}) for kind in kinds} <= {check.needs for check in OF_CAPABILITIES}


SUITE = """
import asyncio, unittest
from sessioncore.testing import STORAGE_CHECKS, Rig

class Nothing:
    pass

def test_a_check():
    check = next(check for check in STORAGE_CHECKS if check.needs)
    asyncio.run(check(Rig(Nothing(), 0.05, None, None)))

class Case(unittest.TestCase):
    def test_a_check(self):
        test_a_check()
"""


@pytest.mark.parametrize(("runner", "says"), [("pytest", "2 skipped"), ("unittest", "OK (skipped=1)")])
def test_a_check_that_does_not_apply_is_reported_as_skipped(tmp_path: Path, runner: str, says: str) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE, "utf-8")
    where = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", runner, "test_suite.py"]
    run = subprocess.run(command, cwd=tmp_path, env=where, capture_output=True, text=True, check=True)
    assert says in run.stdout + run.stderr


# -- sessions over it


def make_store(**settings: Any) -> tuple[SessionStore, list[str], ManualClock]:
    clock = ManualClock()
    events: list[str] = []
    config = SessionConfig(
        storage=SevenCallStorage(clock), clock=clock, on_event=lambda event: events.append(event.kind), **settings
    )
    return SessionStore(config), events, clock


async def logged_in(store: SessionStore, owner: str, sid: str | None = None) -> Visitor:
    visitor = Visitor(store)
    exchange = await visitor.arrive(sid)
    await exchange.session.login(owner)
    await visitor.leave(exchange)
    return visitor


async def is_live(store: SessionStore, visitor: Visitor) -> bool:
    assert visitor.sid is not None
    try:
        await store.get_by_id(visitor.sid)
    except SessionNotFound:
        return False
    return True


async def test_a_login_moves_the_session_to_a_new_id() -> None:
    store, _, clock = make_store()
    old = (await store.create({"cart": ["tea"]})).id
    visitor = await logged_in(store, "ada", old)
    assert visitor.sid not in (None, old)
    session = await store.get_by_id(str(visitor.sid))
    assert (session.owner, session["cart"]) == ("ada", ["tea"])
    with pytest.raises(SessionNotFound):
        await store.get_by_id(old)
    clock.advance(31 * 60)
    assert not await is_live(store, visitor)


async def test_parallel_requests_keep_each_others_keys() -> None:
    store, events, _ = make_store()
    sid = (await store.create({"n": 0})).id
    visitor = Visitor(store)
    first, second = await visitor.arrive(sid), await visitor.arrive(sid)
    first.session["a"], second.session["b"] = 1, 2
    for exchange in (first, second):
        exchange.session.mutate("n", lambda n: n + 1)
        await visitor.leave(exchange)
    assert dict(await store.get_by_id(sid)) == {"n": 2, "a": 1, "b": 2}
    assert events.count("conflict") == 1


async def test_a_logout_is_final_for_a_request_in_flight() -> None:
    store, events, _ = make_store()
    visitor = await logged_in(store, "ada")
    late, logout = await visitor.arrive(), await visitor.arrive()
    late.session["n"] = 1
    await logout.session.destroy()
    await visitor.leave(logout)
    await late.commit(200)
    await late.finish()
    assert events.count("gone") == 1
    assert await store.sessions_of("ada") == []


async def test_an_owners_limit_ends_the_oldest_session() -> None:
    store, _, clock = make_store(max_sessions_per_owner=2)
    visitors: list[Visitor] = []
    for _ in range(3):
        visitors.append(await logged_in(store, "ada"))
        clock.advance(1)
    assert [await is_live(store, visitor) for visitor in visitors] == [False, True, True]
    assert await store.revoke_all("ada") == 2


async def test_an_owners_limit_may_refuse() -> None:
    store, _, _ = make_store(max_sessions_per_owner=1, on_owner_limit="refuse")
    first = await logged_in(store, "ada")
    with pytest.raises(OwnerLimitReached):
        await logged_in(store, "ada")
    assert await is_live(store, first)


async def test_what_needs_a_capability_says_so_and_the_rest_needs_none() -> None:
    store, _, _ = make_store()
    async with store:
        await store.create({"n": 1})
        await store.check()
        assert await store.purge_expired() == 0
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
    assert capabilities_of(FailingStorage(FailingStorage(MemoryStorage()))) == {Clears, KeepsTombstones, Opens, Purges}
    store = SessionStore(SessionConfig(storage=FailingStorage(behind)))
    async with store:
        await store.create({"n": 1})
        with pytest.raises(ConfigError, match="FailingStorage cannot find"):
            await store.reset()
