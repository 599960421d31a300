"""Sessions are watched in event loops whose tasks another library makes, or begin at once."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from tests.live.live_kit import watched

from sessioncore import MemoryStorage, SessionGone

pytestmark = pytest.mark.anyio


def plain(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], *, name: str | None = None) -> Any:
    """Make a task as the factories of older libraries do, which take no `context`."""
    return asyncio.Task(work, loop=loop, name=name)


FACTORIES: list[Any] = [plain, *filter(None, [getattr(asyncio, "eager_task_factory", None)])]  # since Python 3.12


@pytest.mark.parametrize("factory", FACTORIES)
async def test_an_end_is_noticed_whatever_makes_the_tasks(factory: Any) -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    try:
        async with watched(MemoryStorage()) as one:
            await one.store.revoke_all("u")
            await one.ended.wait()
    finally:
        loop.set_task_factory(None)
    assert isinstance(one.error, SessionGone)
