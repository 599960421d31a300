"""An open SQLite file: what is done with it runs in worker threads, and fails with the errors of the contract.

The standard library's driver is used: one connection reads, another one writes, and readers do not wait.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Concatenate, Final, ParamSpec, TypeVar
from weakref import ref

from anyio import to_thread
from msgspec import Struct

from sessioncore._errors import StorageError
from sessioncore.concurrency._locks import CrossLoopLock
from sessioncore.concurrency._shield import run_shielded
from sessioncore.storage.sqlite._batch_runs import run_reads, run_writes
from sessioncore.storage.sqlite._batching import BatchExecutor, Closed, in_a_thread
from sessioncore.storage.sqlite._errors import as_storage_error
from sessioncore.storage.sqlite._opening import connect, prepare
from sessioncore.storage.sqlite._place import FilePlace
from sessioncore.storage.sqlite._waiting import longest_wait, when_free

__all__ = ["SQLiteFile"]

P = ParamSpec("P")
T = TypeVar("T")


class _Executors(Struct, frozen=True, eq=False, weakref=True):
    """The two connections of an open file."""

    reader: BatchExecutor
    writer: BatchExecutor
    place: FilePlace
    pid: int  # of the process that opened the file


# What this process has open, and what its parent had open when it forked. It is no WeakSet: while one thread
# iterates over that, others may change it. `list()` of a set is one step; `tuple()` is not without the GIL.
_open_files: Final = set[ref[_Executors]]()


class SQLiteFile:
    """The file at `path`, for all tasks and event loops; the first call opens it."""

    def __init__(self, path: str, busy_timeout: float) -> None:
        self.path = path
        self._busy_timeout = busy_timeout  # seconds
        self._executors: _Executors | None = None  # None: the file is not open
        self._opening = CrossLoopLock()
        self._in_thread = threading.Lock()  # an event loop that ends releases the lock above while its thread goes on

    async def read(self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what `work` returns for the connection that reads, and these arguments."""
        return await self._run(lambda executors: executors.reader, lambda connection: work(connection, *args, **kwargs))

    async def write(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return what `work` returns for the connection that writes, in a transaction that is committed."""
        return await self._run(lambda executors: executors.writer, lambda connection: work(connection, *args, **kwargs))

    async def open(self) -> None:
        """Open the file, and create or migrate its table; if it is open, do nothing.

        Raises:
            StorageError: that is not possible; the text says why.
        """
        until = time.monotonic() + longest_wait(self._busy_timeout)
        try:
            await run_shielded(self._open_once(until))
        except (sqlite3.Error, OSError) as exc:
            raise await self._to_storage_error(exc) from exc

    async def aclose(self) -> None:
        """Close the file when the running calls are done. A later call opens it again."""
        await run_shielded(self._close())

    async def _run(self, which: Callable[[_Executors], BatchExecutor], work: Callable[[sqlite3.Connection], T]) -> T:
        while True:
            if (executors := self._executors) is None:
                await self.open()
                continue
            if executors.pid != os.getpid():
                raise self._is_open_in_parent()
            try:
                return await which(executors).call(work)
            except Closed:  # by another event loop, just before this call
                continue
            except (sqlite3.Error, UnicodeEncodeError) as exc:
                raise await self._to_storage_error(exc) from exc

    def _is_open_in_parent(self) -> StorageError:
        return StorageError(
            f"this process was forked while {self.path} was open, and SQLite's locks do not pass to a child: open it "
            "after the fork, in each process, or start the child by spawn, not by fork (docs/storage.md)"
        )

    async def _to_storage_error(self, exc: Exception) -> Exception:
        return await to_thread.run_sync(as_storage_error, exc, self.path)  # in a thread: it looks at the disk

    async def _open_once(self, until: float) -> None:
        async with self._opening:  # the first calls may come in parallel
            if self._executors is None:
                await in_a_thread(self._open_in_thread, until)

    def _open_in_thread(self, until: float) -> None:
        with self._in_thread:
            if self._executors is None:
                # SQLite waits for no lock here: some fail at once, such as that for a change of the journal mode.
                self._executors = when_free(self._open_executors, until)

    def _open_executors(self) -> _Executors:
        known = (each() for each in list(_open_files))
        if any(each is not None and each.pid != os.getpid() and each.place.is_at(self.path) for each in known):
            # SQLite would believe that this process holds the parent's locks. Then the parent, when it closes the file,
            # would remove the -wal file that the child writes to.
            raise self._is_open_in_parent()
        writer = prepare(self.path)
        try:
            place = FilePlace(self.path)
            reader = connect(self.path)
        except BaseException:
            writer.close()
            raise
        busy = self._busy_timeout
        pair = BatchExecutor(reader, run_reads, busy, place), BatchExecutor(writer, run_writes, busy, place)
        executors = _Executors(*pair, place, os.getpid())
        _open_files.add(ref(executors, _open_files.discard))
        return executors

    async def _close(self) -> None:
        async with AsyncExitStack() as held:
            await held.enter_async_context(self._opening)  # a call that is opening the file must not leave it open
            executors = self._executors
            if executors is not None and executors.pid != os.getpid():
                return  # a child must not even close what its parent has open
            if executors is not None:
                await held.enter_async_context(executors.reader.lock)
                await held.enter_async_context(executors.writer.lock)
            await in_a_thread(self._close_in_thread)

    def _close_in_thread(self) -> None:
        with self._in_thread:
            executors, self._executors = self._executors, None
            if executors is not None:
                try:
                    executors.reader.close()
                finally:
                    executors.writer.close()
