"""Asking several servers that know the same, such as sentinels: a silent one delays the answer by a moment only."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from sessioncore.storage.redis._errors import is_explained

__all__ = ["first_answer"]

_MOMENT = 0.25  # seconds
_T = TypeVar("_T")


async def first_answer(calls: Sequence[Callable[[], Coroutine[Any, Any, _T]]]) -> _T:
    """Return the first answer; a call begins when the one before it has failed, or has taken a moment.

    Raises:
        Exception: all have failed; of their errors, one that explains itself, if there is any.
    """
    failures: list[BaseException] = []
    waiting, running = list(calls), set[asyncio.Task[_T]]()
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.ensure_future(waiting.pop(0)()))
            moment = _MOMENT if waiting else None
            done, running = await asyncio.wait(running, timeout=moment, return_when=asyncio.FIRST_COMPLETED)
            failures += [failure for task in done if (failure := task.exception()) is not None]
            for task in done:
                if task.exception() is None:
                    return task.result()
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
    raise next((failure for failure in failures if is_explained(failure)), failures[0])
