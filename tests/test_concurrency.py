"""Attack list C: parallel requests on one session, interleaved on purpose and at random."""

import random
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.stores import SpyStorage
from tests.views import Visitor

from sessioncore import (
    MemoryStorage,
    Session,
    SessionConfig,
    SessionGone,
    SessionStore,
    SQLiteStorage,
    Storage,
    StorageError,
    StorageUnavailable,
    Stored,
)
from sessioncore.storage import KeepsTombstones, capabilities_of
from sessioncore.testing import ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SessionStore]:
    storage: Storage = MemoryStorage() if request.param == "memory" else SQLiteStorage(tmp_path / "sessions.sqlite3")
    async with SessionStore(SessionConfig(storage=storage)) as opened:
        yield opened


async def at_once(count: int, work: Callable[[int], Any]) -> None:
    """Run `work(i)` in parallel; all have loaded before any goes on."""
    async with anyio.create_task_group() as group:
        for index in range(count):
            group.start_soon(work, index)


async def test_fifty_parallel_requests_each_keep_their_key(store: SessionStore) -> None:
    session = await store.create({"start": True})

    async def request(index: int) -> None:
        visitor = Visitor(store)
        exchange = await visitor.arrive(session.id)
        await anyio.lowlevel.checkpoint()
        exchange.session[f"k{index}"] = index
        await visitor.leave(exchange)

    await at_once(50, request)
    after = await store.get_by_id(session.id)
    assert dict(after) == {"start": True, **{f"k{i}": i for i in range(50)}}


async def test_fifty_parallel_increments_count_to_fifty(store: SessionStore) -> None:
    session = await store.create({})

    async def request(index: int) -> None:
        visitor = Visitor(store)
        exchange = await visitor.arrive(session.id)
        await anyio.lowlevel.checkpoint()
        exchange.session.mutate("n", lambda n: n + 1, default=0)
        await visitor.leave(exchange)

    await at_once(50, request)
    assert (await store.get_by_id(session.id))["n"] == 50


async def test_parallel_mutations_of_a_list_lose_no_item(store: SessionStore) -> None:
    session = await store.create({"items": []})

    async def request(index: int) -> None:
        visitor = Visitor(store)
        exchange = await visitor.arrive(session.id)
        assert exchange.session["items"] == [] or exchange.session["items"]
        exchange.session.mutate("items", lambda items: [*items, index])
        await visitor.leave(exchange)

    await at_once(20, request)
    assert sorted((await store.get_by_id(session.id))["items"]) == list(range(20))


async def test_a_slow_request_never_brings_a_logged_out_session_back(store: SessionStore) -> None:
    for _ in range(20):
        session = await store.create({"user": "ada"})
        slow, logout = Visitor(store), Visitor(store)
        slow_exchange = await slow.arrive(session.id)
        slow_exchange.session["viewed"] = 1
        logout_exchange = await logout.arrive(session.id)
        await logout_exchange.session.reset()
        await logout.leave(logout_exchange)
        assert await slow.leave(slow_exchange) == []
        assert await store.delete(session.id) is False
    assert await store.reset() == 0  # nothing under any ID


async def test_random_logout_races_resurrect_nothing(store: SessionStore) -> None:
    dice = random.Random(7)
    for _ in range(30):
        session = await store.create({"user": "ada"}, owner="ada")
        ended = anyio.Event()

        async def write(index: int, session: Session = session) -> None:
            visitor = Visitor(store)
            exchange = await visitor.arrive(session.id)
            for _ in range(dice.randrange(4)):
                await anyio.lowlevel.checkpoint()
            if index % 3 == 0 and not exchange.session.fresh:
                await exchange.session.regenerate()
            if not exchange.session.fresh:
                exchange.session[f"k{index}"] = index
            await visitor.leave(exchange)

        async def logout(session: Session = session, ended: anyio.Event = ended) -> None:
            for _ in range(dice.randrange(4)):
                await anyio.lowlevel.checkpoint()
            await store.revoke_all("ada")
            ended.set()

        async with anyio.create_task_group() as group:
            for index in range(6):
                group.start_soon(write, index)
            group.start_soon(logout)
        await store.revoke_all("ada")
        assert await store.sessions_of("ada") == []
        assert await store.reset() == 0


