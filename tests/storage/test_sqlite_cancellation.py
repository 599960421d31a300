"""Callers of SQLite that are cancelled in the middle of a call: only their own call ends.

A thread cannot be stopped, and asyncio's own Task.cancel() ignores anyio's shields. So most of
these tests hold a thread in the middle of its work, when it asks for the time, and cancel a caller.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from sessioncore.storage import SQLiteStorage

pytestmark = pytest.mark.anyio
Task = asyncio.Task[Any]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class HeldClock:
    """Tells the time; between `hold` and `go`, threads that ask have to wait; no two may ask at the same time."""

    def __init__(self) -> None:
        self._inside = threading.Lock()
        self._gate = threading.Event()
        self._asked = threading.Semaphore(0)
        self._holding = False
        self.overlaps = 0

    def __call__(self) -> float:
        if not self._inside.acquire(blocking=False):
            self.overlaps += 1
            return time.time()
        try:
            if self._holding:
                gate = self._gate
                self._asked.release()
                assert gate.wait(20), "the test did not let the thread go on"
            return time.time()
        finally:
            self._inside.release()

    def hold(self) -> None:
        self._gate = threading.Event()
        self._holding = True

    async def reached(self) -> None:
        assert await anyio.to_thread.run_sync(self._asked.acquire, True, 20), "no thread asked for the time"

    def go_on_to_the_next(self) -> None:
        gate, self._gate = self._gate, threading.Event()
        gate.set()

    def go(self) -> None:
        self._holding = False
        self._gate.set()


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@asynccontextmanager
async def opened(path: Path, clock: HeldClock) -> AsyncGenerator[SQLiteStorage, None]:
    storage = SQLiteStorage(path, clock=clock)
    await storage.create("k", b"data", 1000)
    try:
        yield storage
    finally:
        clock.go()
        await storage.aclose()


Call = Callable[[SQLiteStorage, int], Coroutine[Any, Any, Any]]
KINDS: dict[str, Call] = {
    "load": lambda storage, _: storage.load("k"),
    "renew": lambda storage, _: storage.load("k", renew=1000),
    "create": lambda storage, number: storage.create(f"n{number}", b"", 1000),
}
CALLS = pytest.mark.parametrize("call", KINDS.values(), ids=[*KINDS])


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def on_the_way(clock: HeldClock, storage: SQLiteStorage, call: Call) -> list[Task]:
    """Nine tasks whose calls are one batch; the first task runs it, and is held in the thread."""
    clock.hold()
    before = asyncio.create_task(call(storage, -1))
    await clock.reached()
    tasks = [asyncio.create_task(call(storage, number)) for number in range(9)]
    await turns()
    clock.go_on_to_the_next()
    await clock.reached()
    assert await before is not None
    return tasks


@CALLS
async def test_a_driver_that_is_cancelled_takes_the_others_to_the_end(path: Path, clock: HeldClock, call: Call) -> None:
    async with opened(path, clock) as storage:
        driver, *others = await on_the_way(clock, storage, call)
        for _ in range(3):  # as impatient servers do
            driver.cancel()
            await turns()
        assert driver.cancelled()
        assert not any(other.done() for other in others)
        clock.go()
        await asyncio.wait(others)
        assert None not in [other.result() for other in others]
    assert clock.overlaps == 0


@CALLS
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_disk_that_stands_still_keeps_no_caller_for_longer_than_it_waits(
    path: Path, clock: HeldClock, call: Call
) -> None:
    async with opened(path, clock) as storage:
        clock.hold()
        for number in range(3):
            with anyio.move_on_after(0.05) as scope:
                await call(storage, number)
            assert scope.cancelled_caught
        clock.go()
        assert await call(storage, 3) is not None
    assert clock.overlaps == 0


@CALLS
async def test_a_caller_that_is_cancelled_while_waiting_leaves_at_once_and_nothing_is_done(
    path: Path, clock: HeldClock, call: Call
) -> None:
    async with opened(path, clock) as storage:
        clock.hold()
        driver = asyncio.create_task(call(storage, 1))
        await clock.reached()
        waiting = asyncio.create_task(call(storage, 2))
        await turns()
        waiting.cancel()
        with anyio.fail_after(5):
            await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert not driver.done()
        clock.go()
        assert await driver is not None
        assert await storage.load("n2") is None


@CALLS
@pytest.mark.parametrize("closes", [False, True])
async def test_a_caller_after_cancelled_callers_waits_for_the_thread(
    path: Path, clock: HeldClock, call: Call, closes: bool
) -> None:
    async with opened(path, clock) as storage:
        for task in await on_the_way(clock, storage, call):
            task.cancel()
        later: Task = asyncio.create_task(storage.aclose() if closes else call(storage, 100))
        await anyio.sleep(0.05)  # time in which a second thread would begin
        assert not later.done()
        clock.go()
        assert (await later is None) is closes
        if closes:
            assert not list(path.parent.glob("sessions.db-*")), "no connection is left"
            assert await storage.load("k") is not None
    assert clock.overlaps == 0


@pytest.mark.proves("AT-111")
async def test_closing_that_is_cancelled_closes_all_the_same(path: Path, clock: HeldClock) -> None:
    async with opened(path, clock) as storage:
        clock.hold()
        under_way = asyncio.create_task(storage.load("k"))
        await clock.reached()
        closing = asyncio.create_task(storage.aclose())
        await turns()
        closing.cancel()
        await turns()
        clock.go()
        await asyncio.wait([closing])
        assert closing.cancelled()
        assert await under_way is not None, "a call that was made before is answered"
        assert not list(path.parent.glob("sessions.db-*"))


@pytest.mark.parametrize("delay", range(10))
@pytest.mark.parametrize("cancelled", [True, False])
async def test_closing_finds_what_is_being_opened(path: Path, delay: int, cancelled: bool) -> None:
    storage = SQLiteStorage(path)
    opening = asyncio.create_task(storage.open())
    await turns(delay)
    if cancelled:
        cancelled = opening.cancel()  # False if it has ended already, on a fast disk
    await asyncio.wait([opening, asyncio.create_task(storage.aclose())])
    if delay:
        assert opening.cancelled() is cancelled
        assert not list(path.parent.glob("sessions.db-*"))
    await storage.aclose()


async def test_a_call_that_opens_while_another_task_closes_is_answered(path: Path) -> None:
    for _ in range(20):
        storage = SQLiteStorage(path)
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(storage.create, f"k{number}", b"", 1000)
                tasks.start_soon(storage.load, f"k{number}")
                tasks.start_soon(storage.aclose)
        await storage.aclose()
        assert not list(path.parent.glob("sessions.db-*"))


@CALLS
def test_a_loop_that_cancels_all_its_tasks_and_closes_lets_no_two_threads_in(path: Path, call: Call) -> None:
    clock = HeldClock()

    async def main() -> None:
        async with opened(path, clock) as storage, opened(path, HeldClock()) as another:
            await on_the_way(clock, storage, call)
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.wait(rest)
            closing = asyncio.create_task(storage.aclose())
            later = asyncio.create_task(call(another, 50))
            await anyio.sleep(0.05)
            assert not closing.done()
            clock.go()
            await closing
            assert await later is not None

    asyncio.run(main())
    assert clock.overlaps == 0


def test_a_loop_may_end_with_calls_under_way(path: Path) -> None:
    def slow() -> float:
        time.sleep(0.002)
        return time.time()

    async def main(storage: SQLiteStorage) -> set[Task]:
        await storage.create("k", b"x" * 50_000, 1000)
        left = {asyncio.create_task(storage.load("k", renew=number % 2 * 1000 or None)) for number in range(8)}
        await turns(3)
        return left

    for _ in range(10):
        storage = SQLiteStorage(path, clock=slow)
        assert all(task.cancelled() for task in asyncio.run(main(storage)))
        asyncio.run(storage.aclose())
