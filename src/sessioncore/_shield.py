"""Work that is not cut in two, whatever happens to the task that waits for it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

__all__ = ["to_the_end"]

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end, also when the caller is cancelled meanwhile: that is raised afterwards.

    So what changes the storage is either done or not begun, and the session in the handler's hands
    knows which. `work` has to bound itself.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # trio: scopes are all that cancels
        with anyio.CancelScope(shield=True):
            return await work
        raise AssertionError("nobody cancels this scope") from None
    # asyncio: Task.cancel() knows no shields (asyncio.timeout, a server that stops its handlers), and what it
    # cancels is whatever the task waits for. So the work has a task of its own, and this one waits for a bell.
    task = loop.create_task(work)
    bell: asyncio.Future[None] = loop.create_future()
    task.add_done_callback(lambda _: None if bell.done() else bell.set_result(None))
    try:
        await bell
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):  # else anyio cancels us anew on every turn of the loop
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError:
                    continue
        if not task.cancelled():
            task.exception()  # seen: the caller's own end comes first
        raise
    return task.result()
