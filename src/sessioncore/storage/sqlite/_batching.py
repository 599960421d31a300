"""Batches: the calls of many tasks share one SQLite connection, one trip to a worker thread and one commit.

Waking a thread and waiting for the disk cost far more than a statement. So the task that
finds the connection free runs all calls that are waiting, not only its own.
"""

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast

from anyio import CapacityLimiter, current_effective_deadline, current_time, to_thread

from sessioncore._cross_loop import CrossLoopLock
from sessioncore._errors import StorageUnavailable
from sessioncore._shield import run_shielded
from sessioncore.storage.sqlite._errors import is_busy, result_code
from sessioncore.storage.sqlite._place import FilePlace

__all__ = ["BatchExecutor", "Closed", "longest_wait", "run_reads", "run_writes", "when_free"]

T = TypeVar("T")
_MAX_BATCH = 256  # calls in one batch: bounds the wait of the calls in the next one


class Closed(Exception):
    """The call was not run, because the connection was closed before."""


class _Call(Generic[T]):
    """One call: the function to run, its result or error, and until when it waits for other processes."""

    __slots__ = ("done", "error", "function", "result", "wait_until", "wanted")

    def __init__(self, function: Callable[[sqlite3.Connection], T], wait: float) -> None:
        self.function = function
        self.wait_until = time.monotonic() + wait
        self.wanted = True
        self.done = False
        self.result: T | None = None
        self.error: Exception | None = None

    def finish(self, result: T) -> None:
        self.result = result
        self.done = True

    def fail(self, error: Exception) -> None:
        self.error = error
        self.done = True


class _Run(Protocol):
    def __call__(self, connection: sqlite3.Connection, batch: list[_Call[Any]], /) -> None: ...


class BatchExecutor:
    """Runs calls on `connection` in the order in which they came, with `run` for as many at a time as are waiting.

    A call waits for other processes for `busy_timeout` seconds, and not beyond the deadline of its
    task. `place` tells whether the connection's file is still where it was.
    """

    def __init__(self, connection: sqlite3.Connection, run: _Run, busy_timeout: float, place: FilePlace) -> None:
        self._connection = connection
        self._run = run
        self._busy_timeout = busy_timeout
        self._place = place
        self._waiting: deque[_Call[Any]] = deque()
        self._lock = CrossLoopLock()
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
        call = _Call(function, longest_wait(self._busy_timeout))
        self._waiting.append(call)
        try:
            while not call.done:
                async with self._lock:  # each time anew: those whose time was up in the batch leave first
                    if not call.done:
                        await self._run_batch()
        finally:
            call.wanted = False
        if call.error is not None:
            raise call.error
        return cast("T", call.result)

    async def aclose(self) -> None:
        """Close the connection when the running batch is done; the caller must shield this."""
        async with self._lock:
            await _in_a_thread(self._close_in_thread)

    async def _run_batch(self) -> None:
        batch: list[_Call[Any]] = []
        while self._waiting and len(batch) < _MAX_BATCH:  # other threads append meanwhile
            if (call := self._waiting.popleft()).wanted:
                batch.append(call)
        ran = threading.Event()
        try:
            # The batch holds other callers' work, so one caller's cancellation must not abort it.
            await run_shielded(_in_a_thread(self._run_in_thread, batch, ran))
        finally:
            left = [call for call in batch if not call.done]
            if ran.is_set():  # another process held the file, and the time of one of the calls was up
                self._waiting.extendleft(reversed(left))
            else:
                for call in left:
                    call.fail(StorageUnavailable("SQLite got no worker thread, or the event loop is ending: try again"))

    def _run_in_thread(self, batch: list[_Call[Any]], ran: threading.Event) -> None:
        with self._in_use:
            if self._closed:
                _fail(batch, Closed())
            else:
                self._run_on_connection(batch)
            ran.set()

    def _run_on_connection(self, batch: list[_Call[Any]]) -> None:
        if self._place.is_kept():
            self._run(self._connection, batch)
        if not self._place.is_kept():  # also afterwards: what was written meanwhile would be lost
            for call in batch:
                call.fail(self._place.error())

    def _close_in_thread(self) -> None:
        with self._in_use:
            self._closed = True
            self._connection.close()


