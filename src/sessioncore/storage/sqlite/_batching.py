"""Batches: the calls of many tasks share one SQLite connection, one trip to a worker thread and one commit.

Waking a thread and waiting for the disk cost far more than a statement. So the task that
finds the connection free runs all calls that are waiting, not only its own.
"""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar, cast

from anyio import CapacityLimiter, Event, to_thread

from sessioncore._errors import StorageUnavailable
from sessioncore.concurrency._background import run_in_background
from sessioncore.concurrency._locks import CrossLoopLock
from sessioncore.storage.sqlite._place import FilePlace
from sessioncore.storage.sqlite._waiting import longest_wait

__all__ = ["BatchExecutor", "Closed", "QueuedCall", "Run", "in_a_thread"]

T = TypeVar("T")
_NO_THREAD = "SQLite got no worker thread: this process may start no more threads; raise its limit (ulimit -u)"
_MAX_BATCH = 256  # calls in one batch: bounds the wait of the calls in the next one


class Closed(Exception):
    """The call was not run, because the connection was closed before."""


class QueuedCall(Generic[T]):
    """One call: the function to run, until when it waits for other processes, and what came of it."""

    __slots__ = ("done", "error", "function", "result", "wait_until", "wanted")

    def __init__(self, function: Callable[[sqlite3.Connection], T], wait: float) -> None:
        self.function = function
        self.wait_until = time.monotonic() + wait
        self.wanted = True  # its caller still waits for it
        self.done = False  # then it has an error, or else a result
        self.result: T | None = None
        self.error: Exception | None = None

    def finish(self, result: T) -> None:
        """Note the result."""
        self.result = result
        self.done = True

    def fail(self, error: Exception) -> None:
        """Note the error that the caller gets."""
        self.error = error
        self.done = True


Run: TypeAlias = Callable[[sqlite3.Connection, list[QueuedCall[Any]]], None]
"""Runs the calls of a batch, in a worker thread; those whose time is not up may be left undone."""


class BatchExecutor:
    """Runs calls on `connection` in the order in which they came; `run` gets all that are waiting as one batch.

    A call waits for other processes for `busy_timeout` seconds, and not beyond the deadline of its
    task. `place` tells whether the connection's file is still where it was.
    """

    def __init__(self, connection: sqlite3.Connection, run: Run, busy_timeout: float, place: FilePlace) -> None:
        self._connection = connection
        self._run = run
        self._busy_timeout = busy_timeout
        self._place = place
        self._waiting: deque[QueuedCall[Any]] = deque()
        self.lock = CrossLoopLock()  # held while a batch runs
        # An event loop that cancels all its tasks releases the lock above while the thread still works.
        self._in_use = threading.Lock()
        self._closed = False

    async def call(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` with the connection in a worker thread and return its result.

        A call that is cancelled while it waits is not run. One that is running is run to
        its end, since a thread cannot be stopped; its caller does not wait for it.

        Raises:
            Closed: `aclose` came first.
        """
        call = QueuedCall(function, longest_wait(self._busy_timeout))
        self._waiting.append(call)
        try:
            while not call.done:
                # Take the lock anew each time, so that calls whose time was up in the batch can leave first.
                if not await self.lock.acquire(lambda: call.done):
                    continue
                if call.done:
                    self.lock.release(None)
                else:
                    # The batch holds other callers' work, so one caller's cancellation must not abort it; nor must that
                    # caller wait for a disk that stands still.
                    began, ended = Event(), Event()
                    run_in_background(
                        "a batch of SQLite", partial(self._run_batch, began), partial(self._end, began, ended)
                    )
                    await ended.wait()
        finally:
            call.wanted = False
        if call.error is not None:
            raise call.error
        return cast("T", call.result)

    def close(self) -> None:
        """Close the connection when the running batch is done; in a worker thread."""
        with self._in_use:
            self._closed = True
            self._connection.close()

    async def _run_batch(self, began: Event) -> None:
        """Run what waits; the caller has taken the lock, which is released at the end."""
        began.set()
        with ExitStack() as held:
            held.push(self.lock.release)
            await self._run_what_waits()

    def _end(self, began: Event, ended: Event) -> None:
        if not began.is_set():  # the event loop ends
            self.lock.release(None)
        ended.set()

    async def _run_what_waits(self) -> None:
        batch: list[QueuedCall[Any]] = []
        while self._waiting and len(batch) < _MAX_BATCH:  # other threads append meanwhile
            if (call := self._waiting.popleft()).wanted:
                batch.append(call)
        ran, reason = threading.Event(), "SQLite was not called: the event loop is ending"
        try:
            await in_a_thread(self._run_in_thread, batch, ran)
        except StorageUnavailable as exc:
            reason = str(exc)
        finally:
            left = [call for call in batch if not call.done]
            if ran.is_set():  # another process held the file, and the time of one of the calls was up
                self._waiting.extendleft(reversed(left))
            else:
                for call in left:
                    call.fail(StorageUnavailable(reason))

    def _run_in_thread(self, batch: list[QueuedCall[Any]], ran: threading.Event) -> None:
        with self._in_use:
            error: Exception | None = Closed() if self._closed else self._place.error()
            if error is None:
                self._run(self._connection, batch)
                error = self._place.error()  # what was written meanwhile would be lost
            if error is not None:
                for call in batch:
                    call.fail(error)
            ran.set()


async def in_a_thread(function: Callable[..., None], *args: object) -> None:
    """Run `function` to its end, even if the event loop ends first.

    Raises:
        StorageUnavailable: no thread can be started.
    """
    try:
        # Not the default limiter: sync handlers that wait for their session may have used it up.
        await to_thread.run_sync(function, *args, limiter=CapacityLimiter(1))
    except RuntimeError as exc:
        if "start new thread" not in str(exc):
            raise
        raise StorageUnavailable(_NO_THREAD) from exc
