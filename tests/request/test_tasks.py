"""Several tasks of one request that use its session at the same time: what one changes while another saves is kept."""

from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pytest
from tests.kit import BOTH_LOOPS, Lab, Work, login, lose, regenerate
from tests.stores import SuspendingStorage
from tests.views import PlainView

from sessioncore import Exchange, Session, SessionGone, SessionReleased, StorageError, StorageUnavailable

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


async def add(session: Session) -> None:
    session.mutate("n", lambda n: n + 1)


async def idle(session: Session) -> None:
    session.set_idle_timeout(timedelta(hours=3))


async def bind(session: Session) -> None:
    session.bind_owner("ada")


Difference = dict[str, object]
OF_DATA: list[tuple[Work, Difference]] = [
    (put, {"k": 1}), (put_again, {"n": 2}), (take_out, {"n": None}), (append, {"items": [1, 2]}), (add, {"n": 2}),
]  # fmt: skip
CHANGES: list[tuple[Work, Difference]] = [*OF_DATA, (idle, {}), (bind, {}), (regenerate, {})]


async def request_about_to(operation: str, lab: Lab) -> Exchange:
    """A request whose commit will make this call, with `n` and `items` changed."""
    if operation != "create":
        await lab.begin(n=0, items=[0])
    exchange = await lab.visitor.arrive()
    exchange.session.update(n=1, items=[1])
    if operation == "move":
        await exchange.session.regenerate()
    return exchange


async def check(lab: Lab, work: Work, difference: Difference, owner: str | None = None) -> None:
    found = await lab.kept()
    assert dict(found) == {"n": 1, "items": [1], **difference}
    assert found.owner == ("ada" if work in (bind, login) else owner)
    assert found.idle_timeout == timedelta(hours=3 if work is idle else 0.5)
    assert len(lab.storage.inner) == 1


# -- changes while another task saves


@pytest.mark.parametrize("operation", ["create", "replace", "move"])
async def test_what_is_changed_while_the_session_is_saved_is_stored_by_the_next_commit(operation: str) -> None:
    for work, difference in CHANGES:
        lab = Lab()
        exchange = await request_about_to(operation, lab)
        lab.storage.before[operation] = partial(work, exchange.session)
        await exchange.session.save()
        assert dict(exchange.session) == {"n": 1, "items": [1], **difference}
        await lab.visitor.leave(exchange)
        await check(lab, work, difference)


async def test_a_save_that_fails_loses_nothing_of_what_was_changed_before_or_meanwhile() -> None:
    for work, difference in CHANGES:
        lab = Lab()
        await lab.begin(n=0, items=[0])
        held = await lab.store.get_by_id(lab.visitor.sid or "")
        held["items"] = [1]
        held.mutate("n", lambda n: n + 1)
        held.bind_owner("bob")

        async def fail(work: Work = work, held: Session = held) -> None:
            await work(held)
            await lose()

        lab.storage.before["replace"] = fail
        with pytest.raises(StorageUnavailable):
            await held.save()
        await held.save()
        assert dict(held) == {"n": 1, "items": [1], **difference}
        lab.visitor.sid = held.id
        await check(lab, work, difference, "bob")


async def test_a_mutation_during_a_failed_save_of_a_value_that_it_had_set_counts_as_that_value() -> None:
    lab = Lab()
    await lab.begin()
    held = await lab.store.get_by_id(lab.visitor.sid or "")
    held["n"] = 5

    async def refuse() -> None:
        await add(held)
        raise StorageError("no room")

    lab.storage.before["replace"] = refuse
    with pytest.raises(StorageError, match="no room"):
        await held.save()
    async with lab.store.open(held.id) as other:
        other["n"] = 100
    await held.save()
    assert await lab.data() == dict(held) == {"n": 6}


async def test_other_requests_and_other_tasks_may_write_during_one_save() -> None:
    for work, difference in OF_DATA:
        lab = Lab()
        await lab.begin(n=1, items=[1], gone=1)
        held = await lab.store.get_by_id(lab.visitor.sid or "")
        assert held["items"] == [1]
        held["mine"] = 1

        async def meanwhile(work: Work = work, held: Session = held, lab: Lab = lab) -> None:
            await work(held)
            async with lab.store.open(held.id) as other:
                other.update(n=10, theirs=1)
                del other["gone"]

        lab.storage.before["replace"] = meanwhile
        await held.save()
        await held.save()
        own = {"n": 11} if work is add else difference
        assert await lab.data() == dict(held) == {"n": 10, "items": [1], "mine": 1, "theirs": 1, **own}


async def test_an_update_of_what_another_request_deleted_during_one_save_yields_to_the_deletion() -> None:
    lab = Lab()
    await lab.begin(n=1, m=1)
    held = await lab.store.get_by_id(lab.visitor.sid or "")
    held["m"] = 2

    async def meanwhile() -> None:
        held.mutate("n", lambda n: n + 1)
        del held["m"]
        async with lab.store.open(held.id) as other:
            del other["n"]

    lab.storage.before["replace"] = meanwhile
    await held.save()
    await held.save()
    assert await lab.data() == dict(held) == {}


