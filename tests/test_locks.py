"""Locks for tasks of event loops in several threads, which wake a task in another loop."""

import asyncio
import gc
import time
from collections.abc import Coroutine
from selectors import SelectorKey, SelectSelector
from typing import Any

import anyio
import pytest
import trio
from tests.kit import BOTH_LOOPS
from tests.threads import in_threads, on_asyncio

from sessioncore.concurrency import _locks
from sessioncore.concurrency._event_loops import caller_from_any_thread
from sessioncore.concurrency._locks import CrossLoopLock, NamedLocks

pytestmark = pytest.mark.anyio


def test_loops_of_several_threads_hold_a_lock_in_turn() -> None:
    lock, inside, met = CrossLoopLock(), [0], list[int]()

    async def hold() -> None:
        async with lock:
            inside[0] += 1
            met.append(inside[0])
            await anyio.lowlevel.checkpoint()
            inside[0] -= 1

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(hold)

    in_threads([main] * 4, [on_asyncio, trio.run])
    assert met == [1] * 200


@BOTH_LOOPS
async def test_tasks_get_the_lock_in_the_order_in_which_they_came() -> None:
    lock, order = CrossLoopLock(), list[int]()

    async def hold(number: int) -> None:
        async with lock:
            order.append(number)

    async with anyio.create_task_group() as tasks, lock:
        for number in range(5):
            tasks.start_soon(hold, number)
            await anyio.wait_all_tasks_blocked()
    assert order == [0, 1, 2, 3, 4]


@BOTH_LOOPS
async def test_tasks_that_need_the_lock_no_longer_do_not_wait_for_each_other() -> None:
    lock, needless, woken = CrossLoopLock(), list[bool](), list[int]()

    async def wait(number: int) -> None:
        await lock.acquire(lambda: bool(needless))
        woken.append(number)
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        async with lock:
            for number in range(5):
                tasks.start_soon(wait, number)
                await anyio.wait_all_tasks_blocked()
            needless.append(True)
        await anyio.wait_all_tasks_blocked()
        assert sorted(woken) == [0, 1, 2, 3, 4]
        with anyio.fail_after(5):
            async with lock:
                pass
        tasks.cancel_scope.cancel()


