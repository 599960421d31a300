"""Work that belongs to the event loop, not to the request that starts it."""

import logging
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from sessioncore._cross_loop import asyncio_loop

__all__ = ["run_in_background"]

_logger = logging.getLogger("sessioncore")


def run_in_background(work: Callable[[], Coroutine[Any, Any, None]]) -> object:
    """Run `work` until it ends or the event loop does, and return its task; an exception is logged.

    It runs in an empty context, so that it does not keep the request alive that has started it.
    """

    async def run() -> None:
        try:
            await work()
        except Exception:
            _logger.exception("watching the sessions of open connections failed: this is a bug in sessioncore")

    loop = asyncio_loop()
    if loop is None:
        import trio  # noqa: PLC0415 - optional, and it is running

        return trio.lowlevel.spawn_system_task(run, context=Context())
    return Context().run(loop.create_task, run())  # factories of older libraries take no `context`
