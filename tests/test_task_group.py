"""Tasks of a block; `storage/test_every_turn.py` tells what becomes of them when the event loop ends."""

from functools import partial

import anyio
import pytest
from tests.kit import BOTH_LOOPS

from sessioncore.concurrency._task_group import TaskGroup


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
