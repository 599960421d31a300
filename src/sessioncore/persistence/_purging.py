"""Purging in the background: `SessionStore.purge_every`."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import SystemRandom

import anyio

from sessioncore._errors import SessionError
from sessioncore.concurrency._background import run_in_background
from sessioncore.persistence._health import Health

__all__ = ["pause_between", "purging"]

_uniform = SystemRandom().uniform  # from the system: forked processes must not get the same numbers


def pause_between(seconds: float) -> float:
    """Return about `seconds`, at random, so that processes that started together do not purge together."""
    return seconds * _uniform(0.9, 1.1)


@asynccontextmanager
async def purging(purge: Callable[[], Awaitable[object]], seconds: float, health: Health) -> AsyncGenerator[None]:
    """Purge about every `seconds` while the block runs; a failed purge is reported, and the next one follows.

    The first one begins after a random part of that time, so that processes that start together, and
    stores on one server, do not purge together.
    """
    stop, stopped = anyio.CancelScope(), anyio.Event()

    async def purge_forever() -> None:
        with stop:
            await anyio.sleep(_uniform(0, seconds))
            while True:
                try:
                    await purge()
                except SessionError as exc:
                    health.report("expired records could not be removed", exc)
                await anyio.sleep(pause_between(seconds))

    # No task group: fixtures, and frameworks under test, may leave the block in another task than they entered it.
    _task = run_in_background("purging expired records", purge_forever, stopped.set)
    try:
        yield
    finally:
        stop.cancel()
        with anyio.CancelScope(shield=True):  # the storage may be closed next
            await stopped.wait()
