"""Requests that are cut off: at every turn of the event loop, by anyio's scopes and by asyncio's own Task.cancel()."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import suppress
from datetime import timedelta
from types import coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.stores import SpyStorage, SuspendingStorage
from tests.views import PlainView, Visitor

from sessioncore import Exchange, Session, SessionConfig, SessionError, SessionEvent, SessionNotFound, SessionStore
from sessioncore.testing import ManualClock

pytestmark = pytest.mark.anyio
NATIVE = pytest.mark.parametrize("anyio_backend", ["asyncio"])
LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    pytest.param(("trio", dict[str, Any]()), id="trio"),
]
Change = Callable[[Session], Awaitable[None]]


class House:
    """A store over a storage that suspends several times in each call, with one visitor whose `n` is 1."""

    def __init__(self, **config: Any) -> None:
        self.clock = ManualClock()
        self.storage = SuspendingStorage(self.clock, turns=2)
        self.events: list[SessionEvent] = []
        self.store = SessionStore(
            SessionConfig(storage=self.storage, clock=self.clock, on_event=self.events.append, **config)
        )
        self.visitor = Visitor(self.store)

    async def begin(self) -> None:
        exchange = await self.visitor.arrive()
        exchange.session["n"] = 1
        await self.visitor.leave(exchange)
        self.clear()

    def clear(self) -> None:
        self.events.clear()
        self.storage.calls.clear()

    def kinds(self) -> list[str]:
        return [event.kind.value for event in self.events]

    async def holds(self, sid: str | None) -> dict[str, Any] | None:
        """What is stored under an ID, as another process sees it; None: nothing."""
        try:
            other = SessionStore(SessionConfig(storage=self.storage.inner, clock=self.clock))
            return dict(await other.get_by_id(sid or ""))
        except SessionNotFound:
            return None


# -- ways to cut off


async def _once(awaitable: Awaitable[Any]) -> None:
    await awaitable


@coroutine
def _count_turns(
    work: Callable[[], Awaitable[Any]], turns: list[int], at: int, cut: Callable[[], object]
) -> Generator[Any, Any, Any]:
    """Await `work()`; when it suspends for the time `at`, call `cut` before it goes to sleep."""
    steps = _once(work()).__await__()
    send: Callable[[], Any] = functools.partial(next, steps)
    while True:
        try:
            suspended = send()
        except StopIteration as stop:
            return stop.value
        turns.append(len(turns))
        if len(turns) - 1 == at:
            cut()
        try:
            sent = yield suspended
        except BaseException as exc:  # noqa: BLE001 - passed on to where `work` sleeps
            send = functools.partial(steps.throw, exc)
        else:
            send = functools.partial(steps.send, sent)


async def cut_by_scope(work: Callable[[], Awaitable[Any]], at: int) -> bool:
    """Cancel the scope around `work` when it suspends for the time `at`; False: it never did."""
    turns: list[int] = []
    with anyio.CancelScope() as scope:
        await _count_turns(work, turns, at, scope.cancel)
    return len(turns) > at


async def cut_natively(work: Callable[[], Awaitable[Any]], at: int) -> bool:
    """Cancel the task of `work`, three times, as impatient servers do."""
    turns: list[int] = []

    async def run() -> None:
        await _count_turns(work, turns, at, lambda: asyncio.get_running_loop().call_soon(cancel, 3))

    def cancel(times: int) -> None:
        task.cancel()
        if times > 1:
            asyncio.get_running_loop().call_soon(cancel, times - 1)

    task = asyncio.ensure_future(run())
    with suppress(asyncio.CancelledError):
        await task
    return len(turns) > at


Cut = Callable[[Callable[[], Awaitable[Any]], int], Awaitable[bool]]
WAYS = [
    *((loop, cut_by_scope) for loop in LOOPS),
    *((loop, cut_natively) for loop in LOOPS[:2]),
]
EVERY_WAY = pytest.mark.parametrize(
    ("anyio_backend", "cut"),
    [pytest.param(*loop.values, cut, id=f"{loop.id}-{cut.__name__}") for loop, cut in WAYS],
    indirect=["anyio_backend"],
)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The three event loops; tests that are about Task.cancel() choose asyncio."""
    return getattr(request, "param", "asyncio")


# -- a commit of one call


async def write(session: Session) -> None:
    session.mutate("n", lambda n: n + 1)


async def rotate(session: Session) -> None:
    session.mutate("n", lambda n: n + 1)
    await session.regenerate()