async def _in_a_thread(function: Callable[..., None], *args: object) -> None:
    # Not the default limiter: sync handlers that wait for their session may have used it up.
    await to_thread.run_sync(function, *args, limiter=CapacityLimiter(1))


def run_reads(connection: sqlite3.Connection, batch: list[_Call[Any]]) -> None:
    """Run each call by itself. While another process locks the file, calls whose time is not up are left undone."""
    for call in batch:
        try:
            call.finish(when_free(partial(call.function, connection), _earliest(batch)))
        except Exception as exc:  # noqa: BLE001 -- it is raised again, in the task that waits for it
            if is_busy(exc):
                _give_up(batch, exc)
                return
            call.fail(exc)


def run_writes(connection: sqlite3.Connection, batch: list[_Call[Any]], *, again: bool = False) -> None:
    """Run all calls in one transaction; if one of them fails, run each in a transaction of its own.

    While another process writes, calls whose time is not up are left undone. If the disk is full, try once `again`.
    """
    _roll_back(connection)
    try:
        when_free(lambda: connection.execute("BEGIN IMMEDIATE"), _earliest(batch))
    except sqlite3.Error as exc:
        if is_busy(exc):
            _give_up(batch, exc)
        else:
            _fail(batch, exc)
        return
    try:
        try:
            results = [call.function(connection) for call in batch]
        except Exception:
            if len(batch) == 1:
                raise
            for call in batch:
                run_writes(connection, [call])
            return
        connection.execute("COMMIT")
    except Exception as exc:  # noqa: BLE001 -- it is raised again, in the tasks that wait for it
        _roll_back(connection)
        if result_code(exc) == sqlite3.SQLITE_FULL and not again:
            _empty_wal(connection)
            for call in batch:  # each by itself: a logout needs less room than a login
                run_writes(connection, [call], again=True)
        else:
            _fail(batch, exc)
    else:
        for call, result in zip(batch, results, strict=True):
            call.finish(result)


def longest_wait(busy_timeout: float) -> float:
    """Return for how many seconds the running task may wait for another process."""
    # A little less than until its deadline, so that it can still be told why it has waited.
    return max(0.0, min(busy_timeout, (current_effective_deadline() - current_time()) * 0.9))


def when_free(function: Callable[[], T], until: float) -> T:
    """Call `function` until another process does not lock the file any more, or the monotonic clock shows `until`."""
    # SQLite's own busy handler sleeps up to 100 ms between two tries, and a busy process overtakes one that
    # sleeps: of two processes that wrote without a pause, one waited 700 ms. One try per millisecond is fair.
    while True:
        try:
            return function()
        except sqlite3.OperationalError as exc:
            if not is_busy(exc) or time.monotonic() >= until:
                raise
        time.sleep(0.001)


def _earliest(batch: list[_Call[Any]]) -> float:
    return min(call.wait_until for call in batch if not call.done)


def _fail(batch: list[_Call[Any]], error: Exception) -> None:
    for call in batch:
        if not call.done:
            call.fail(error)


def _give_up(batch: list[_Call[Any]], error: Exception) -> None:
    """Fail the calls whose time is up."""
    now = time.monotonic()
    for call in batch:
        if not call.done and call.wait_until <= now:
            call.fail(error)


def _empty_wal(connection: sqlite3.Connection) -> None:
    # With the room that this makes, most logouts and renewals succeed on a full disk.
    with suppress(sqlite3.Error):  # it is full for this, too, if the file itself has to grow
        connection.execute("PRAGMA wal_checkpoint").fetchall()


def _roll_back(connection: sqlite3.Connection) -> None:
    # If this fails as well, the calls have the first error already, and the next batch tries it again.
    with suppress(sqlite3.Error):
        if connection.in_transaction:  # SQLite itself ends it where the disk is full
            connection.execute("ROLLBACK")
