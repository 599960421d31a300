"""Several tasks of one request that use its session at the same time: they load, commit and release it."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import anyio
import pytest
from tests.kit import BOTH_LOOPS, Lab, lose
from tests.request.test_changes_during_a_save import request_about_to
from tests.stores import SuspendingStorage
from tests.views import PlainView

from sessioncore import Session, SessionError, SessionGone, SessionReleased, StorageUnavailable

pytestmark = pytest.mark.anyio


# -- tasks that commit, end or respond at the same time


@pytest.mark.proves("AT-51")
@BOTH_LOOPS
@pytest.mark.parametrize("down", [False, True])
async def test_tasks_of_a_request_load_once_and_get_one_session_or_each_the_error_of_an_outage(down: bool) -> None:
    lab = Lab(kind=SuspendingStorage)
    await lab.begin(n=0)
    exchange = lab.store.exchange(PlainView([f"__Host-session_id={lab.visitor.sid}".encode()]))
    first, second = exchange.load(required=down), exchange.load(required=down)  # made before either is awaited

    async def task(load: Any = None) -> None:
        with pytest.raises(StorageUnavailable) if down else nullcontext():
            await (load or exchange.load(required=down))
        if not down:
            exchange.session["n"] += 1

    with lab.storage.fail("load") if down else nullcontext():
        async with anyio.create_task_group() as group:
            for load in (first, second):
                group.start_soon(task, load)
            group.start_soon(task)
    assert down or lab.calls == ["load"]
    await lab.visitor.leave(exchange)
    assert await lab.data() == {"n": 0 if down else 3}


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
async def test_a_task_that_waits_for_the_load_takes_over_when_the_first_is_cancelled(lab: Lab) -> None:
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
async def test_a_server_error_waits_for_what_another_task_saves_and_makes_no_error_of_it(lab: Lab) -> None:
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
            other["m"] = 1  # so that the save has to try again
        group.start_soon(respond)
        await anyio.wait_all_tasks_blocked()

    lab.storage.before["move"] = meanwhile
    async with anyio.create_task_group() as group:
        await session.save()
    assert (dict(session), session.owner) == ({}, "bob")
    assert headers[0][1].startswith(f"__Host-session_id={session.id};")
    await exchange.finish()


ENDINGS: dict[str, tuple[type[Exception] | None, type[Exception] | None]] = {  # of a save, and of one that waits for it
    "stored": (None, None),
    "no reply": (StorageUnavailable, None),
    "gone": (SessionGone, SessionGone),
}


@pytest.mark.proves("P3")
@BOTH_LOOPS
@pytest.mark.parametrize("ending", ENDINGS)
async def test_what_changes_during_a_save_is_stored_by_the_commit_that_waits_for_it(ending: str, lab: Lab) -> None:
    exchange = await lab.begin_request()
    session, errors = exchange.session, dict[str, type[Exception] | None]()
    session["n"] = 2

    async def run(name: str, work: Callable[[], Awaitable[object]]) -> None:
        errors[name] = None
        try:
            await work()
        except SessionError as error:
            errors[name] = type(error)

    async def meanwhile() -> None:
        session["late"] = 1
        group.start_soon(run, "B", partial(exchange.commit, 200) if ending == "stored" else session.save)
        await anyio.wait_all_tasks_blocked()
        if ending == "gone":
            await lab.beside().reset()
        elif ending == "no reply":
            await lose()

    lab.storage.before["replace"] = meanwhile
    async with anyio.create_task_group() as group:
        await run("A", session.save)
    assert (errors["A"], errors["B"]) == ENDINGS[ending]
    assert await lab.data() == (None if ending == "gone" else {"n": 2, "late": 1})


# -- released while it is saved


@pytest.mark.parametrize("saved", [True, False])
async def test_a_release_at_any_turn_of_a_rotation_leaves_the_client_no_dead_id(saved: bool) -> None:
    for turns in range(1, 9):
        lab = Lab()
        exchange = await lab.begin_request()
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


@pytest.mark.parametrize("outcome", ["create", "replace", "move", "gone", "failed"])
async def test_a_session_released_during_a_save_stays_released_whatever_becomes_of_it(outcome: str, lab: Lab) -> None:
    operation = {"gone": "replace", "failed": "replace"}.get(outcome, outcome)
    exchange = await request_about_to(operation, lab)
    session = exchange.session

    async def release() -> None:
        session.release()
        if outcome == "failed":
            await lose()
        if outcome == "gone":
            await lab.store.reset()

    lab.storage.before[operation] = release
    if outcome == operation:
        await session.save()
        await lab.visitor.leave(exchange)
        assert await lab.data() == dict(session) == {"n": 1, "items": [1]}
    else:
        with pytest.raises(StorageUnavailable if outcome == "failed" else SessionGone):
            await session.save()
        assert dict(session) == ({"n": 0, "items": [0]} if outcome == "failed" else {})
        assert len(lab.storage.inner) == (outcome == "failed")
    with pytest.raises(SessionReleased):
        session["n"] = 3
