"""Work of several steps that is not cut in two, whatever happens to the task that waits for it."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

__all__ = ["run_shielded"]

T = TypeVar("T")


async def run_shielded(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end, also when the caller is cancelled meanwhile: that is raised afterwards.

    So work of several steps is either done or not begun. `work` has to bound itself.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # trio: scopes are all that cancels
        with anyio.CancelScope(shield=True):
            return await work
        raise AssertionError("nobody cancels this scope") from None
    # Task.cancel() ignores anyio's shields (asyncio.timeout and servers that stop their handlers call it) and
    # cancels whatever the task awaits. So run the work in a task of its own and await a future.
    task = loop.create_task(work)
    finished: asyncio.Future[None] = loop.create_future()
    task.add_done_callback(lambda _: None if finished.done() else finished.set_result(None))
    try:
        await finished
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):  # else anyio cancels us anew on every turn of the loop
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError:
                    continue
        if not task.cancelled():
            task.exception()  # mark it as retrieved: the caller's own end comes first
        raise
    return task.result()
