"""Runs the calls of one batch on a connection, in a worker thread: reads one by one, writes in one transaction."""

import sqlite3
import time
from contextlib import suppress
from functools import partial
from typing import Any

from sessioncore.storage.sqlite._batching import QueuedCall
from sessioncore.storage.sqlite._errors import is_busy, result_code
from sessioncore.storage.sqlite._waiting import when_free

__all__ = ["run_reads", "run_writes"]


def run_reads(connection: sqlite3.Connection, batch: list[QueuedCall[Any]]) -> None:
    """Run each call by itself. While another process locks the file, calls whose time is not up are left undone."""
    for call in batch:
        try:
            call.finish(when_free(partial(call.function, connection), _earliest(batch)))
        except Exception as exc:  # noqa: BLE001 -- it is raised again, in the task that waits for it
            if is_busy(exc):
                _fail(batch, exc)
                return
            call.fail(exc)


def run_writes(connection: sqlite3.Connection, batch: list[QueuedCall[Any]], *, again: bool = False) -> None:
    """Run all calls in one transaction; if one of them fails, run each in a transaction of its own.

    While another process writes, calls whose time is not up are left undone. If the disk is full, try once `again`.
    """
    _roll_back(connection)
    try:
        when_free(lambda: connection.execute("BEGIN IMMEDIATE"), _earliest(batch))
    except Exception as exc:  # noqa: BLE001 - SQLite out of memory is a MemoryError; raised again in the tasks
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


def _earliest(batch: list[QueuedCall[Any]]) -> float:
    return min(call.wait_until for call in batch if not call.done)


def _fail(batch: list[QueuedCall[Any]], error: Exception) -> None:
    """Fail the calls that are not done; those whose time is not up are left undone if another process has the file."""
    now = time.monotonic()
    for call in batch:
        if not call.done and (call.wait_until <= now or not is_busy(error)):
            call.fail(error)


def _empty_wal(connection: sqlite3.Connection) -> None:
    # With the room that this makes, most logouts and renewals succeed on a full disk.
    with suppress(sqlite3.Error):  # the disk may be too full even for this, if the file itself has to grow
        connection.execute("PRAGMA wal_checkpoint").fetchall()


def _roll_back(connection: sqlite3.Connection) -> None:
    # If this fails as well, the calls have the first error already, and the next batch tries it again.
    with suppress(sqlite3.Error, MemoryError):
        if connection.in_transaction:  # if the disk is full, SQLite has ended it itself
            connection.execute("ROLLBACK")