@BOTH_LOOPS
async def test_a_cancelled_task_leaves_the_lock_to_the_next() -> None:
    lock, order = CrossLoopLock(), list[str]()

    async def hold(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            async with lock:
                order.append(name)

    waiting, given, last = anyio.CancelScope(), anyio.CancelScope(), anyio.CancelScope()
    async with anyio.create_task_group() as tasks:
        async with lock:
            for name, scope in (("given", given), ("waiting", waiting), ("last", last)):
                tasks.start_soon(hold, name, scope)
                await anyio.wait_all_tasks_blocked()
            waiting.cancel()
            await anyio.wait_all_tasks_blocked()
            assert order == []
        given.cancel()  # it has been given the lock, but has not run yet
    assert order in (["last"], ["given", "last"])
    with anyio.fail_after(5):
        await hold("free", anyio.CancelScope())


@BOTH_LOOPS
async def test_a_lock_that_another_thread_releases_just_now_is_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lock: Any = CrossLoopLock()

    def released_meanwhile(loop: Any) -> Any:
        lock.release(None)
        return caller_from_any_thread(loop)

    monkeypatch.setattr(_locks, "caller_from_any_thread", released_meanwhile)
    with anyio.fail_after(5):
        await lock.__aenter__()
        async with lock:
            monkeypatch.undo()
            with anyio.move_on_after(0.01) as scope:
                await lock.__aenter__()
            assert scope.cancelled_caught
        async with lock:
            pass


def left_behind(*works: Coroutine[Any, Any, None]) -> list[asyncio.Task[None]]:
    """Tasks of a loop that was closed without cancelling them, as asyncio.run would."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, __: None)  # asyncio logs tasks that are destroyed
    tasks = [loop.create_task(work) for work in works]
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    return tasks


def test_a_loop_that_ends_leaves_its_locks_to_others() -> None:
    locks = NamedLocks()

    async def hold_for_ever(names: str) -> None:
        async with locks.held(*names):
            await asyncio.Event().wait()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for names in ("c", "b", "a"):
                tasks.start_soon(free, names)
            await anyio.wait_all_tasks_blocked()
            left.clear()
            gc.collect()  # the first ends the holders
            gc.collect()  # and the second the task that was in a queue

    async def free(names: str) -> None:
        with anyio.fail_after(5):
            async with locks.held(*names):
                pass

    left = left_behind(hold_for_ever("b"), hold_for_ever("ab"), hold_for_ever("c"))
    passed_over = left_behind(hold_for_ever("c"))
    asyncio.run(main())
    del passed_over
    gc.collect()
    asyncio.run(free("abc"))


def test_a_holder_that_is_collected_as_garbage_wakes_a_loop_that_is_about_to_sleep() -> None:
    lock, garbage = CrossLoopLock(), list[Coroutine[Any, Any, None]]()

    class Collecting(SelectSelector):
        def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
            if timeout != 0:
                garbage.clear()
            return super().select(timeout)

    async def hold() -> None:
        async with lock:
            await asyncio.sleep(0)

    async def main() -> float:
        began = time.monotonic()
        garbage.append(hold())
        garbage[0].send(None)
        with anyio.fail_after(5):
            async with lock:
                return time.monotonic() - began

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(Collecting())) as runner:
        assert runner.run(main()) < 4


@pytest.mark.parametrize("same_thread", [True, False])
def test_a_waiter_whose_loop_has_ended_does_not_release_the_lock_of_another_task(same_thread: bool) -> None:
    lock, ended, order = CrossLoopLock(), asyncio.new_event_loop(), list[str]()
    ended.set_exception_handler(lambda _, __: None)

    async def hold(name: str) -> None:
        async with lock:
            order.append(name)
            gc.collect()
            await anyio.sleep(0.01)
            order.append(name)

    def wait_and_end() -> None:
        waits = ended.create_task(hold("ended"))
        ended.run_until_complete(asyncio.sleep(0))
        ended.close()
        del waits

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for name in ("first", "second"):
                tasks.start_soon(hold, name)
            await anyio.wait_all_tasks_blocked()
            await lock.__aexit__(None)

    with asyncio.Runner() as runner:
        runner.run(lock.__aenter__())
        wait_and_end() if same_thread else runner.run(anyio.to_thread.run_sync(wait_and_end))
        runner.run(main())
    assert order == ["first", "first", "second", "second"]


def test_a_lock_of_a_loop_that_was_closed_with_its_tasks_is_free() -> None:
    lock, closed = CrossLoopLock(), asyncio.new_event_loop()
    closed.set_exception_handler(lambda _, __: None)

    async def hold() -> None:
        async with lock:
            await anyio.sleep_forever()

    async def main() -> None:
        with anyio.fail_after(5):
            async with lock:
                held.close()  # which must not release the lock of this task
                with anyio.move_on_after(0.01) as waited:
                    await lock.acquire(lambda: False)
            assert waited.cancelled_caught
            async with lock:
                pass

    held = hold()
    _kept = closed.create_task(held)  # as anyio keeps a task that is in a cancel scope or waits for a thread
    closed.run_until_complete(asyncio.sleep(0))
    closed.close()
    asyncio.run(main())


@BOTH_LOOPS
async def test_locks_are_dropped_when_nobody_holds_or_awaits_them() -> None:
    locks = NamedLocks()
    order: list[str] = []

    async def take(name: str, *keys: str) -> None:
        async with locks.held(*keys):
            order.append(name)
            await anyio.lowlevel.checkpoint()
            order.append(name)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(take, f"{number}", *(("a", "b") if number % 2 else ("b", "a")))
    assert order[::2] == order[1::2]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take, "cancelled", "a")
        tasks.cancel_scope.cancel()
    gc.collect()  # an exception keeps its frames alive
    assert not list(locks._locks)  # pyright: ignore[reportPrivateUsage]


@BOTH_LOOPS
async def test_a_task_that_is_cancelled_between_two_locks_gives_the_first_one_up() -> None:
    locks, waiting = NamedLocks(), anyio.CancelScope()

    async def hold(scope: anyio.CancelScope, *names: str) -> None:
        with scope:
            async with locks.held(*names):
                pass

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks, locks.held("b"):
            for scope, names in ((waiting, "ab"), (anyio.CancelScope(), "a")):
                tasks.start_soon(hold, scope, *names)
                await anyio.wait_all_tasks_blocked()
            waiting.cancel()
