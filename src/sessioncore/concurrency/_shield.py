"""Runs work of several steps to its end even if the task that awaits it is cancelled."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

from sessioncore.concurrency._event_loops import asyncio_loop

__all__ = ["run_shielded"]

T = TypeVar("T")


async def run_shielded(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end; if the caller is cancelled meanwhile, raise the cancellation afterwards.

    So all steps of `work` are done, or none. `work` needs timeouts of its own.
    """
    loop = asyncio_loop()
    if loop is None:  # on trio only scopes cancel, and they respect shields
        with anyio.CancelScope(shield=True):
            return await work
        raise AssertionError("this scope is never cancelled") from None
    # Task.cancel(), which asyncio.timeout and stopping servers call, ignores anyio's shields and cancels
    # whatever the task awaits. So run the work in a task of its own and await a future.
    task = loop.create_task(work)
    finished: asyncio.Future[None] = loop.create_future()
    task.add_done_callback(lambda _: None if finished.done() else finished.set_result(None))
    try:
        await finished
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):  # without this, anyio would cancel again in every loop iteration
            while not task.done():
                try:
                    await asyncio.wait([task])
                except asyncio.CancelledError:
                    continue
        if not task.cancelled():
            task.exception()  # mark it as retrieved, because the cancellation is raised instead
        raise
    return task.result()
