"""Deadlines that come late because the event loop stood still.

A process can be stopped, and its computer can sleep. When it goes on, each timer is due, also those of calls
whose replies came meanwhile and could not be read: all of them would fail together.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from math import inf
from types import TracebackType
from typing import Any, Final
from weakref import WeakKeyDictionary

from sessioncore.concurrency._event_loops import asyncio_loop, event_loop

__all__ = ["MORE_TIME", "STOOD_STILL", "LateDeadline", "PolledDeadline", "time_limit"]

STOOD_STILL: Final = 0.5  # seconds; an event loop that is merely busy is not so late
MORE_TIME: Final = 1.0  # seconds in which to read what is there, or for a worker thread to finish
_BEFORE: Final = 0.01  # seconds: more than a timer's resolution, so that this one is called first


@asynccontextmanager
async def time_limit(seconds: float) -> AsyncGenerator[None]:
    """Limit a wait on asyncio, as `asyncio.timeout` does, but by a LateDeadline."""
    async with asyncio.timeout(seconds) as limit:
        with LateDeadline(limit.when() or inf, limit.reschedule):
            yield


class LateDeadline:
    """Moves a deadline once, to a second from now, if the event loop stood still when it came.

    `deadline` is by the clock of the event loop, and `move` is called with the new one.
    """

    __slots__ = ("_deadline", "_loop", "_move", "_timer", "_trio")

    def __init__(self, deadline: float, move: Callable[[float], object]) -> None:
        self._deadline = deadline
        self._move = move
        self._loop = asyncio_loop()
        self._trio = None if self._loop is not None else _instrument()
        self._timer = None if self._loop is None else self._loop.call_at(deadline - _BEFORE, self._due)

    def __enter__(self) -> None:
        """Begin to watch the deadline."""
        if self._trio is not None:
            self._trio.deadlines.add(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Stop watching it."""
        if self._timer is not None:
            self._timer.cancel()
        elif self._trio is not None:
            self._trio.deadlines.discard(self)

    def _due(self) -> None:
        assert self._loop is not None
        self.look(self._loop.time())

    def look(self, now: float) -> bool:
        """Move the deadline if it came long before `now`; return whether it did."""
        late = now - self._deadline > STOOD_STILL
        if late:
            self._move(now + MORE_TIME)
        return late


class PolledDeadline:
    """A deadline for callers that look at the clock themselves; like that of a LateDeadline, it moves once."""

    __slots__ = ("_at", "_moved")

    def __init__(self, at: float) -> None:
        self._at = at
        self._moved = False

    def left(self, now: float, sooner: float = 0.0) -> float:
        """Return the seconds that are left at `now`; with `sooner`, until a time so much before the deadline."""
        left = self._at - sooner - now
        if left < -STOOD_STILL and not self._moved:
            self._at, self._moved, left = now + MORE_TIME + sooner, True, MORE_TIME
        return left


class _Instrument:
    """Called by trio before it cancels what has passed its deadline; trio has nothing like asyncio's `call_at`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.deadlines = set[LateDeadline]()
        self._clock = clock
        self._before = clock()

    def after_io_wait(self, _: float) -> None:
        """Look at the deadlines if the event loop may have stood still."""
        now = self._clock()
        if now - self._before > STOOD_STILL:
            self.deadlines.difference_update([one for one in self.deadlines if one.look(now)])
        self._before = now


_instruments: Final = WeakKeyDictionary[Any, _Instrument]()  # by trio's token


def _instrument() -> _Instrument:
    token = event_loop()
    if (found := _instruments.get(token)) is None:
        trio: Any = sys.modules["trio"]
        found = _instruments[token] = _Instrument(trio.current_time)
        trio.lowlevel.add_instrument(found)
    return found
