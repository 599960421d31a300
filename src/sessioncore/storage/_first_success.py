"""Asks one server after the other, without waiting long for one that is silent."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

__all__ = ["first_success"]

_T = TypeVar("_T")

_MOMENT: Final = 0.25  # seconds


async def first_success(
    calls: Sequence[Callable[[], Coroutine[Any, Any, _T]]],
    *,
    tells: Callable[[BaseException], bool],
    leave: Callable[..., Awaitable[None]],
) -> _T:
    """Return the result of the first call that succeeds.

    A call begins when the one before it has failed, or has taken a moment, so a silent server costs that moment only.
    `leave` gets the tasks of the calls whose results are not needed any more.

    Raises:
        Exception: all have failed; of their errors, the first that `tells` more than the others, or else the first.
    """
    failures: list[BaseException] = []
    waiting, running = list(calls), set[asyncio.Task[_T]]()
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(waiting.pop(0)()))
            moment = _MOMENT if waiting else None
            done, _ = await asyncio.wait(running, timeout=moment, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                running.discard(task)
                if (failure := task.exception()) is None:
                    return task.result()
                failures.append(failure)
    finally:
        await leave(*running)
    raise next(filter(tells, failures), failures[0])