@pytest.mark.parametrize("moment", ["listed", "loaded", "about to be deleted"])
async def test_revoke_all_finds_a_session_that_moves_while_it_looks(moment: str) -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    session = await store.create({"n": 1}, owner="ada")

    async def move() -> None:
        visitor = Visitor(store)
        exchange = await visitor.arrive(session.id)
        await exchange.session.regenerate()
        await visitor.leave(exchange)

    match moment:  # listed under the old key, deleted under none
        case "listed":
            storage.after["owned_keys"] = move
        case "loaded":
            storage.after["load"] = move
        case _:
            storage.before["delete"] = move
    assert await store.revoke_all("ada") == 1
    assert len(storage.inner) == 0


async def test_revoke_all_leaves_a_login_that_comes_after_it_has_begun() -> None:
    clock = ManualClock()
    storage = SpyStorage(clock)
    store = SessionStore(SessionConfig(storage=storage, clock=clock))
    old = await store.create({}, owner="ada")

    async def log_in_anew() -> None:
        clock.advance(1)
        await store.create({"new": True}, owner="ada")

    storage.before["delete"] = log_in_anew
    assert await store.revoke_all("ada") == 1
    [left] = await store.sessions_of("ada")
    assert left.handle != old.handle


async def test_twenty_parallel_rotations_leave_one_session(store: SessionStore) -> None:
    session = await store.create({"n": 1}, owner="ada")
    visitors = [Visitor(store) for _ in range(20)]

    async def request(index: int) -> None:
        exchange = await visitors[index].arrive(session.id)
        await anyio.lowlevel.checkpoint()
        if not exchange.session.fresh:
            await exchange.session.regenerate()
        await visitors[index].leave(exchange)

    await at_once(20, request)
    winners = [visitor for visitor in visitors if visitor.sid is not None]
    assert len(winners) == 1
    assert len(await store.sessions_of("ada")) == 1
    assert await store.delete(winners[0].sid or "")
    assert await store.reset() == 0


async def test_a_rotated_session_drops_the_changes_of_requests_under_the_old_id(store: SessionStore) -> None:
    session = await store.create({"n": 1})
    slow = Visitor(store)
    slow_exchange = await slow.arrive(session.id)
    slow_exchange.session["n"] = 99
    quick = Visitor(store)
    exchange = await quick.arrive(session.id)
    await exchange.session.login("ada")
    await quick.leave(exchange)
    await slow.leave(slow_exchange)
    assert dict(await store.get_by_id(quick.sid or "")) == {"n": 1}
    follows = KeepsTombstones in capabilities_of(store.storage)
    assert await store.delete(session.id) is follows, "the old ID still leads to the session's end"
    assert await store.delete(quick.sid or "") is not follows


async def test_a_conflict_merges_by_key_and_tells_the_number_of_tries() -> None:
    events: list[Any] = []
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage, on_event=events.append))
    session = await store.create({"a": 1, "b": 1, "gone": 1, "list": [1]})
    first, second = Visitor(store), Visitor(store)
    one, two = await first.arrive(session.id), await second.arrive(session.id)
    one.session["a"] = 2
    one.session["list"].append(2)
    del one.session["gone"]
    two.session["b"] = 2
    two.session["new"] = 3
    await second.leave(two)
    await one.session.save()
    assert dict(one.session) == {"a": 2, "b": 2, "list": [1, 2], "new": 3}  # the session shows what was stored
    one.session["list"].append(3)  # and goes on noticing changes in place
    await first.leave(one)
    assert dict(await store.get_by_id(session.id)) == {"a": 2, "b": 2, "list": [1, 2, 3], "new": 3}
    assert [event.detail for event in events if event.kind.value == "conflict"] == ["2"]


async def test_a_mutation_is_applied_to_the_value_of_the_others() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    session = await store.create({"n": 1})
    exchange = await Visitor(store).arrive(session.id)
    assert exchange.session.mutate("n", lambda n: n * 10) == 10
    assert exchange.session.mutate("n", lambda n: n + 1) == 11

    async def interfere() -> None:
        async with store.open(session.id) as other:
            other["n"] = 5

    storage.before["replace"] = interfere
    await exchange.commit(200)
    assert exchange.session["n"] == 51
    await exchange.finish()
    assert (await store.get_by_id(session.id))["n"] == 51


