"""Requests that write one session at the same time: how they are merged, and which IDs are given out."""

import asyncio
import select
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.kit import BOTH_LOOPS, Lab, Work, doing, write
from tests.stores import SuspendingStorage
from tests.views import Visitor

from sessioncore import EventKind, Session, SessionConfig, SessionStore, StorageError, StorageUnavailable
from sessioncore.storage import MemoryStorage, SQLiteStorage, Storage

pytestmark = pytest.mark.anyio


async def merged(before: dict[str, object], mine: Work, theirs: Work, operation: str = "replace") -> dict[str, object]:
    """What is stored after a request whose first write meets another request's; its session shows the same."""
    lab = Lab()
    await lab.begin(**before)

    async def interfere() -> None:
        async with lab.store.open(lab.visitor.sid or "") as other:
            await theirs(other)

    exchange = await lab.visitor.arrive()
    await mine(exchange.session)
    lab.storage.before[operation] = interfere
    await lab.visitor.leave(exchange)
    data = await lab.data()
    assert data == dict(exchange.session)
    assert data is not None
    return data


@pytest.mark.proves("P4", "AT-43")
async def test_a_conflict_merges_by_key_and_reports_the_number_of_tries(lab: Lab) -> None:
    await lab.begin(moved=1, a=1, b=1, gone=1, list=[1])
    one, two = await lab.visitor.arrive(), await lab.visitor.arrive()
    one.session["a"] = 2
    one.session["list"].append(2)
    del one.session["gone"]
    two.session.update(b=2, new=3)
    two.session["moved"] = two.session.pop("moved")  # to the end
    await lab.visitor.leave(two)
    await one.session.save()  # the session shows what was stored, in its order
    assert [*one.session.items()] == [("a", 2), ("b", 2), ("list", [1, 2]), ("new", 3), ("moved", 1)]
    one.session["list"].append(3)  # and still notices changes inside of values
    await lab.visitor.leave(one)
    assert await lab.data() == {"a": 2, "b": 2, "list": [1, 2, 3], "new": 3, "moved": 1}
    assert [event.detail for event in lab.sent(EventKind.CONFLICT)] == ["2"]


@pytest.mark.proves("P4", "AT-44")
async def test_a_mutation_is_applied_to_what_others_stored() -> None:
    theirs = doing(lambda session: session.set("n", 5))

    async def twice(session: Session) -> None:
        assert session.mutate("n", lambda n: n * 10) == 10
        assert session.mutate("n", lambda n: n + 1) == 11

    assert await merged({"n": 1}, twice, theirs) == {"n": 51}

    async def after_a_write(session: Session) -> None:
        session["n"] = 100
        session.mutate("n", lambda n: n + 1)

    assert await merged({"n": 1}, after_a_write, theirs) == {"n": 101}  # it becomes part of that write


def add_tea(number: int) -> Work:
    return doing(lambda session: session.mutate("basket", lambda basket: {"tea": basket["tea"] + number}))


@pytest.mark.proves("P4")
async def test_a_mutation_is_applied_once_also_when_that_gives_what_was_loaded() -> None:
    assert await merged({"basket": {"tea": 1}}, add_tea(1), add_tea(-1)) == {"basket": {"tea": 1}}


def mutate_then_append(session: Session) -> None:
    session.mutate("items", lambda items: [*items, "mutated"])
    session["items"].append("appended")


def append_between_mutations(session: Session) -> None:
    mutate_then_append(session)
    session.mutate("items", lambda items: [*items, "again"])


