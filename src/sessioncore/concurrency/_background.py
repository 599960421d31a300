"""Work that belongs to the event loop, not to the task that starts it."""

import logging
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from sessioncore.concurrency._event_loops import asyncio_loop

__all__ = ["run_in_background"]

_logger = logging.getLogger("sessioncore")


def run_in_background(
    purpose: str, work: Callable[[], Coroutine[Any, Any, None]], on_end: Callable[[], None] = lambda: None
) -> object:
    """Run `work` until it ends or the event loop does, and return its task; an exception is logged.

    `on_end` is called even if the task is cancelled before it has begun. The task runs in an empty
    context, so that it does not keep the request alive that has started it.
    """

    async def run() -> None:
        try:
            await work()
        except Exception:
            _logger.exception("%s failed: this is a bug in sessioncore or in the storage", purpose)

    async def run_to_the_end() -> None:
        try:
            await run()
        finally:
            on_end()

    loop = asyncio_loop()
    if loop is None:
        import trio  # noqa: PLC0415 - optional, and it is running

        return trio.lowlevel.spawn_system_task(run_to_the_end, context=Context())
    task = Context().run(loop.create_task, run())  # factories of older libraries take no `context`
    task.add_done_callback(lambda _: on_end())
    return task
