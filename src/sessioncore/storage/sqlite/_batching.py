"""A lane: one SQLite connection, and the calls of many tasks that go over it together.

A trip to a worker thread and a wait for the disk cost far more than a statement. So
whoever finds the lane free takes along all that is waiting: one trip, one commit.
"""

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar, cast

from anyio import CancelScope, CapacityLimiter, Lock, to_thread

from sessioncore._errors import StorageError, StorageUnavailable
from sessioncore._shield import run_shielded

__all__ = ["Lane", "read", "translated", "write"]

T = TypeVar("T")
_MOST = 256  # calls in one trip: what those behind have to wait for stays bounded


class _Job(Generic[T]):
    """One call on its way: what to do, and how it ended."""

    __slots__ = ("done", "error", "result", "wanted", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], T]) -> None:
        self.work = work
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


class _Trip(Protocol):
    def __call__(self, connection: sqlite3.Connection, jobs: list[_Job[Any]], /) -> None: ...


class Lane:
    """Carries calls to `connection`, in the order in which they came, as many per trip as are waiting."""

    def __init__(self, connection: sqlite3.Connection, trip: _Trip) -> None:
        self._connection = connection
        self._trip = trip
        self._waiting: list[_Job[Any]] = []
        self._lock = Lock(fast_acquire=True)
        # The lock above is let go when an event loop cancels all its tasks, while the thread works on.
        self._in_use = threading.Lock()
        # Of its own: the default limiter may be used up by sync handlers that wait for their session.
        self._limiter = CapacityLimiter(1)

    async def call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Have `work` done with the connection and return what it returned.

        A call cancelled while it waits is not made. One that is under way is made to its
        end, as a thread cannot be stopped, and its caller is let go.
        """
        job = _Job(work)
        self._waiting.append(job)
        try:
            async with self._lock:
                while not job.done:
                    await self._travel()
        finally:
            job.wanted = False
        if job.error is not None:
            raise job.error
        return cast("T", job.result)

    async def aclose(self) -> None:
        """Close the connection when the trip under way is over."""
        with CancelScope(shield=True):
            await run_shielded(self._close())

    async def _travel(self) -> None:
        wanted = [job for job in self._waiting if job.wanted]
        jobs, self._waiting = wanted[:_MOST], wanted[_MOST:]
        try:
            # Others travel along: the one who drives must not leave them half-way.
            with CancelScope(shield=True):
                await run_shielded(to_thread.run_sync(self._go, jobs, limiter=self._limiter))
        finally:
            for job in jobs:
                if not job.done:
                    job.fail(StorageUnavailable("SQLite got no worker thread, or the event loop is ending: try again"))

    async def _close(self) -> None:
        async with self._lock:
            await to_thread.run_sync(self._close_blocking, limiter=self._limiter)

    def _go(self, jobs: list[_Job[Any]]) -> None:
        with self._in_use:
            self._trip(self._connection, jobs)

    def _close_blocking(self) -> None:
        with self._in_use:
            self._connection.close()


def read(connection: sqlite3.Connection, jobs: list[_Job[Any]]) -> None:
    """Do each job by itself."""
    for job in jobs:
        try:
            job.finish(job.work(connection))
        except Exception as exc:  # noqa: BLE001 -- it is raised again, in the task that waits for it
            job.fail(exc)


def write(patience: float, connection: sqlite3.Connection, jobs: list[_Job[Any]]) -> None:
    """Do all jobs in one transaction; if one of them fails, each in its own.

    `patience` bounds, in seconds, the wait for the writer of another process.
    """
    _roll_back(connection)
    try:
        _begin(connection, patience)
        try:
            results = [job.work(connection) for job in jobs]
        except Exception:
            if len(jobs) == 1:
                raise
            connection.execute("ROLLBACK")
            for job in jobs:
                write(patience, connection, [job])
            return
        connection.execute("COMMIT")
    except Exception as exc:  # noqa: BLE001 -- it is raised again, in the tasks that wait for it
        for job in jobs:
            if not job.done:
                job.fail(exc)
        _roll_back(connection)
    else:
        for job, result in zip(jobs, results, strict=True):
            job.finish(result)


def _begin(connection: sqlite3.Connection, patience: float) -> None:
    # SQLite's own wait sleeps up to 100 ms between two looks, and a busy process overtakes one that
    # sleeps: of two that wrote without a pause, one waited 700 ms. A look per millisecond is fair enough.
    deadline = time.monotonic() + patience
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        time.sleep(0.001)


def _roll_back(connection: sqlite3.Connection) -> None:
    # If even this fails, the jobs bear the first error already, and the next trip tries it again.
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def translated(exc: Exception, path: str) -> Exception:
    """The error that callers are promised, for one that SQLite or Python raised."""
    if isinstance(exc, sqlite3.Error | OSError):
        # Neither kind of message contains bound values.
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        return StorageUnavailable(
            f"SQLite could not use {path}: {reason}; see that the file is intact, that its folder "
            "can be written and that the disk has room"
        )
    if isinstance(exc, UnicodeEncodeError):
        return StorageError("a key or an owner has characters that UTF-8 cannot express")
    return exc