@pytest.mark.proves("P3", "P4")
@pytest.mark.parametrize("default", [None, ["first"]])
async def test_a_change_in_place_of_what_mutate_returned_counts_as_a_write(default: list[str] | None) -> None:
    before: dict[str, object] = {"n": 1} if default else {"items": ["first"]}
    theirs = doing(lambda session: session.set("items", ["theirs"]))

    def mine(session: Session) -> None:
        if default:
            session.mutate("items", lambda items: items, default)
        mutate_then_append(session)

    assert (await merged(before, doing(mine), theirs))["items"] == ["first", "mutated", "appended"]
    if not default:
        stored = await merged(before, doing(append_between_mutations), theirs)
        assert stored["items"] == ["first", "mutated", "appended", "again"]


async def test_a_default_for_mutate_is_never_shared_between_tries() -> None:
    default: list[int] = []

    def append(items: list[int]) -> list[int]:
        items.append(1)
        return items

    mine = doing(lambda session: session.mutate("items", append, default=default))
    assert await merged({"n": 1}, mine, write) == {"n": 2, "items": [1]}
    assert default == []


async def test_a_mutation_yields_to_a_deletion_and_a_write_does_not() -> None:
    def mine(session: Session) -> None:
        session.mutate("n", lambda n: n + 1)
        session["m"] = session.pop("m")  # deleted and set again is a write

    assert await merged({"n": 1, "m": 1}, doing(mine), doing(Session.clear)) == {"m": 1}


async def test_a_mutation_that_fails_on_what_others_stored_is_an_error_of_that_save_alone(lab: Lab) -> None:
    session = await lab.held()
    session.mutate("n", lambda n: 10 // n)
    session["m"] = 1
    async with lab.store.open(session.id) as other:
        other["n"] = 0
    with pytest.raises(ZeroDivisionError):
        await session.save()
    async with lab.store.open(session.id) as other:
        other["n"] = 5
    await session.save()
    assert await lab.data() == dict(session) == {"n": 2, "m": 1}


async def test_login_drops_what_another_owner_wrote_meanwhile() -> None:
    async def mine(session: Session) -> None:
        await session.login("ada")
        session["hello"] = "ada"

    def theirs(session: Session) -> None:
        session.bind_owner("mallory")
        session["secret"] = "mallory's"

    assert await merged({"cart": 1}, mine, doing(theirs), "move") == {"hello": "ada"}


@pytest.mark.parametrize(("theirs", "kept"), [("guest", {"cart": 1, "tab": 2}), ("mallory", {})])
async def test_data_that_bind_owner_gave_to_the_one_who_logs_in_is_kept_unless_a_third_owner_appears(
    theirs: str, kept: dict[str, object]
) -> None:
    lab = Lab()
    session = await lab.held(cart=1)
    session.bind_owner("guest")
    await session.save()
    session.bind_owner("ada")
    await session.login("ada")

    async def meanwhile() -> None:
        async with lab.store.open(lab.visitor.sid or "") as other:
            other.bind_owner(theirs)
            other["tab"] = 2

    lab.storage.before["move"] = meanwhile
    await session.save()
    assert dict(await lab.store.get_by_id(session.id)) == dict(session) == kept


@BOTH_LOOPS
async def test_endless_conflicts_end_in_an_error_and_leave_the_loop_to_others() -> None:
    lab = Lab(storage_timeout=timedelta(seconds=0.1))
    exchange = await lab.begin_request()
    exchange.session["mine"] = 1
    turns, over = 0, False

    async def write_first() -> None:
        lab.storage.before["replace"] = write_first
        there = await lab.stored(exchange.session)
        key = f"session:{exchange.session.handle}"
        await lab.storage.inner.replace(key, there.data, 60, version=there.version)

    async def count() -> None:
        nonlocal turns
        while not over:
            turns += 1
            await anyio.lowlevel.checkpoint()

    lab.storage.before["replace"] = write_first
    async with anyio.create_task_group() as group:
        group.start_soon(count)
        with pytest.raises(StorageUnavailable, match="other requests kept writing"):
            await exchange.session.save()
        over = True
    [conflict] = lab.sent(EventKind.CONFLICT)
    assert int(conflict.detail) > 1
    # From the third try on, other tasks get a turn before each. The number of tries depends on the machine.
    assert turns >= int(conflict.detail) - 3
    lab.storage.before.clear()
    await exchange.session.save()
    assert await lab.data() == {"n": 1, "mine": 1}


# -- IDs that are taken


@pytest.mark.proves("P1", "AT-54")
async def test_a_taken_id_is_never_written_to() -> None:
    ids = iter(["a" * 43, "a" * 43, "b" * 43, "a" * 43, "b" * 43, "c" * 43])
    lab = Lab(id_generator=lambda: next(ids))
    stranger, own = await lab.store.create({"secret": 1}), await lab.store.create({"n": 1})
    assert (stranger.id, own.id) == ("a" * 43, "b" * 43)
    await own.regenerate()
    own["n"] = 2
    await own.save()
    assert own.id == "c" * 43
    assert await lab.data("a" * 43) == {"secret": 1}
    assert await lab.data("c" * 43) == {"n": 2}


@pytest.mark.proves("AT-54")
async def test_a_generator_that_always_collides_ends_in_an_error() -> None:
    ids = chain(["a" * 43, "b" * 43], repeat("a" * 43))
    lab = Lab(id_generator=lambda: next(ids))
    await lab.store.create({"secret": 1})
    own = await lab.store.create({"n": 1})
    with pytest.raises(StorageError, match="id_generator"):
        await lab.store.create({"n": 1})
    await own.regenerate()
    with pytest.raises(StorageError, match="id_generator"):
        await own.save()
    await own.destroy()
    assert await lab.data("a" * 43) == {"secret": 1}


# -- many at the same time, on storages with threads and without


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SessionStore]:
    storage: Storage = MemoryStorage() if request.param == "memory" else SQLiteStorage(tmp_path / "sessions.sqlite3")
    patient = timedelta(seconds=60)  # the machine may be busy
    async with SessionStore(SessionConfig(storage=storage, storage_timeout=patient)) as opened:
        yield opened


