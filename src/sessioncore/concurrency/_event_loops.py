"""Which event loop runs here, whether another one still runs, and calls into another one.

One process can have several loops, each in a thread of its own: a server with a loop per worker
thread, `asyncio.run` in synchronous views.
"""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

__all__ = ["asyncio_loop", "caller_from_any_thread", "event_loop", "has_ended", "reaches_loop"]


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """Return asyncio's event loop, also in a callback; None in a task of trio.

    There asyncio may have a running loop, too: trio-asyncio runs one inside trio, and trio's guest mode is run by one.
    """
    if "trio" in sys.modules:
        with suppress(AttributeError, RuntimeError):  # trio is not imported completely, or does not run
            sys.modules["trio"].lowlevel.current_task()
            return None
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def event_loop() -> Any:
    """Return asyncio's event loop or trio's token, also in a callback of asyncio's loop.

    If sniffio is installed, anyio finds a loop only in a task, unless `anyio.run` has started the loop.
    """
    loop = asyncio_loop()
    if loop is not None:
        return loop
    import trio  # noqa: PLC0415 - optional, and it is running

    return trio.lowlevel.current_trio_token()


def has_ended(loop: Any) -> bool:
    """Return whether an `event_loop` will run no more."""
    if isinstance(loop, asyncio.AbstractEventLoop):
        return loop.is_closed()
    return not reaches_loop(loop.run_sync_soon, _nothing)


def _nothing() -> None:
    """Do nothing, in another event loop."""


def reaches_loop(call: Callable[..., object], *args: object) -> bool:
    """Call a function that needs its event loop; return False if the loop has ended."""
    try:
        call(*args)
    except RuntimeError:
        return False
    return True


def caller_from_any_thread(loop: Any) -> Callable[..., bool]:
    """Return a function that has an `event_loop` call its arguments soon.

    After the loop has ended, it returns False and does nothing.
    """
    call_soon = loop.call_soon_threadsafe if isinstance(loop, asyncio.AbstractEventLoop) else loop.run_sync_soon
    return partial(reaches_loop, call_soon)