async def begin_anew(session: Session) -> None:
    await session.reset()
    session["n"] = 2


CHANGES = pytest.mark.parametrize(
    ("change", "event"), [(write, None), (rotate, "regenerated"), (begin_anew, "created")]
)  # fmt: skip


def counting() -> Iterator[int]:
    """The suspension points to cut at, up to a number that no commit reaches."""
    yield from range(200)
    raise AssertionError("this commit never ends")


async def changed(house: House, change: Change) -> Exchange:
    """A request that has changed the session of the visitor and not committed yet."""
    await house.begin()
    exchange = await house.visitor.arrive()
    await change(exchange.session)
    house.clear()
    return exchange


@EVERY_WAY
@CHANGES
async def test_a_commit_cut_off_anywhere_leaves_the_storage_before_or_after(
    cut: Cut, change: Change, event: str | None
) -> None:
    seen: set[int | None] = set()
    for at in counting():
        house = House()
        exchange = await changed(house, change)
        old, new = house.visitor.sid, exchange.session.id
        reached = await cut(functools.partial(exchange.commit, 200), at)
        before, after = await house.holds(old), await house.holds(new)
        if reached and house.kinds() != []:
            raise AssertionError("an event was sent of what was not known")
        if old == new:
            assert before in ({"n": 1}, {"n": 2})
        elif change is rotate:
            assert (before, after) in (({"n": 1}, None), (None, {"n": 2}))
        else:
            assert before is None
            assert after in (None, {"n": 2})
        seen.add(None if after is None else after["n"])
        await exchange.finish(failed=reached)
        assert len(house.storage.inner) == (0 if change is begin_anew and after is None else 1)
        if not reached:
            assert after == {"n": 2}
            assert house.kinds() == ([] if event is None else [event])
            break
    assert len(seen) == 2  # it was cut off on both sides of the effect


@EVERY_WAY
@CHANGES
async def test_the_next_commit_of_the_request_finds_out_what_became_of_one_that_was_cut_off(
    cut: Cut, change: Change, event: str | None
) -> None:
    for at in counting():
        house = House()
        exchange = await changed(house, change)
        session, old = exchange.session, house.visitor.sid
        reached = await cut(session.save, at)
        assert (house.kinds() == []) or not reached
        session["late"] = True
        await house.visitor.leave(exchange)
        assert (house.visitor.sid == old) is (change is write)
        assert await house.holds(house.visitor.sid) == {"n": 2, "late": True}  # neither lost nor done twice
        assert len(house.storage.inner) == 1
        assert [kind for kind in house.kinds() if kind != "conflict"] == ([] if event is None else [event])
        if not reached:
            break


@EVERY_WAY
@CHANGES
async def test_a_logout_after_a_commit_that_was_cut_off_ends_it_wherever_it_is(
    cut: Cut, change: Change, event: str | None
) -> None:
    for at in counting():
        house = House()
        exchange = await changed(house, change)
        reached = await cut(exchange.session.save, at)
        await exchange.session.destroy()
        await house.visitor.leave(exchange)
        assert len(house.storage.inner) == 0
        if not reached:
            break


@EVERY_WAY
async def test_a_renewal_cut_off_anywhere_changes_nothing_but_the_clock(cut: Cut) -> None:
    for at in counting():
        house = House()
        await house.begin()
        house.clock.advance(600)
        exchange = await house.visitor.arrive()
        house.clear()
        reached = await cut(functools.partial(exchange.commit, 200), at)
        assert house.storage.calls in ([], ["touch"])
        assert house.kinds() == ([] if reached else ["renewed"])
        await exchange.finish(failed=reached)
        assert await house.holds(house.visitor.sid) == {"n": 1}
        if not reached:
            break


@EVERY_WAY
@pytest.mark.parametrize("verb", ["destroy", "reset"])
async def test_an_end_cut_off_anywhere_has_ended_it_or_not(cut: Cut, verb: str) -> None:
    seen: set[bool] = set()
    for at in counting():
        house = House()
        await house.begin()
        exchange = await house.visitor.arrive()
        house.clear()
        reached = await cut(getattr(exchange.session, verb), at)
        held = await house.holds(house.visitor.sid)
        assert held in (None, {"n": 1})
        seen.add(held is None)
        assert house.kinds() == ([] if reached else ["destroyed"])
        await exchange.session.destroy()  # whoever goes on can try again
        await house.visitor.leave(exchange)
        assert (await house.holds(house.visitor.sid), len(house.storage.inner)) == (None, 0)
        if not reached:
            break
    assert seen == {True, False}


