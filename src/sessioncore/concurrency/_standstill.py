"""Deadlines that come late because the event loop stood still.

A process can be stopped, and its computer can sleep. When it goes on, each timer is due, also those of calls
whose replies came meanwhile and could not be read: all of them would fail at once.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Final

from sessioncore.concurrency._event_loops import asyncio_loop

__all__ = ["MORE_TIME", "STOOD_STILL", "LateDeadline"]

STOOD_STILL: Final = 0.5  # seconds; an event loop that is merely busy is not so late
MORE_TIME: Final = 1.0  # seconds in which to read what is there, or for a worker thread to finish
_BEFORE: Final = 0.01  # seconds: more than a timer's resolution, so that this one is called first


class LateDeadline:
    """Moves a deadline once, by a second, if the event loop stood still when it came; on trio it does nothing.

    `deadline` is by the clock of the event loop, and `move` is called with the new one.
    """

    __slots__ = ("_deadline", "_loop", "_move", "_timer")

    def __init__(self, deadline: float, move: Callable[[float], object]) -> None:
        self._deadline = deadline
        self._move = move
        self._loop = asyncio_loop()
        self._timer = None if self._loop is None else self._loop.call_at(deadline - _BEFORE, self._due)

    def __enter__(self) -> None:
        """Do nothing: the timer runs already."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _due(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        if now - self._deadline > STOOD_STILL:
            self._move(now + MORE_TIME)