async def test_a_mutation_after_a_plain_write_counts_as_that_write() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    session = await store.create({"n": 1})
    exchange = await Visitor(store).arrive(session.id)
    exchange.session["n"] = 100
    exchange.session.mutate("n", lambda n: n + 1)

    async def interfere() -> None:
        async with store.open(session.id) as other:
            other["n"] = 5

    storage.before["replace"] = interfere
    await exchange.commit(200)
    await exchange.finish()
    assert (await store.get_by_id(session.id))["n"] == 101


async def test_a_change_in_place_before_a_mutation_is_not_lost_in_a_conflict() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    session = await store.create({"items": ["a"], "other": 0})
    exchange = await Visitor(store).arrive(session.id)
    exchange.session["items"].append("b")
    exchange.session.mutate("items", lambda items: [*items, "c"])

    async def interfere() -> None:
        async with store.open(session.id) as other:
            other["other"] = 1

    storage.before["replace"] = interfere
    await exchange.commit(200)
    await exchange.finish()
    assert dict(await store.get_by_id(session.id)) == {"items": ["a", "b", "c"], "other": 1}


async def test_a_list_that_was_stored_as_something_else_is_not_written_again(store: SessionStore) -> None:
    """It would take away what others have stored under that key since."""
    session = await store.create({"n": [1], "m": 1})
    assert session["n"] == [1]
    session["n"] = 2
    await session.save()
    async with store.open(session.id) as other:
        other["n"] = 3
    session["m"] = 2
    await session.save()
    assert dict(await store.get_by_id(session.id)) == dict(session) == {"n": 3, "m": 2}


async def test_a_list_that_takes_the_place_of_an_equal_one_may_be_changed_later(store: SessionStore) -> None:
    session = await store.get_by_id((await store.create({"items": [1]})).id)
    session["items"] = [1]
    await session.save()
    session["items"].append(2)
    await session.save()
    assert (await store.get_by_id(session.id))["items"] == [1, 2]


async def test_a_default_for_mutate_is_never_shared_between_tries() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    session = await store.create({"other": 0})
    exchange = await Visitor(store).arrive(session.id)
    default: list[int] = []

    def append(items: list[int]) -> list[int]:
        items.append(1)
        return items

    exchange.session.mutate("items", append, default=default)

    async def interfere() -> None:
        async with store.open(session.id) as other:
            other["other"] = 1

    storage.before["replace"] = interfere
    await exchange.commit(200)
    await exchange.finish()
    assert default == []
    assert (await store.get_by_id(session.id))["items"] == [1]


async def test_a_mutation_of_a_key_that_another_request_deleted_yields_to_the_deletion() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    session = await store.create({"n": 1, "m": 1})
    exchange = await Visitor(store).arrive(session.id)
    exchange.session.mutate("n", lambda n: n + 1)
    exchange.session["m"] = 2

    async def interfere() -> None:
        async with store.open(session.id) as other:
            del other["n"]

    storage.before["replace"] = interfere
    await exchange.commit(200)
    await exchange.finish()
    assert dict(await store.get_by_id(session.id)) == {"m": 2}


async def test_login_meets_a_conflict_and_drops_what_another_owner_wrote_meanwhile() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    session = await store.create({"cart": 1})
    visitor = Visitor(store)
    exchange = await visitor.arrive(session.id)
    await exchange.session.login("ada")
    exchange.session["hello"] = "ada"

    async def interfere() -> None:
        async with store.open(session.id) as other:
            other.bind_owner("mallory")
            other["secret"] = "mallory's"

    storage.before["move"] = interfere
    await visitor.leave(exchange)
    after = await store.get_by_id(visitor.sid or "")
    assert dict(after) == {"hello": "ada"}
    assert after.owner == "ada"


async def test_keys_that_this_process_cannot_decode_survive_a_write(store: SessionStore) -> None:
    class Note:
        pass

    newer = SessionStore(store.config)
    newer.register_type(Note, name="note", encode=lambda note: None, decode=lambda value: Note())
    session = await newer.create({"note": Note(), "n": 1})
    async with store.open(session.id) as older:
        older["n"] = 2
    again = await newer.get_by_id(session.id)
    assert isinstance(again["note"], Note)
    assert again["n"] == 2


