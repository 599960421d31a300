"""Several tasks of one request, when one of them fails: each gets the outcome of its own work, as it was stored."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.kit import BOTH_LOOPS, Lab, lose
from tests.stores import SuspendingStorage

from sessioncore import OwnerLimitReached, Session, SessionError, StorageError, StorageUnavailable

pytestmark = pytest.mark.anyio

SHORT = timedelta(seconds=1)  # how long a login waits for another one to step back


def add(n: int) -> int:
    return n + 1


async def merged(lab: Lab, theirs: Any, function: Callable[[Any], Any] = add, first: Any = 1) -> Session:
    """A session that was saved while another request stored `n` as `theirs` and another task mutated it."""
    session = await lab.held(n=first)
    session["mine"] = 1

    async def meanwhile() -> None:
        async with lab.store.open(session.id) as other:
            other["n"] = theirs
        session.mutate("n", function)

    lab.storage.before["replace"] = meanwhile
    await session.save()
    return session


async def test_a_save_succeeds_though_the_function_of_another_task_fails_on_what_was_merged(lab: Lab) -> None:
    session = await merged(lab, "text")
    assert await lab.data() == {"n": "text", "mine": 1}
    assert dict(session) == {"n": "text", "mine": 1}
    assert session.modified
    for _ in range(2):
        with pytest.raises(TypeError):
            await session.save()
    assert await lab.data() == {"n": "text", "mine": 1}
    assert lab.calls.count("replace") == 3  # the save, the other request, the save again


Change = Callable[[Session], object]
REPAIRS: list[tuple[Change, object]] = [
    (lambda session: session.set("n", 5), 5),
    (lambda session: session.delete("n"), None),
    (lambda session: session.set("n", 5) or session.mutate("n", add), 6),
]


@pytest.mark.parametrize(("repair", "n"), REPAIRS)
async def test_the_owner_of_a_failed_function_can_set_or_delete_the_key(repair: Change, n: object, lab: Lab) -> None:
    session = await merged(lab, "text")
    repair(session)
    await session.save()
    assert await lab.data() == dict(session) == {"mine": 1} | ({} if n is None else {"n": n})


async def test_a_key_that_another_request_deleted_is_updated_from_the_default_or_not_at_all(lab: Lab) -> None:
    session = await lab.held(n=1, m=1, k=1)
    session["mine"] = 1

    async def meanwhile() -> None:
        del session["k"]
        session.mutate("n", add)
        assert session.mutate("m", lambda m: 1 // m, default=0) == 1
        async with lab.store.open(session.id) as other:
            other.clear()

    lab.storage.before["replace"] = meanwhile
    await session.save()
    assert dict(session) == {"mine": 1}
    with pytest.raises(ZeroDivisionError):
        await session.save()
    session["m"] = 2
    await session.save()
    assert await lab.data() == dict(session) == {"m": 2, "mine": 1}


async def test_a_function_that_failed_is_applied_once_the_value_allows_it() -> None:
    for again in (False, True):
        lab = Lab()
        session = await merged(lab, {}, lambda counts: {"x": counts["x"] + 1}, {"x": 1})
        with pytest.raises(KeyError):
            session.mutate("n", lambda counts: counts)
        session["n"]["x"] = 4
        if again:
            assert session.mutate("n", lambda counts: {"x": counts["x"] * 10}) == {"x": 50}
        await session.save()
        assert await lab.data() == dict(session) == {"n": {"x": 50 if again else 5}, "mine": 1}


# -- what one task has changed is committed by another


FAILURES: dict[str, tuple[type[Exception] | None, type[Exception]]] = {  # the errors of the two tasks
    "no reply to a response": (StorageUnavailable, StorageUnavailable),
    "a function failed": (TypeError, StorageError),
    "cancelled": (None, StorageUnavailable),
}


@BOTH_LOOPS
@pytest.mark.parametrize("how", FAILURES)
async def test_a_save_fails_if_another_tasks_commit_dropped_what_it_would_have_stored(how: str) -> None:
    limit: Any = {} if how == "cancelled" else {"max_sessions_per_owner": 1, "on_owner_limit": "refuse"}
    lab = Lab(kind=SuspendingStorage, storage_timeout=SHORT, **limit)
    exchange = await lab.begin_request()
    session, told = exchange.session, dict[str, type[Exception] | None]()

    async def run(name: str, work: Callable[[], Awaitable[object]]) -> None:
        told[name] = None
        try:
            await work()
        except (SessionError, TypeError) as error:
            told[name] = type(error)

    async def meanwhile() -> None:
        async with lab.beside().open(lab.visitor.sid or "") as other:
            other["n"] = "text" if how == "a function failed" else 1
        session["late"] = 1
        group.start_soon(session.reload)  # it gets its turn between the two saves
        await anyio.wait_all_tasks_blocked()
        group.start_soon(run, "B", session.save)
        await anyio.wait_all_tasks_blocked()
        if how == "cancelled":
            scope.cancel()
            await anyio.lowlevel.checkpoint()
        elif how == "no reply to a response":
            await lose()

    session.mutate("n", add)
    await session.login("ada")
    lab.storage.before["move"] = meanwhile
    async with anyio.create_task_group() as group:
        with anyio.CancelScope() as scope:
            await run("A", partial(exchange.commit, 200))
    assert tuple(told[name] for name in "AB") == FAILURES[how]
    await exchange.finish()
    assert await lab.data(session.id) == {"n": "text" if how == "a function failed" else 1}


@BOTH_LOOPS
async def test_a_save_with_nothing_to_store_does_not_fail_with_another_tasks_destroy(lab: Lab) -> None:
    session = await lab.held()
    held = lab.storage.hold("delete", times=1)

    async def destroy() -> None:
        with pytest.raises(StorageUnavailable):
            await session.destroy()

    lab.storage.before["delete"] = lose
    async with anyio.create_task_group() as group:
        group.start_soon(destroy)
        await held.entered.wait()
        group.start_soon(session.save)
        await anyio.wait_all_tasks_blocked()
        held.release()
    assert await lab.data() == {"n": 1}


@BOTH_LOOPS
async def test_a_save_of_what_was_changed_in_place_fails_with_a_response_that_is_cancelled_before_it(lab: Lab) -> None:
    await lab.begin(mine=[])
    lab.clock.advance(600)
    exchange = await lab.visitor.arrive()
    held = lab.storage.hold("touch", times=1)

    async def save() -> None:
        with pytest.raises(StorageUnavailable, match="cancelled"):
            await exchange.session.save()

    async def respond() -> None:
        with scope:
            await exchange.commit(200)

    scope = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(respond)
        await held.entered.wait()
        exchange.session["mine"].append(1)
        group.start_soon(save)
        await anyio.wait_all_tasks_blocked()
        scope.cancel()
    assert await lab.data() == {"mine": []}


@pytest.mark.proves("P3")
@pytest.mark.parametrize("call", ["create", "move", "replace"])
async def test_what_tasks_changed_before_and_during_a_login_that_was_undone_waits_for_the_next(call: str) -> None:
    lab = Lab(max_sessions_per_owner=1, on_owner_limit="refuse", absolute_timeout=None, storage_timeout=SHORT)
    exchange = await (lab.visitor if call == "create" else await lab.begin(n=1)).arrive()
    session = exchange.session

    async def meanwhile() -> None:
        await lab.beside(clock=lambda: 1_000_000.0, max_sessions_per_owner=None).create(owner="ada")
        session["late"] = 1
        session["early"].append(1)

    session["early"] = list[int]()
    session.bind_owner("ada") if call == "replace" else await session.login("ada")
    lab.storage.before[call] = meanwhile
    for _ in range(3):
        with pytest.raises(OwnerLimitReached):
            await session.save()
    assert await lab.store.revoke_all("ada") == 1
    await exchange.commit(200)
    await exchange.finish()
    found = await lab.kept(session.id)
    assert dict(found) == {"early": [1], "late": 1} | ({} if call == "create" else {"n": 1})
    assert found.owner == "ada"
