"""Tasks of a block: what becomes of them when the event loop ends before they have begun."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest
from tests.kit import BOTH_LOOPS

from sessioncore import SessionConfig, SessionStore
from sessioncore.concurrency._gather import gather
from sessioncore.concurrency._task_group import TaskGroup


async def watch() -> None:
    async with (await SessionStore(SessionConfig.development()).create({"n": 1})).alive():
        await anyio.sleep_forever()


async def call_twice() -> None:
    await gather([anyio.sleep_forever] * 2)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("work", [watch, call_twice])
def test_no_coroutine_was_never_awaited_whenever_the_event_loop_ends(
    work: Callable[[], Awaitable[None]], turns: int
) -> None:
    async def main() -> None:
        _ = asyncio.ensure_future(work())  # `asyncio.run` cancels it, at its end
        for _ in range(turns):
            await asyncio.sleep(0)

    asyncio.run(main())
    gc.collect()  # only now a coroutine that was never awaited makes a warning, which fails this test


@pytest.mark.anyio
@BOTH_LOOPS
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