async def test_endless_conflicts_end_in_an_error_and_never_in_silence() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage, storage_timeout=timedelta(milliseconds=50)))
    session = await store.create({"n": 0})
    exchange = await Visitor(store).arrive(session.id)
    exchange.session["mine"] = 1

    async def interfere() -> None:
        storage.before["replace"] = interfere
        stored = await storage.inner.load("session:" + session.handle)
        assert isinstance(stored, Stored)
        await storage.inner.replace("session:" + session.handle, stored.data, 60, version=stored.version)
        await anyio.sleep(0.001)

    storage.before["replace"] = interfere
    with pytest.raises(StorageUnavailable):
        await exchange.commit(200)
    await exchange.finish(failed=True)


async def test_a_taken_id_is_never_written_to() -> None:
    storage = SpyStorage()
    ids = iter(["a" * 43, "a" * 43, "b" * 43, "a" * 43, "b" * 43, "c" * 43])
    store = SessionStore(SessionConfig(storage=storage, id_generator=lambda: next(ids)))
    stranger = await store.create({"secret": 1})
    own = await store.create({"n": 1})
    assert (stranger.id, own.id) == ("a" * 43, "b" * 43)
    await own.regenerate()
    own["n"] = 2
    await own.save()
    assert own.id == "c" * 43
    assert dict(await store.get_by_id("a" * 43)) == {"secret": 1}
    assert dict(await store.get_by_id("c" * 43)) == {"n": 2}


async def test_a_generator_that_always_collides_ends_in_an_error() -> None:
    store = SessionStore(SessionConfig(storage=MemoryStorage(), id_generator=lambda: "a" * 43))
    first = await store.create({"secret": 1})
    with pytest.raises(StorageError, match="id_generator"):
        await store.create({"n": 1})
    with pytest.raises(StorageError, match="id_generator"):
        await first.regenerate()
        await first.save()
    assert dict(await store.get_by_id("a" * 43)) == {"secret": 1}


async def test_a_move_that_is_refused_is_no_collision_and_no_logout() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    sid = (await store.create({"n": 1})).id
    visitor = Visitor(store)
    exchange = await visitor.arrive(sid)

    async def refuse() -> None:
        raise StorageError("a right is missing")

    storage.before["move"] = refuse
    await exchange.session.login("ada")
    with pytest.raises(StorageError, match="a right is missing"):
        await exchange.commit(200)
    await exchange.finish(failed=True)
    assert storage.calls.count("move") == 1
    assert sid is not None
    assert dict(await store.get_by_id(sid)) == {"n": 1}


async def test_one_session_used_by_several_tasks_of_a_request_keeps_every_change(store: SessionStore) -> None:
    session = await store.create({})
    visitor = Visitor(store)
    exchange = await visitor.arrive(session.id)

    async def task(index: int) -> None:
        await anyio.lowlevel.checkpoint()
        exchange.session[f"k{index}"] = index

    await at_once(10, task)
    await visitor.leave(exchange)
    assert len(await store.get_by_id(session.id)) == 10


async def test_expiry_between_load_and_save_is_gone(tmp_path: Path) -> None:
    now = [1000.0]
    store = SessionStore(SessionConfig(storage=MemoryStorage(clock=lambda: now[0]), clock=lambda: now[0]))
    session = await store.create({"n": 1})
    held = await store.get_by_id(session.id)
    held["n"] = 2
    now[0] += 1801
    with pytest.raises(SessionGone):
        await held.save()


async def test_background_work_is_told_when_its_session_was_ended(store: SessionStore) -> None:
    session = await store.create({"n": 1})
    with pytest.raises(SessionGone):
        async with store.open(session.id) as held:
            held["n"] = 2
            await store.delete(session.id)


async def test_background_work_that_fails_stores_nothing(store: SessionStore) -> None:
    session = await store.create({"n": 1})
    with pytest.raises(ZeroDivisionError):
        async with store.open(session.id) as held:
            held["n"] = 2 // 0
    assert (await store.get_by_id(session.id))["n"] == 1


async def test_cancellation_during_a_commit_leaves_before_or_after(store: SessionStore) -> None:
    session = await store.create({"n": 0, "m": 0})
    for number in range(1, 60):
        with anyio.move_on_after(0.0003 * (number % 7)):
            exchange = await Visitor(store).arrive(session.id)
            exchange.session["n"] = number
            exchange.session["m"] = number
            try:
                await exchange.commit(200)
            finally:
                await exchange.finish()
        after = await store.get_by_id(session.id)
        assert after["n"] == after["m"]
