"""An asyncio event loop that is moved by hand: nothing runs, and no time passes, unless the test says so."""

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple, Unpack

__all__ = ["HandLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_RUNAWAY = 100_000  # turns without a pause; a request takes some dozens


class HandLoop(asyncio.BaseEventLoop):
    """Real tasks, futures, cancel scopes and timers, but neither sockets nor a clock.

    `settle` runs callbacks until none is ready. Every task then waits for something that
    only the test can bring about, so a schedule is the same each time it is played.
    """

    def __init__(self) -> None:
        super().__init__()
        self._turns: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = 0
        self._now = 0.0
        self.errors: list[str] = []

    def __del__(self) -> None:
        """Give no warning that the loop was not closed: it holds nothing that has to be closed."""

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._turns.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, handle))
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.errors.append(f"{context.get('message')}: {context.get('exception')!r}")

    def settle(self) -> None:
        """Run until nothing is ready."""
        turns = self._turns
        outer = events._get_running_loop()  # pyright: ignore[reportPrivateUsage]  # meant for authors of event loops
        events._set_running_loop(self)  # pyright: ignore[reportPrivateUsage]
        try:
            for _ in range(_RUNAWAY):
                if not turns:
                    return
                handle = turns.popleft()
                if not handle.cancelled():
                    handle._run()  # pyright: ignore[reportPrivateUsage]
        finally:
            events._set_running_loop(outer)  # pyright: ignore[reportPrivateUsage]
        raise AssertionError("a task keeps running without ever waiting for the storage or a timer")

    def pass_time(self) -> bool:
        """Move the time to the next timer and run it; return False if there is none."""
        while self._timers:
            when, _, handle = heapq.heappop(self._timers)
            if not handle.cancelled():
                self._now = max(self._now, when)
                self._turns.append(handle)
                self.settle()
                return True
        return False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run work that waits for nothing outside itself."""
        task = self.create_task(work)
        self.settle()
        if not task.done():
            task.cancel()
            self.settle()
            raise AssertionError("this work waits for something outside itself")
        return task.result()

    def forget(self) -> None:
        """Drop all timers, and set the time back to zero."""
        assert not self._turns
        self._timers.clear()
        self._now = 0.0