async def at_once(count: int, work: Callable[[int], Coroutine[Any, Any, object]]) -> None:
    async with anyio.create_task_group() as group:
        for index in range(count):
            group.start_soon(work, index)


@pytest.mark.proves("P4", "AT-43", "AT-44")
@BOTH_LOOPS
async def test_parallel_requests_lose_no_key_and_no_mutation(store: SessionStore) -> None:
    sid = (await store.create({"items": [], "basket": {"tea": 0}})).id

    async def request(index: int) -> None:
        async with Visitor(store, sid=sid).request() as session:
            await anyio.lowlevel.checkpoint()
            session[f"k{index}"] = index
            session.mutate("n", lambda n: n + 1, default=0)
            session.mutate("items", lambda items: [*items, index])
            await add_tea(1 if index % 3 else -1)(session)  # so that many results equal what another one has loaded

    await at_once(30, request)
    after = dict(await store.get_by_id(sid))
    assert sorted(after.pop("items")) == [*range(30)]
    assert after.pop("basket") == {"tea": 10}
    assert after == {"n": 30, **{f"k{index}": index for index in range(30)}}


@pytest.mark.proves("P4")
@pytest.mark.parametrize("limit", [None, 5])
@BOTH_LOOPS
async def test_many_parallel_writes_of_one_session_take_two_calls_each(limit: int | None) -> None:
    lab = Lab(kind=SuspendingStorage, max_sessions_per_owner=limit)
    sid = (await lab.begin(n=0)).sid

    async def request(_: int) -> None:
        async with Visitor(lab.store, sid=sid).request() as session:
            session.mutate("n", lambda n: n + 1)

    await at_once(100, request)
    assert await lab.data() == {"n": 100}
    assert lab.calls.count("replace") < 200  # 5,050, if each of them tried until it succeeded