@EVERY_WAY
async def test_a_load_cut_off_anywhere_can_be_made_again(cut: Cut) -> None:
    for at in counting():
        house = House()
        await house.begin()
        exchange = house.store.exchange(PlainView([f"__Host-session_id={house.visitor.sid}".encode()]))
        reached = await cut(exchange.load, at)
        await exchange.load()
        assert exchange.session["n"] == 1
        if not reached:
            break


# -- a commit of several calls


async def cut_after(turns: int, work: Callable[[], Awaitable[Any]], *, natively: bool) -> bool:
    """Cancel a task after so many turns of the loop, wherever its work is then; False: it was through."""
    scope, ended = anyio.CancelScope(), anyio.Event()
    tasks: list[asyncio.Task[Any] | None] = []
    reached = False

    async def run() -> None:
        tasks.append(asyncio.current_task() if natively else None)
        with suppress(SessionError), scope:
            await work()
        ended.set()

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        for _ in range(turns + 1):
            await anyio.lowlevel.checkpoint()
        reached = not ended.is_set()
        if natively and reached:
            assert tasks[0] is not None
            tasks[0].cancel()
        scope.cancel()
    return reached


@EVERY_WAY
@pytest.mark.parametrize("on_limit", ["evict_oldest", "refuse"])
async def test_a_login_cut_off_anywhere_keeps_to_the_owners_limit(cut: Cut, on_limit: Any) -> None:
    outcomes: set[bool] = set()
    for at in counting():
        house = House(max_sessions_per_owner=1, on_owner_limit=on_limit)
        first = await house.store.create(owner="ada")
        house.clock.advance(1)
        await house.begin()
        exchange = await house.visitor.arrive()
        await exchange.session.login("ada")
        old, new = house.visitor.sid, exchange.session.id
        house.clear()
        natively = cut is cut_natively
        reached = await cut_after(at, functools.partial(exchange.commit, 200), natively=natively)
        await exchange.finish(failed=True)
        [left] = await house.store.sessions_of("ada")
        if on_limit == "refuse":
            assert left.handle == first.handle
            assert await house.holds(old) == {"n": 1}
        else:
            outcomes.add(left.handle == first.handle)
            assert (await house.holds(old), await house.holds(new)) in (({"n": 1}, None), (None, {"n": 1}))
            assert (left.handle == first.handle) is (await house.holds(new) is None)
        if not reached:
            break
    assert on_limit == "refuse" or False in outcomes


@NATIVE
async def test_a_stuck_storage_holds_a_cancelled_login_no_longer_than_storage_timeout() -> None:
    storage = SpyStorage()
    store = SessionStore(
        SessionConfig(storage=storage, storage_timeout=timedelta(seconds=0.1), max_sessions_per_owner=1)
    )
    exchange = await Visitor(store).arrive()
    await exchange.session.login("ada")
    storage.before["create"] = anyio.sleep_forever
    task = asyncio.ensure_future(_once(exchange.commit(200)))
    await anyio.lowlevel.checkpoint()
    task.cancel()
    with anyio.fail_after(5), pytest.raises(asyncio.CancelledError):
        await task
    await exchange.finish(failed=True)


# -- a timeout around a verb


@NATIVE
@pytest.mark.parametrize("operation", ["before", "after"])
async def test_after_a_timeout_around_the_first_save_there_is_one_record(operation: str) -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    visitor = Visitor(store)
    exchange = await visitor.arrive()
    exchange.session["a"] = 1
    getattr(storage, operation)["create"] = anyio.sleep_forever
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await exchange.session.save()
    exchange.session["b"] = 2
    await visitor.leave(exchange)
    assert storage.calls == ["create", "load", "create" if operation == "before" else "replace"]
    assert dict(await store.get_by_id(visitor.sid or "")) == {"a": 1, "b": 2}
    assert len(storage.inner) == 1


@NATIVE
async def test_other_tasks_get_their_turn_when_the_one_that_commits_is_cancelled() -> None:
    house = House()
    exchange = await changed(house, write)
    house.storage.before["replace"] = anyio.sleep_forever
    first = asyncio.ensure_future(exchange.session.save())
    await anyio.wait_all_tasks_blocked()
    second = asyncio.ensure_future(exchange.session.save())
    await anyio.wait_all_tasks_blocked()
    first.cancel()
    await second
    assert await house.holds(house.visitor.sid) == {"n": 2}
    await exchange.finish()
