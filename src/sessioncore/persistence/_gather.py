"""Awaits several storage calls at the same time."""

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio

from sessioncore._errors import SessionError

__all__ = ["MAX_CONCURRENT_LOADS", "gather"]

MAX_CONCURRENT_LOADS = 64  # enough to share round trips, few enough to leave the storage time for other requests

T = TypeVar("T")


async def gather(calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """Make all calls at the same time, so that a storage can share round trips; return the results in order.

    Raises:
        SessionError: the first that a call raised, after all calls have ended.
    """
    results: dict[int, T] = {}
    failed: list[SessionError] = []

    async def make(number: int, call: Callable[[], Awaitable[T]]) -> None:
        try:
            results[number] = await call()
        except SessionError as exc:  # raised below, because a task group would wrap it
            failed.append(exc)

    async with anyio.create_task_group() as group:
        for number, call in enumerate(calls):
            group.start_soon(make, number, call)
    if failed:
        raise failed[0]
    return [results[number] for number in sorted(results)]
