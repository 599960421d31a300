"""Requests that are cut off: at every turn of the event loop, by anyio's scopes and by asyncio's own Task.cancel()."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.kit import Lab, Work, mutate
from tests.persistence.test_lost_replies import begin_anew
from tests.persistence.test_lost_replies import regenerate as rotate
from tests.stores import SuspendingStorage
from tests.turns import watched
from tests.views import PlainView

from sessioncore import Exchange, Session, SessionError
from sessioncore.testing import ManualClock

pytestmark = pytest.mark.anyio

LOOPS = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
    pytest.param(("trio", dict[str, Any]()), id="trio"),
]


def suspending(**config: Any) -> Lab:
    """A lab whose storage suspends several times in each call."""
    clock = ManualClock()
    return Lab(SuspendingStorage(clock, turns=2), clock=clock, **config)


# -- ways to cut off


class Turns:
    """Counts the suspensions of work from 0 on, and cuts it off at number `at`."""

    def __init__(self, at: int, cut: Callable[[], object]) -> None:
        self.left = at
        self.cut = cut

    def look(self) -> None:
        self.left -= 1
        if self.left == -1:
            self.cut()


async def cut_by_scope(work: Callable[[], Awaitable[Any]], at: int) -> bool:
    """Cancel the scope around `work` at its suspension `at`; return whether it has reached that one."""
    scope = anyio.CancelScope()
    turns = Turns(at, scope.cancel)
    with scope:
        await watched(work, turns.look)
    return turns.left < 0


async def cut_natively(work: Callable[[], Awaitable[Any]], at: int) -> bool:
    """Cancel the task of `work` at its suspension `at`, three times, as impatient servers do."""
    loop = asyncio.get_running_loop()

    def cancel(times: int) -> None:
        task.cancel()
        if times > 1:
            loop.call_soon(cancel, times - 1)

    async def run() -> None:
        await watched(work, turns.look)

    turns = Turns(at, lambda: loop.call_soon(cancel, 3))
    task = asyncio.ensure_future(run())
    with suppress(asyncio.CancelledError):
        await task
    return turns.left < 0


Cut = Callable[[Callable[[], Awaitable[Any]], int], Awaitable[bool]]
EVERY_WAY = pytest.mark.parametrize(
    ("anyio_backend", "cut"),
    [
        pytest.param(*loop.values, cut, id=f"{loop.id}-{cut.__name__}")
        for loop, cut in [*((loop, cut_by_scope) for loop in LOOPS), *((loop, cut_natively) for loop in LOOPS[:2])]
    ],
)


# -- a commit of one call


CHANGES = pytest.mark.parametrize(
    ("change", "event"), [(mutate, None), (rotate, "regenerated"), (begin_anew, "created")]
)  # fmt: skip


def counting() -> Iterator[int]:
    """The suspension points to cut at, up to a number that no commit reaches."""
    yield from range(200)
    raise AssertionError("this commit never ends")


async def changed(lab: Lab, change: Work) -> Exchange:
    """A request that has changed the session of the visitor and not committed yet."""
    exchange = await lab.begin_request()
    await change(exchange.session)
    lab.forget()
    return exchange


@pytest.mark.proves("P3", "AT-103")
@EVERY_WAY
@CHANGES
async def test_a_commit_cut_off_anywhere_leaves_the_storage_before_or_after(
    cut: Cut, change: Work, event: str | None
) -> None:
    seen: set[int | None] = set()
    for at in counting():
        lab = suspending()
        exchange = await changed(lab, change)
        old, new = lab.visitor.sid, exchange.session.id
        reached = await cut(functools.partial(exchange.commit, 200), at)
        before, after = await lab.data(old), await lab.data(new)
        assert not reached or lab.kinds() == [], "an event was sent although the outcome was unknown"
        if old == new:
            assert before in ({"n": 1}, {"n": 2})
        elif change is rotate:
            assert (before, after) in (({"n": 1}, None), (None, {"n": 2}))
        else:
            assert before is None
            assert after in (None, {"n": 2})
        seen.add(None if after is None else after["n"])
        await exchange.finish(failed=reached)
        assert len(lab.storage.inner) == (0 if change is begin_anew and after is None else 1)
        if not reached:
            assert after == {"n": 2}
            assert lab.kinds() == ([] if event is None else [event])
            break
    assert len(seen) == 2  # it was cut off on both sides of the effect


@EVERY_WAY
@CHANGES
@pytest.mark.parametrize("ends", [False, True], ids=["goes on", "logs out"])
async def test_the_next_commit_finds_out_what_became_of_one_that_was_cut_off_and_a_logout_ends_it(
    cut: Cut, change: Work, event: str | None, ends: bool
) -> None:
    for at in counting():
        lab = suspending()
        exchange = await changed(lab, change)
        session, old = exchange.session, lab.visitor.sid
        reached = await cut(session.save, at)
        assert lab.kinds() == [] or not reached
        if ends:
            await session.destroy()
        else:
            session["late"] = True
        await lab.visitor.leave(exchange)
        assert len(lab.storage.inner) == (not ends)
        if not ends:
            assert (lab.visitor.sid == old) is (change is mutate)
            assert await lab.data() == {"n": 2, "late": True}  # neither lost nor done twice
            assert lab.kinds("conflict") == ([] if event is None else [event])
        if not reached:
            break


@EVERY_WAY
async def test_a_load_or_renewal_cut_off_anywhere_changes_nothing_but_the_clock(cut: Cut) -> None:
    for at in counting():
        lab = suspending()
        await lab.begin()
        lab.clock.advance(600)
        exchange = lab.store.exchange(PlainView([f"__Host-session_id={lab.visitor.sid}".encode()]))
        loading = await cut(exchange.load, at)
        await exchange.load()  # a load can be repeated
        assert exchange.session["n"] == 1
        lab.forget()
        reached = await cut(functools.partial(exchange.commit, 200), at)
        assert lab.calls in ([], ["touch"])
        assert lab.kinds() == ([] if reached else ["renewed"])
        await exchange.finish(failed=reached)
        assert await lab.data() == {"n": 1}
        if not loading and not reached:
            break


@pytest.mark.proves("AT-103")
@EVERY_WAY
async def test_an_end_cut_off_anywhere_has_ended_the_session_or_not(cut: Cut) -> None:
    for verb in (Session.destroy, Session.reset):
        seen: set[bool] = set()
        for at in counting():
            lab = suspending()
            exchange = await lab.begin_request()
            lab.forget()
            reached = await cut(functools.partial(verb, exchange.session), at)
            held = await lab.data()
            assert held in (None, {"n": 1})
            seen.add(held is None)
            assert lab.kinds() == ([] if reached else ["destroyed"])
            await exchange.session.destroy()  # it can be tried again
            assert len(lab.storage.inner) == 0
            await lab.visitor.leave(exchange)
            assert lab.visitor.sid is None
            if not reached:
                break
        assert seen == {True, False}


# -- a commit of several calls


async def cut_after(turns: int, work: Callable[[], Awaitable[Any]], *, natively: bool) -> bool:
    """Cancel a task after this many turns of the loop, wherever its work is then; False if it had ended."""
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
async def test_a_login_cut_off_anywhere_keeps_to_the_owners_limit(cut: Cut, on_limit: str) -> None:
    outcomes: set[bool] = set()
    for at in counting():
        lab = suspending(max_sessions_per_owner=1, on_owner_limit=on_limit)
        first = await lab.store.create(owner="ada")
        lab.clock.advance(1)
        exchange = await changed(lab, Session.regenerate)
        await exchange.session.login("ada")
        old, new = lab.visitor.sid, exchange.session.id
        commit = functools.partial(exchange.commit, 200)
        reached = await cut_after(at, commit, natively=cut is cut_natively)
        await exchange.finish(failed=True)
        [left] = await lab.store.sessions_of("ada")
        kept = left.handle == first.handle
        if on_limit == "refuse":
            assert kept
            assert await lab.data(old) == {"n": 1}
        else:
            assert (await lab.data(old), await lab.data(new)) == (({"n": 1}, None) if kept else (None, {"n": 1}))
            outcomes.add(kept)
        if not reached:
            break
    assert on_limit == "refuse" or False in outcomes


async def test_a_stuck_storage_holds_a_cancelled_login_no_longer_than_storage_timeout() -> None:
    lab = Lab(storage_timeout=timedelta(seconds=0.1), max_sessions_per_owner=1)
    exchange = await lab.visitor.arrive()
    await exchange.session.login("ada")
    lab.storage.hold("create")

    async def commit() -> None:
        await exchange.commit(200)

    task = asyncio.ensure_future(commit())
    await anyio.lowlevel.checkpoint()
    task.cancel()
    with anyio.fail_after(5), pytest.raises(asyncio.CancelledError):
        await task
    await exchange.finish(failed=True)
