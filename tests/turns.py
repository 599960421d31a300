"""Waiting until a condition holds, and calling a function each time that work suspends."""

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from types import coroutine
from typing import Any

import anyio

__all__ = ["comes_true", "watched"]


async def comes_true(condition: Callable[[], object]) -> None:
    """Wait for a condition that no event announces; the test fails if it never holds."""
    with anyio.fail_after(20):
        while not condition():  # noqa: ASYNC110 - no event announces it
            await anyio.sleep(0.005)


async def _once(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()


@coroutine
def watched(work: Callable[[], Awaitable[Any]], look: Callable[[], object]) -> Generator[Any, Any, Any]:
    """Await `work()`, and call `look` each time that it suspends, before other tasks run."""
    steps = _once(work).__await__()
    send: Callable[[], Any] = partial(next, steps)
    while True:
        try:
            suspended = send()
        except StopIteration as stop:
            return stop.value
        look()
        try:
            sent = yield suspended
        except BaseException as exc:  # noqa: BLE001 - passed on to where `work` sleeps
            send = partial(steps.throw, exc)
        else:
            send = partial(steps.send, sent)
