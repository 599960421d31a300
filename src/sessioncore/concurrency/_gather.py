"""Awaits several storage calls at the same time."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from sessioncore._errors import SessionError
from sessioncore.concurrency._task_group import TaskGroup

__all__ = ["MAX_CONCURRENT_CALLS", "gather"]

MAX_CONCURRENT_CALLS = 64  # enough to share round trips, few enough to leave the storage time for other requests

T = TypeVar("T")


async def gather(calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Make calls at the same time, so that a storage can share round trips; at most `MAX_CONCURRENT_CALLS` of them.

    The results are in the order of the calls.

    Raises:
        SessionError: the first that a call raised, after all calls that had begun have ended; no other call begins.
    """
    results: dict[int, T] = {}
    failed: list[SessionError] = []
    waiting = list(enumerate(calls))
    rest = iter(waiting)

    async def work() -> None:
        for number, call in rest:
            try:
                results[number] = await call()
            except SessionError as exc:  # raised below, because a task group would wrap it
                failed.append(exc)
            if failed:
                return

    async with TaskGroup() as group:
        for _ in waiting[:MAX_CONCURRENT_CALLS]:
            group.start_soon(work)
    if failed:
        raise failed[0]
    return [results[number] for number in sorted(results)]
