"""One session in several tasks of one request (AT-51): what one changes while another saves is not lost."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import anyio
import pytest
from tests.stores import SpyStorage
from tests.views import PlainView, Visitor

from sessioncore import Session, SessionConfig, SessionGone, SessionReleased, SessionStore, StorageUnavailable

pytestmark = pytest.mark.anyio


async def put(session: Session) -> None:
    session["k"] = 1


async def put_again(session: Session) -> None:
    session["n"] = 2


async def take_out(session: Session) -> None:
    del session["n"]
    session.set("n", None)


async def append(session: Session) -> None:
    session["items"].append(2)


async def mutate(session: Session) -> None:
    session.mutate("n", lambda n: n + 1)


async def idle(session: Session) -> None:
    session.set_idle_timeout(timedelta(hours=3))


async def bind(session: Session) -> None:
    session.bind_owner("ada")


async def regenerate(session: Session) -> None:
    await session.regenerate()


CHANGES: list[tuple[Callable[[Session], Awaitable[None]], dict[str, object]]] = [
    (put, {"k": 1}),
    (put_again, {"n": 2}),
    (take_out, {"n": None}),
    (append, {"items": [1, 2]}),
    (mutate, {"n": 2}),
    (idle, {}),
    (bind, {}),
    (regenerate, {}),
]


@pytest.mark.parametrize("operation", ["create", "replace", "move"])
@pytest.mark.parametrize(("change", "difference"), CHANGES)
async def test_what_is_changed_while_the_session_is_being_saved_is_stored_by_the_next_commit(
    operation: str, change: Callable[[Session], Awaitable[None]], difference: dict[str, object]
) -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    visitor = Visitor(store)
    if operation != "create":
        exchange = await visitor.arrive()
        exchange.session.update(n=0, items=[0])
        await visitor.leave(exchange)
    exchange = await visitor.arrive()
    session = exchange.session
    session.update(n=1, items=[1])
    if operation == "move":
        await session.regenerate()

    async def meanwhile() -> None:
        await change(session)

    storage.before[operation] = meanwhile
    await session.save()
    seen = dict(session)
    await visitor.leave(exchange)
    found = await store.get_by_id(visitor.sid or "")
    assert dict(found) == seen == {"n": 1, "items": [1], **difference}
    assert found.owner == ("ada" if change is bind else None)
    assert found.idle_timeout == timedelta(hours=3 if change is idle else 0.5)
    assert len(storage.inner) == 1


async def test_what_is_changed_while_the_response_starts_is_stored_at_its_end() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    visitor = Visitor(store)
    exchange = await visitor.arrive()
    exchange.session["n"] = 1

    async def meanwhile() -> None:
        exchange.session["late"] = 1

    storage.after["create"] = meanwhile
    await visitor.leave(exchange)
    assert dict(await store.get_by_id(visitor.sid or "")) == {"n": 1, "late": 1}


async def login(session: Session) -> None:
    await session.login("ada")


@pytest.mark.parametrize("operation", ["create", "replace", "move"])
@pytest.mark.parametrize("rotate", [regenerate, login])
async def test_an_id_that_is_changed_while_the_response_starts_is_stored_and_told(
    operation: str, rotate: Callable[[Session], Awaitable[None]]
) -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    visitor = Visitor(store)
    if operation != "create":
        exchange = await visitor.arrive()
        exchange.session["n"] = 0
        await visitor.leave(exchange)
    exchange = await visitor.arrive()
    exchange.session["n"] = 1
    if operation == "move":
        await exchange.session.regenerate()
    storage.before[operation] = lambda: rotate(exchange.session)
    headers = await exchange.commit(200)
    told = headers[0][1].partition(";")[0].removeprefix("__Host-session_id=")
    assert dict(await store.get_by_id(told)) == {"n": 1}  # when the client sees the response, not at its end
    await exchange.finish()
    assert (await store.get_by_id(told)).owner == ("ada" if rotate is login else None)
    assert len(storage.inner) == 1


async def test_two_tasks_that_save_a_new_session_store_one() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    exchange = store.exchange(PlainView())
    await exchange.load()
    exchange.session["n"] = 1
    storage.before["create"] = anyio.lowlevel.checkpoint
    async with anyio.create_task_group() as group:
        group.start_soon(exchange.session.save)
        group.start_soon(exchange.session.save)
    assert len(storage.inner) == 1


async def test_a_session_that_is_destroyed_while_another_task_saves_it_is_ended() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    visitor = Visitor(store)
    exchange = await visitor.arrive()
    exchange.session["n"] = 1
    asked, may_answer = anyio.Event(), anyio.Event()

    async def wait() -> None:
        asked.set()
        await may_answer.wait()

    storage.before["create"] = wait
    async with anyio.create_task_group() as group:
        group.start_soon(exchange.session.save)
        await asked.wait()
        group.start_soon(exchange.session.destroy)
        await anyio.wait_all_tasks_blocked()
        may_answer.set()
    await visitor.leave(exchange)
    assert len(storage.inner) == 0


async def test_a_response_waits_for_the_save_of_another_task() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    visitor = Visitor(store)
    exchange = await visitor.arrive()
    exchange.session["n"] = 1
    asked, may_answer = anyio.Event(), anyio.Event()

    async def wait() -> None:
        asked.set()
        await may_answer.wait()

    async def respond() -> None:
        await visitor.leave(exchange)

    storage.before["create"] = wait
    async with anyio.create_task_group() as group:
        group.start_soon(exchange.session.save)
        await asked.wait()
        group.start_soon(respond)
        await anyio.wait_all_tasks_blocked()
        assert visitor.headers == []
        may_answer.set()
    assert dict(await store.get_by_id(visitor.sid or "")) == {"n": 1}


@pytest.mark.parametrize(("change", "difference"), CHANGES)
async def test_a_save_that_fails_loses_nothing_of_what_was_changed_before_or_meanwhile(
    change: Callable[[Session], Awaitable[None]], difference: dict[str, object]
) -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    held = await store.get_by_id((await store.create({"n": 0, "items": [0]})).id)
    held["items"] = [1]
    held.mutate("n", lambda n: n + 1)
    held.bind_owner("bob")

    async def fail() -> None:
        await change(held)
        raise StorageUnavailable("not now")

    storage.before["replace"] = fail
    with pytest.raises(StorageUnavailable):
        await held.save()
    await held.save()
    found = await store.get_by_id(held.id)
    assert dict(found) == dict(held) == {"n": 1, "items": [1], **difference}
    assert found.owner == ("ada" if change is bind else "bob")
    assert found.idle_timeout == timedelta(hours=3 if change is idle else 0.5)
    assert len(storage.inner) == 1


OVER_OTHERS: list[tuple[Callable[[Session], Awaitable[None]], dict[str, object]]] = [
    (put, {"k": 1}),
    (put_again, {"n": 2}),
    (take_out, {"n": None}),
    (append, {"items": [1, 2]}),
    (mutate, {"n": 11}),
]


@pytest.mark.parametrize(("change", "difference"), OVER_OTHERS)
async def test_others_and_other_tasks_may_write_during_one_save(
    change: Callable[[Session], Awaitable[None]], difference: dict[str, object]
) -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    held = await store.get_by_id((await store.create({"n": 1, "items": [1], "gone": 1})).id)
    assert held["items"] == [1]
    held["mine"] = 1

    async def meanwhile() -> None:
        await change(held)
        async with store.open(held.id) as other:
            other["n"] = 10
            other["theirs"] = 1
            del other["gone"]

    storage.before["replace"] = meanwhile
    await held.save()
    await held.save()
    expected = {"n": 10, "items": [1], "mine": 1, "theirs": 1, **difference}
    assert dict(await store.get_by_id(held.id)) == dict(held) == expected


async def test_an_update_of_what_others_deleted_during_one_save_yields_to_the_deletion() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    held = await store.get_by_id((await store.create({"n": 1, "m": 1})).id)
    held["m"] = 2

    async def meanwhile() -> None:
        held.mutate("n", lambda n: n + 1)
        del held["m"]
        async with store.open(held.id) as other:
            del other["n"]

    storage.before["replace"] = meanwhile
    await held.save()
    await held.save()
    assert dict(await store.get_by_id(held.id)) == dict(held) == {}


@pytest.mark.parametrize("outcome", ["stored", "failed", "unknown", "conflict"])
async def test_what_one_task_saves_for_one_owner_is_not_the_next_ones_that_another_task_logs_in(outcome: str) -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    visitor = Visitor(store)
    exchange = await visitor.arrive()
    await exchange.session.login("ada")
    exchange.session["n"] = 1
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    session = exchange.session

    async def fail() -> None:
        raise StorageUnavailable("not now")

    async def meanwhile() -> None:
        if outcome == "conflict":
            async with store.open(visitor.sid or "") as other:
                other["m"] = 1
        await session.login("bob")
        session["bobs"] = 1
        session.mutate("n", lambda n: n + 1, default=0)
        if outcome == "failed":
            await fail()

    storage.before["replace"] = meanwhile
    if outcome == "unknown":
        storage.after["replace"] = fail
    session["secret"] = "ada's"
    session.mutate("n", lambda n: n + 1)
    with suppress(StorageUnavailable):
        await session.save()
    assert dict(session) == {"bobs": 1, "n": 1}
    await visitor.leave(exchange)
    found = await store.get_by_id(visitor.sid or "")
    assert (dict(found), found.owner) == ({"bobs": 1, "n": 1}, "bob")


async def test_a_server_error_during_another_tasks_save_is_no_error_of_that_save() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    visitor = Visitor(store)
    exchange = await visitor.arrive()
    exchange.session["n"] = 1
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    exchange.session["k"] = 1

    async def meanwhile() -> None:
        async with store.open(visitor.sid or "") as other:
            other["m"] = 1
        group.start_soon(visitor.leave, exchange, 500)
        await anyio.wait_all_tasks_blocked()

    storage.before["replace"] = meanwhile
    async with anyio.create_task_group() as group:
        await exchange.session.save()
    assert dict(await store.get_by_id(visitor.sid or "")) == {"n": 1, "m": 1, "k": 1}


async def test_a_server_error_waits_for_what_another_task_is_saving() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    visitor = Visitor(store)
    exchange = await visitor.arrive()
    await exchange.session.login("ada")
    exchange.session["n"] = 1
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    await exchange.session.login("bob")
    headers: list[tuple[str, str]] = []

    async def respond() -> None:
        headers.extend(await exchange.commit(500))

    async def meanwhile() -> None:
        group.start_soon(respond)
        await anyio.wait_all_tasks_blocked()

    storage.before["move"] = meanwhile
    async with anyio.create_task_group() as group:
        await exchange.session.save()
    assert (dict(exchange.session), exchange.session.owner) == ({}, "bob")
    assert headers[0][1].startswith(f"__Host-session_id={exchange.session.id};")
    await exchange.finish()


@pytest.mark.parametrize("turns", range(1, 9))
@pytest.mark.parametrize("saved", [True, False])
async def test_a_release_at_any_turn_of_a_rotation_leaves_the_client_no_dead_id(saved: bool, turns: int) -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    visitor = Visitor(store)
    exchange = await visitor.arrive()
    exchange.session["n"] = 1
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    await exchange.session.regenerate()
    if saved:
        await exchange.session.save()
        await exchange.session.regenerate()
    storage.before["move"] = storage.after["move"] = anyio.lowlevel.checkpoint

    async def save() -> None:
        with suppress(SessionReleased):  # which of two tasks begins first, trio leaves to chance
            await exchange.session.save()

    async with anyio.create_task_group() as group:
        if not saved:
            group.start_soon(save)
        group.start_soon(visitor.leave, exchange)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        exchange.session.release()
    assert dict(await store.get_by_id(visitor.sid or "")) == {"n": 1}


async def test_a_session_released_during_a_save_is_stored_and_stays_released() -> None:
    for operation in ("create", "replace"):
        storage = SpyStorage()
        store = SessionStore(SessionConfig(storage=storage))
        exchange = store.exchange(PlainView())
        await exchange.load()
        session = exchange.session
        session["n"] = 1
        if operation == "replace":
            await session.save()
            session["n"] = 2

        async def release(session: Session = session) -> None:
            session.release()

        storage.before[operation] = release
        await session.save()
        assert len(storage.inner) == 1
        assert dict(session) == {"n": 1 if operation == "create" else 2}
        with pytest.raises(SessionReleased):
            session["n"] = 3


@pytest.mark.parametrize("operation", ["create", "move"])
async def test_the_id_of_a_session_released_during_a_save_reaches_the_client(operation: str) -> None:
    storage = SpyStorage()
    visitor = Visitor(SessionStore(SessionConfig(storage=storage)))
    if operation == "move":
        exchange = await visitor.arrive()
        exchange.session["n"] = 0
        await visitor.leave(exchange)
    exchange = await visitor.arrive()
    session = exchange.session
    session["n"] = 1
    await session.regenerate()

    async def release() -> None:
        session.release()

    storage.before[operation] = release
    await session.save()
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    assert dict(exchange.session) == {"n": 1}


@pytest.mark.parametrize("outcome", ["gone", "failed"])
async def test_a_session_released_during_a_save_that_stores_nothing_stays_released(outcome: str) -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    held = await store.get_by_id((await store.create({"n": 1})).id)
    held["n"] = 2

    async def release() -> None:
        held.release()
        if outcome == "failed":
            raise StorageUnavailable("not now")
        await store.reset()

    storage.before["replace"] = release
    with pytest.raises(StorageUnavailable if outcome == "failed" else SessionGone):
        await held.save()
    assert dict(held) == ({"n": 1} if outcome == "failed" else {})
    with pytest.raises(SessionReleased):
        held["n"] = 3
    assert len(storage.inner) == (1 if outcome == "failed" else 0)
