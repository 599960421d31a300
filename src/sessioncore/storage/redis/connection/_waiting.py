"""Waiting: until a deadline, for all of several calls, for the first that succeeds, or for cancelled tasks."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from math import inf
from time import monotonic
from typing import Any, TypeVar

from sessioncore._batched import batched
from sessioncore.concurrency._standstill import time_limit
from sessioncore.storage._first_success import first_success
from sessioncore.storage.redis._errors import ReplyTimeout, is_explained

__all__ = ["LATE", "all_of", "cancel_and_wait", "first_answer", "for_each", "within"]

LATE = "no answer in time (see storage_timeout)"
_AT_ONCE = 1000  # calls of one caller: then others get their turn
_AGAIN = 0.1  # seconds until a task that has not ended is cancelled once more
_K = TypeVar("_K")
_T = TypeVar("_T")


async def within(deadline: float, call: Coroutine[Any, Any, _T]) -> _T:
    """Await `call` until `deadline`, by the monotonic clock.

    Raises:
        ReplyTimeout: time is up.
    """
    if deadline == inf:
        return await call
    try:
        async with time_limit(deadline - monotonic()):
            return await call
    except TimeoutError as exc:
        raise ReplyTimeout(LATE) from exc


async def cancel_and_wait(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks, and return when they have ended.

    Before Python 3.12, `asyncio.wait_for`, which redis-py calls to send a command, may swallow a cancellation.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=_AGAIN)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # otherwise asyncio logs that it was never retrieved


async def all_of(calls: Iterable[Awaitable[_T]]) -> list[_T]:
    """Wait for all, then return their results or raise the first error."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        results = await asyncio.gather(*tasks, return_exceptions=True)
    except asyncio.CancelledError:
        # If the last call had been answered, `gather` raises a cancellation without a message. By the message, a cancel
        # scope recognises its own: without it, a call past its time limit would cancel the caller.
        for task in tasks:
            if task.cancelled():
                task.result()
        raise
    done: list[_T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done


async def for_each(keys: Iterable[_K], call: Callable[[_K], Awaitable[_T]]) -> list[_T]:
    """Make a call for each key, many of them at the same time; return their results in the order of the keys."""
    results: list[_T] = []
    for some in batched(keys, _AT_ONCE):
        results += await all_of(map(call, some))
    return results


async def first_answer(calls: Sequence[Callable[[], Coroutine[Any, Any, _T]]]) -> _T:
    """Return the first answer of several servers that know the same, such as sentinels.

    Raises:
        Exception: all have failed; of their errors, one that explains itself, if there is any.
    """
    return await first_success(calls, tells=is_explained, leave=cancel_and_wait)
