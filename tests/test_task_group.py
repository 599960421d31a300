"""Tasks of a block and in the background; for the end of their event loop see `storage/test_every_turn.py`."""

import gc
from functools import partial
from types import CoroutineType

import anyio
import anyio.lowlevel
import pytest
from tests.kit import BOTH_LOOPS

from sessioncore import StorageUnavailable
from sessioncore.concurrency._background import run_in_background
from sessioncore.concurrency._gather import MAX_CONCURRENT_CALLS, gather
from sessioncore.concurrency._task_group import TaskGroup

pytestmark = [pytest.mark.anyio, BOTH_LOOPS]


async def test_tasks_end_with_their_block() -> None:
    begun = list[int]()

    async def work(number: int) -> None:
        begun.append(number)
        await anyio.sleep_forever()

    with anyio.fail_after(10):
        async with TaskGroup() as tasks:
            tasks.start_soon(work, 1)
            tasks.start_soon(partial(work, 2))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel()
    assert sorted(begun) == [1, 2]


async def test_a_group_keeps_nothing_of_work_that_has_ended() -> None:
    def coroutines() -> int:
        return sum(type(one) is CoroutineType for one in gc.get_objects())  # `isinstance` fails at a dead weakref.proxy

    async with TaskGroup() as group:
        before = coroutines()
        for _ in range(10):
            group.start_soon(anyio.lowlevel.checkpoint)
        await anyio.wait_all_tasks_blocked()
        assert coroutines() < before + 10


async def test_background_work_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    ended = anyio.Event()
    _task = run_in_background("counting", fail, ended.set)
    await ended.wait()
    assert "counting failed: this is a bug in sessioncore" in caplog.text


async def test_of_many_calls_none_begins_after_one_has_failed() -> None:
    begun = list[None]()

    async def fail() -> None:
        begun.append(None)
        await anyio.lowlevel.checkpoint()
        raise StorageUnavailable

    with pytest.raises(StorageUnavailable):
        await gather([fail] * 3 * MAX_CONCURRENT_CALLS)
    assert len(begun) == MAX_CONCURRENT_CALLS