@pytest.mark.parametrize("outcome", ["stored", "failed", "unknown", "conflict"])
async def test_what_is_saved_for_one_owner_is_not_shown_to_the_next_that_another_task_logs_in(
    outcome: str,
) -> None:
    lab = Lab()
    async with lab.visitor.request() as session:
        await session.login("ada")
        session["n"] = 1
    exchange = await lab.visitor.arrive()
    session = exchange.session

    async def meanwhile() -> None:
        if outcome == "conflict":
            async with lab.store.open(lab.visitor.sid or "") as other:
                other["m"] = 1
        await session.login("bob")
        session["bobs"] = 1
        session.mutate("n", lambda n: n + 1, default=0)
        if outcome == "failed":
            await lose()

    lab.storage.before["replace"] = meanwhile
    if outcome == "unknown":
        lab.storage.after["replace"] = lose
    session["secret"] = "ada's"
    session.mutate("n", lambda n: n + 1)
    with suppress(StorageUnavailable):
        await session.save()
    assert dict(session) == {"bobs": 1, "n": 1}
    await lab.visitor.leave(exchange)
    found = await lab.kept()
    assert (dict(found), found.owner) == ({"bobs": 1, "n": 1}, "bob")


# -- tasks that commit, end or respond at the same time


@BOTH_LOOPS
async def test_tasks_of_a_request_load_once_and_get_one_session() -> None:
    lab = Lab(kind=SuspendingStorage)
    await lab.begin(n=0)
    exchange = lab.store.exchange(PlainView([f"__Host-session_id={lab.visitor.sid}".encode()]))
    first, second = exchange.load(), exchange.load()  # made before either is awaited

    async def task(load: Any) -> None:
        await load
        await exchange.load(required=True)
        exchange.session["n"] += 1

    async with anyio.create_task_group() as group:
        for load in (first, second):
            group.start_soon(task, load)
    assert lab.calls == ["load"]
    await exchange.commit(200)
    await exchange.finish()
    assert await lab.data() == {"n": 2}


async def test_a_load_that_is_awaited_late_overwrites_nothing() -> None:
    lab = Lab(kind=SuspendingStorage)
    await lab.begin(n=0)
    exchange = lab.store.exchange(PlainView([f"__Host-session_id={lab.visitor.sid}".encode()]))
    first, second = exchange.load(), exchange.load()
    await first
    exchange.session["n"] = 1
    await second
    await lab.visitor.leave(exchange)
    assert await lab.data() == {"n": 1}


@BOTH_LOOPS
async def test_a_task_that_waits_for_the_load_takes_over_when_the_first_is_cancelled() -> None:
    lab = Lab()
    await lab.begin(n=3)
    exchange = lab.store.exchange(PlainView([f"__Host-session_id={lab.visitor.sid}".encode()]))
    held = lab.storage.hold("load", times=1)
    seen: list[int] = []

    async def second() -> None:
        await exchange.load(required=True)
        seen.append(exchange.session["n"])

    async def first(scope: anyio.CancelScope) -> None:
        with scope:
            await exchange.load()

    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()
        group.start_soon(first, scope)
        await held.entered.wait()
        group.start_soon(second)
        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
    assert seen == [3, 3]


@BOTH_LOOPS
async def test_a_server_error_waits_for_what_another_task_saves_and_makes_no_error_of_it() -> None:
    lab = Lab()
    async with lab.visitor.request() as session:
        await session.login("ada")
        session["n"] = 1
    exchange = await lab.visitor.arrive()
    session, headers = exchange.session, list[tuple[str, str]]()
    await session.login("bob")

    async def respond() -> None:
        headers.extend(await exchange.commit(500))

    async def meanwhile() -> None:
        async with lab.store.open(lab.visitor.sid or "") as other:
            other["m"] = 1  # so that the save has to begin anew
        group.start_soon(respond)
        await anyio.wait_all_tasks_blocked()

    lab.storage.before["move"] = meanwhile
    async with anyio.create_task_group() as group:
        await session.save()
    assert (dict(session), session.owner) == ({}, "bob")
    assert headers[0][1].startswith(f"__Host-session_id={session.id};")
    await exchange.finish()


# -- released while it is saved


@pytest.mark.parametrize("saved", [True, False])
async def test_a_release_at_any_turn_of_a_rotation_leaves_the_client_no_dead_id(saved: bool) -> None:
    for turns in range(1, 9):
        lab = Lab()
        await lab.begin()
        exchange = await lab.visitor.arrive()
        session = exchange.session
        await session.regenerate()
        if saved:
            await session.save()
            await session.regenerate()
        lab.storage.before["move"] = lab.storage.after["move"] = anyio.lowlevel.checkpoint

        async def save(session: Session = session) -> None:
            with suppress(SessionReleased):
                await session.save()

        async with anyio.create_task_group() as group:
            if not saved:
                group.start_soon(save)
            group.start_soon(lab.visitor.leave, exchange)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            session.release()
        assert await lab.data() == {"n": 1}


@pytest.mark.parametrize("operation", ["create", "replace", "move"])
async def test_a_session_that_is_released_during_a_save_is_stored_told_and_stays_released(operation: str) -> None:
    lab = Lab()
    exchange = await request_about_to(operation, lab)
    session = exchange.session

    async def release() -> None:
        session.release()

    lab.storage.before[operation] = release
    await session.save()
    await lab.visitor.leave(exchange)
    assert await lab.data() == dict(session) == {"n": 1, "items": [1]}
    with pytest.raises(SessionReleased):
        session["n"] = 3


@pytest.mark.parametrize("outcome", ["gone", "failed"])
async def test_a_session_that_is_released_during_a_save_that_stores_nothing_stays_released(outcome: str) -> None:
    lab = Lab()
    exchange = await request_about_to("replace", lab)
    session = exchange.session

    async def release() -> None:
        session.release()
        if outcome == "failed":
            await lose()
        await lab.store.reset()

    lab.storage.before["replace"] = release
    with pytest.raises(StorageUnavailable if outcome == "failed" else SessionGone):
        await session.save()
    assert dict(session) == ({"n": 0, "items": [0]} if outcome == "failed" else {})
    with pytest.raises(SessionReleased):
        session["n"] = 3
    assert len(lab.storage.inner) == (outcome == "failed")