@BOTH_LOOPS
async def test_commits_that_met_conflicts_go_on_after_the_process_was_stopped_for_longer_than_their_time() -> None:
    lab = Lab(kind=SuspendingStorage, storage_timeout=timedelta(seconds=0.2))
    sid = (await lab.begin(n=0)).sid

    async def request(_: int) -> None:
        async with Visitor(lab.store, sid=sid).request() as session:
            session.mutate("n", lambda n: n + 1)

    async def stop_in_the_queue() -> None:
        if lab.calls.count("replace") < 15:
            lab.storage.before["replace"] = stop_in_the_queue
        else:
            select.select([], [], [], 0.8)  # nothing runs, as when the process is stopped

    lab.storage.before["replace"] = stop_in_the_queue
    await at_once(12, request)
    assert await lab.data() == {"n": 12}
    assert lab.calls.count("replace") < 24  # those in the queue have stayed there


@BOTH_LOOPS
async def test_a_save_that_is_cancelled_in_the_queue_has_sent_nothing_and_can_be_repeated(
    lab: Lab, anyio_backend: str
) -> None:
    await lab.begin(n=0)
    one, two = await lab.visitor.arrive(), await lab.visitor.arrive()
    one.session["one"] = two.session["two"] = True
    released = anyio.Event()

    async def interfere() -> None:
        lab.storage.before["replace"] = interfere
        if lab.calls.count("replace") == 2:  # this save holds the queue
            await released.wait()
        else:
            async with lab.beside().open(lab.visitor.sid or "") as other:
                other["n"] += 1

    lab.storage.before["replace"] = interfere
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.session.save)
        await anyio.wait_all_tasks_blocked()
        if anyio_backend == "asyncio":  # a server cancels once, a scope again and again
            task = asyncio.ensure_future(two.session.save())
            await anyio.wait_all_tasks_blocked()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with anyio.move_on_after(0.1):
                await two.session.save()
        lab.storage.before.clear()
        released.set()
    await two.session.save()
    assert await lab.data() == {"n": 2, "one": True, "two": True}


@pytest.mark.proves("P2", "AT-47")
@BOTH_LOOPS
async def test_one_of_many_parallel_rotations_wins_and_a_logout_beats_them_all(store: SessionStore) -> None:
    sid = (await store.create({"n": 1}, owner="ada")).id
    visitors = [Visitor(store, sid=sid) for _ in range(20)]

    async def rotate(index: int) -> None:
        async with visitors[index].request() as session:
            await anyio.lowlevel.checkpoint()
            if not session.fresh:
                await session.regenerate()
                session[f"k{index}"] = index

    await at_once(20, rotate)
    [winner] = {visitor.sid for visitor in visitors} - {sid, None}
    assert len(await store.sessions_of("ada")) == 1
    visitors = [Visitor(store, sid=winner) for _ in range(6)]

    async def rotate_or_log_out(index: int) -> None:
        for _ in range(index):
            await anyio.lowlevel.checkpoint()
        await (store.revoke_all("ada") if index == 3 else rotate(index))

    await at_once(6, rotate_or_log_out)
    await store.revoke_all("ada")
    assert await store.sessions_of("ada") == []
    assert await store.reset() == 0  # nothing is stored under any ID


@pytest.mark.proves("AT-48")
@BOTH_LOOPS
async def test_parallel_first_requests_get_an_id_each_and_those_that_only_read_get_none(store: SessionStore) -> None:
    visitors = [Visitor(store) for _ in range(100)]

    async def visit(index: int) -> None:
        async with visitors[index].request() as session:
            await anyio.lowlevel.checkpoint()
            if session.get("n") is None and index % 2:
                session["n"] = index

    await at_once(100, visit)
    ids = [visitor.sid for visitor in visitors]
    assert [sid is not None for sid in ids] == [index % 2 == 1 for index in range(100)]
    assert [(await store.get_by_id(sid))["n"] for sid in ids if sid] == [*range(1, 100, 2)]
    assert await store.reset() == 50
