"""The suite notices a call that blocks asyncio's loop; see `no_blocking_calls` in conftest.py."""

import time

import pytest
from blockbuster import BlockingError

from sessioncore import SessionConfig, SessionStore


@pytest.mark.anyio
async def test_code_of_ours_that_blocks_the_loop_fails_its_test() -> None:
    def clock() -> float:
        time.sleep(0.001)
        return time.time()

    with pytest.raises(BlockingError, match=r"time\.sleep"):
        await SessionStore(SessionConfig(clock=clock)).create()
