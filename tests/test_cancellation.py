"""Requests that are cut off in the middle of a commit: by anyio's scopes, and by asyncio's own Task.cancel()."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Literal

import anyio
import pytest
from tests.stores import SpyStorage
from tests.views import Visitor

from sessioncore import Session, SessionConfig, SessionStore

pytestmark = pytest.mark.anyio
NATIVE = pytest.mark.parametrize("anyio_backend", ["asyncio"])
Phase = Literal["before", "after"]
PHASES = pytest.mark.parametrize("phase", ["before", "after"])


class Gated(SpyStorage):
    """Stops in the next call, before or after it is done, until the gate is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []
        self.phase: Phase | None = None

    def stop(self, phase: Phase) -> None:
        self.phase = phase
        self.reached, self.gate = anyio.Event(), anyio.Event()
        self.calls.clear()
        self.done.clear()

    async def _through(self, operation: str, call: Callable[[], Awaitable[Any]]) -> Any:
        await self._pause("before")
        result = await super()._through(operation, call)
        await self._pause("after")
        self.done.append(operation)
        return result

    async def _pause(self, phase: Phase) -> None:
        if self.phase == phase:
            self.phase = None
            self.reached.set()
            await self.gate.wait()


async def begun(**config: Any) -> tuple[SessionStore, Visitor, Gated]:
    storage = Gated()
    store = SessionStore(SessionConfig(storage=storage, **config))
    visitor = Visitor(store)
    exchange = await visitor.arrive()
    exchange.session["n"] = 1
    await visitor.leave(exchange)
    return store, visitor, storage


async def write(session: Session) -> None:
    session.mutate("n", lambda n: n + 1)


async def move(session: Session) -> None:
    await session.regenerate()


async def create(session: Session) -> None:
    await session.reset()
    session["n"] = 1


CHANGES = pytest.mark.parametrize(("change", "operation"), [(write, "replace"), (move, "move"), (create, "create")])


async def cancel(task: "asyncio.Future[Any]", storage: Gated) -> None:
    """Cancel it in the storage, more than once, as impatient servers do; then let the storage go on."""
    await storage.reached.wait()
    for _ in range(3):
        task.cancel()
        await anyio.lowlevel.checkpoint()
    assert not task.done()
    storage.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task


@NATIVE
@PHASES
@CHANGES
async def test_a_native_cancellation_comes_after_the_commit(
    change: Callable[[Session], Awaitable[None]], operation: str, phase: Phase
) -> None:
    _, visitor, storage = await begun()
    exchange = await visitor.arrive()
    await change(exchange.session)
    storage.stop(phase)
    await cancel(asyncio.ensure_future(exchange.commit(200)), storage)
    assert storage.done == [operation]
    await exchange.finish(failed=True)


@NATIVE
@PHASES
async def test_a_native_cancellation_comes_after_a_logout(phase: Phase) -> None:
    store, visitor, storage = await begun()
    exchange = await visitor.arrive()
    storage.stop(phase)
    await cancel(asyncio.ensure_future(exchange.session.destroy()), storage)
    assert storage.done == ["delete"]
    exchange.session["n"] = 2  # a session of its own, not the one that was ended
    old = visitor.sid
    await visitor.leave(exchange)
    assert visitor.sid != old
    assert dict(await store.get_by_id(visitor.sid or "")) == {"n": 2}


@PHASES
@CHANGES
async def test_a_cancelled_scope_waits_for_the_commit(
    change: Callable[[Session], Awaitable[None]], operation: str, phase: Phase
) -> None:
    _, visitor, storage = await begun()
    exchange = await visitor.arrive()
    await change(exchange.session)
    storage.stop(phase)

    async def leave() -> None:
        with anyio.CancelScope() as scope:
            group.start_soon(open_later, scope)
            await exchange.commit(200)
            await anyio.sleep_forever()
        assert scope.cancelled_caught

    async def open_later(scope: anyio.CancelScope) -> None:
        await storage.reached.wait()
        scope.cancel()
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        storage.gate.set()

    async with anyio.create_task_group() as group:
        group.start_soon(leave)
    assert storage.done == [operation]
    await exchange.finish(failed=True)


@NATIVE
@PHASES
async def test_after_a_timeout_around_save_the_session_goes_on_where_the_storage_is(phase: Phase) -> None:
    store, visitor, storage = await begun()
    old = visitor.sid
    exchange = await visitor.arrive()
    session = exchange.session
    await session.regenerate()
    session.mutate("n", lambda n: n + 1)
    storage.stop(phase)
    asyncio.get_running_loop().call_later(0.05, storage.gate.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await session.save()
    session.mutate("n", lambda n: n + 1)
    await visitor.leave(exchange)
    assert visitor.sid != old
    assert dict(await store.get_by_id(visitor.sid or "")) == {"n": 3}


@NATIVE
@PHASES
async def test_after_a_timeout_around_the_first_save_there_is_one_record(phase: Phase) -> None:
    store, _, storage = await begun()
    visitor = Visitor(store)
    exchange = await visitor.arrive()
    exchange.session["a"] = 1
    storage.stop(phase)
    asyncio.get_running_loop().call_later(0.05, storage.gate.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await exchange.session.save()
    exchange.session["b"] = 2
    await visitor.leave(exchange)
    assert storage.calls == ["create", "replace"]
    assert dict(await store.get_by_id(visitor.sid or "")) == {"a": 1, "b": 2}


@NATIVE
@pytest.mark.parametrize("on_limit", ["evict_oldest", "refuse"])
async def test_a_login_that_is_cut_off_at_any_of_its_calls_keeps_to_the_owners_limit(on_limit: Any) -> None:
    store, _, storage = await begun(max_sessions_per_owner=1, on_owner_limit=on_limit)
    for calls in range(8):
        exchange = await Visitor(store).arrive()
        await exchange.session.login("ada")
        task = asyncio.ensure_future(exchange.commit(200))
        storage.calls.clear()
        while len(storage.calls) <= calls and not task.done():
            await anyio.lowlevel.checkpoint()
        task.cancel()
        await asyncio.wait([task])
        await exchange.finish(failed=True)
        assert len(await store.sessions_of("ada")) == 1


@NATIVE
async def test_a_stuck_storage_holds_a_cancelled_request_no_longer_than_storage_timeout() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage, storage_timeout=timedelta(seconds=0.1)))
    exchange = await Visitor(store).arrive()
    exchange.session["n"] = 1
    storage.before["create"] = anyio.sleep_forever
    task = asyncio.ensure_future(exchange.commit(200))
    await anyio.lowlevel.checkpoint()
    task.cancel()
    with anyio.fail_after(5), pytest.raises(asyncio.CancelledError):
        await task
    await exchange.finish(failed=True)
