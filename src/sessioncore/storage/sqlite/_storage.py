"""Records in a SQLite file: durable, without a server, shared by the processes of one machine.

The standard library's driver runs in worker threads: one connection reads, another one writes,
and readers do not wait. Not for network file systems: WAL's shared memory needs one machine.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from random import SystemRandom
from typing import ClassVar, TypeVar, cast

from anyio import CancelScope, CapacityLimiter, Lock, to_thread
from msgspec import Struct

from sessioncore._errors import ConfigError, KeyTaken
from sessioncore._shield import run_shielded
from sessioncore._storage_protocol import Clears, Opens, Purges, Stored, Unreadable, Written
from sessioncore.storage.sqlite import _schema as schema
from sessioncore.storage.sqlite._batching import BatchExecutor, as_storage_error, run_reads, run_writes

__all__ = ["SQLiteStorage"]

T = TypeVar("T")
_BATCH = 500  # rows removed in one transaction: between two of them other writers get their turn
_new_version = SystemRandom().getrandbits  # from the system: forked processes must not draw alike

# SQLite lets other programs store any type in any column, and an infinite end: such a row is Unreadable and stays.
_OURS = "typeof(data) = 'blob' AND typeof(version) = 'integer' AND typeof(ends) = 'real' AND ends < 9e999"
# NULL instead of values that are not ours: fetching text that is not UTF-8 would fail.
_LOAD = """SELECT iif(%ours%, data, NULL), iif(%ours%, version, NULL), iif(%ours%, ends, NULL)
    FROM records WHERE key = ? AND ends > ?""".replace("%ours%", _OURS)
_TOUCH = "UPDATE records SET ends = ? WHERE key = ? AND ends > ? AND %ours%".replace("%ours%", _OURS)
_RENEW = f"{_TOUCH} RETURNING data, version"
_CREATE = """INSERT INTO records (key, data, version, ends, owner) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE
    SET data = excluded.data, version = excluded.version, ends = excluded.ends, owner = excluded.owner
    WHERE records.ends <= ?"""
_REPLACE = """UPDATE records SET data = ?, version = ?, ends = ?, owner = ?
    WHERE key = ? AND version = ? AND ends > ? AND %ours%""".replace("%ours%", _OURS)
_MOVE = "UPDATE OR IGNORE records SET key = ?, data = ?, version = ?, ends = ?, owner = ? WHERE key = ?"
_MAKE_ROOM = "DELETE FROM records WHERE key = ? AND ends <= ?"
# Expired rows are removed as well: if the clock were set back, they would be live again.
_DELETE = "DELETE FROM records WHERE key = ? RETURNING ends > ?"
_CLEAR = """DELETE FROM records WHERE rowid IN
    (SELECT rowid FROM records WHERE key >= ? AND (? IS NULL OR key < ?) LIMIT ?) RETURNING ends > ?"""
_OWNED = "SELECT key FROM records WHERE owner = ? AND ends > ?"
_PURGE = "DELETE FROM records WHERE rowid IN (SELECT rowid FROM records WHERE ends <= ? LIMIT ?)"
_CHECK = "SELECT 1 FROM records LIMIT 1"


class _Executors(Struct):
    reader: BatchExecutor
    writer: BatchExecutor


class SQLiteStorage:
    """Records in the SQLite file `path`, which is created for this user alone if it is not there.

    The first call opens the file. A write that has returned has reached the disk.
    Several processes may share the file; open it after a fork, not before. `busy_timeout`
    bounds the wait for a write of another process: keep it below the `storage_timeout` of
    the configuration. `clock` returns wall-clock seconds.

    Raises:
        ConfigError: `path` names no file (`:memory:`), or `busy_timeout` is negative.
    """

    capabilities: ClassVar[frozenset[type]] = frozenset({Clears, Opens, Purges})

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.time,
        busy_timeout: timedelta = timedelta(seconds=4),
    ) -> None:
        given: object = os.fspath(path) if isinstance(cast("object", path), str | os.PathLike) else None
        self._path = given if isinstance(given, str) else ""  # None comes from an environment variable that is not set
        if not self._path or self._path.startswith((":memory:", "file:")):
            raise ConfigError("SQLiteStorage needs the path of a file; use MemoryStorage to keep records in memory")
        if busy_timeout < timedelta():
            raise ConfigError("busy_timeout must not be negative")
        self._clock = clock
        self._busy_timeout = busy_timeout.total_seconds()
        self._executors: _Executors | None = None
        self._opening: Lock | None = None

    def __repr__(self) -> str:
        return f"<SQLiteStorage {self._path}>"

    async def load(self, key: str, *, renew: float | None = None) -> Stored | Unreadable | None:
        """Return the live record at `key`, or None; with `renew`, set its ttl first."""
        if renew is not None:
            return await self._write(lambda connection: self._renew(connection, key, renew))
        return await self._read(lambda connection: self._current(connection, key))

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        """Store a new record and return its version, or None if the key is taken."""

        def work(connection: sqlite3.Connection) -> int | None:
            now, version = self._clock(), _new_version(63)
            made = connection.execute(_CREATE, (key, data, version, now + ttl, owner, now)).rowcount
            return version if made else None

        return await self._write(work)

    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        """Write if the record still has `version`; else return it as it is, or None if it is gone."""

        def work(connection: sqlite3.Connection) -> Written:
            now, new = self._clock(), _new_version(63)
            values = (data, new, now + ttl, owner, key, version, now)
            return new if connection.execute(_REPLACE, values).rowcount else self._current(connection, key)

        return await self._write(work)

    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Written:
        """Do what `replace` does, and give the record a new key in the same transaction.

        Raises:
            KeyTaken: `new_key` is taken; nothing is changed.
        """

        def work(connection: sqlite3.Connection) -> Written | KeyTaken:
            current = self._current(connection, key)
            if not isinstance(current, Stored) or current.version != version:
                return current
            now, new = self._clock(), _new_version(63)
            connection.execute(_MAKE_ROOM, (new_key, now))
            values = (new_key, data, new, now + ttl, owner, key)
            if new_key == key or not connection.execute(_MOVE, values).rowcount:
                # Returned, not raised: an exception would roll back the other calls of the transaction.
                return KeyTaken("cannot move a record onto a key that is taken: choose a new key and try again")
            return new

        result = await self._write(work)
        if isinstance(result, KeyTaken):
            raise result
        return result

    async def touch(self, key: str, ttl: float) -> bool:
        """Set the ttl of a live record; False if there is none."""

        def work(connection: sqlite3.Connection) -> bool:
            now = self._clock()
            return connection.execute(_TOUCH, (now + ttl, key, now)).rowcount > 0

        return await self._write(work)

    async def delete(self, *keys: str) -> int:
        """End these records in one transaction; return how many were live."""

        def work(connection: sqlite3.Connection) -> int:
            now = self._clock()
            return sum(live for key in keys for (live,) in connection.execute(_DELETE, (key, now)).fetchall())

        return await self._write(work) if keys else 0

    async def clear(self, prefix: str) -> int:
        """End every record whose key begins with `prefix`, in bounded batches; return how many were live."""
        end = _after(prefix)

        def work(connection: sqlite3.Connection) -> list[tuple[int]]:
            return connection.execute(_CLEAR, (prefix, end, end, _BATCH, self._clock())).fetchall()

        ended = 0
        while True:
            rows = await self._write(work)
            ended += sum(live for (live,) in rows)
            # A short batch has seen the whole range in one transaction: no record that was moved
            # between two batches was missed.
            if len(rows) < _BATCH:
                return ended

    async def owned_keys(self, owner: str) -> list[str]:
        """Return the keys of the owner's live records."""

        def work(connection: sqlite3.Connection) -> list[str]:
            return [key for (key,) in connection.execute(_OWNED, (owner, self._clock()))]

        return await self._read(work)

    async def purge_expired(self) -> int:
        """Remove what has expired, in bounded batches; return how many."""

        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(_PURGE, (self._clock(), _BATCH)).rowcount

        removed = 0
        while True:
            batch = await self._write(work)
            removed += batch
            if batch < _BATCH:
                return removed

    async def open(self) -> None:
        """Open the file, and create it and its tables where needed.

        Raises:
            StorageError: the file is of a newer schema, or is another program's; it is left as it is.
            StorageUnavailable: it cannot be opened.
        """
        await self._open()

    async def check(self) -> None:
        """Return if the file can be read.

        Raises:
            StorageUnavailable: it cannot.
        """
        await self._read(lambda connection: connection.execute(_CHECK).fetchall())

    async def aclose(self) -> None:
        """Close the file when the running calls are done. A later call opens it again."""
        with CancelScope(shield=True):
            await run_shielded(self._close())

    def _current(self, connection: sqlite3.Connection, key: str) -> Stored | Unreadable | None:
        now = self._clock()
        row = connection.execute(_LOAD, (key, now)).fetchone()
        if row is None:
            return None
        data, version, ends = row
        return Unreadable() if data is None else Stored(data, version, ends - now)

    def _renew(self, connection: sqlite3.Connection, key: str, ttl: float) -> Stored | Unreadable | None:
        now = self._clock()
        rows = connection.execute(_RENEW, (now + ttl, key, now)).fetchall()
        return Stored(rows[0][0], rows[0][1], ttl) if rows else self._current(connection, key)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        while (executors := self._executors) is None:
            await self._open()
        try:
            return await executors.reader.call(work)
        except (sqlite3.Error, UnicodeEncodeError) as exc:
            raise as_storage_error(exc, self._path) from exc

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        while (executors := self._executors) is None:
            await self._open()
        try:
            return await executors.writer.call(work)
        except (sqlite3.Error, UnicodeEncodeError) as exc:
            raise as_storage_error(exc, self._path) from exc

    async def _open(self) -> None:
        if self._opening is None:  # made here, not in __init__: a lock belongs to one event loop
            self._opening = Lock()
        try:
            await run_shielded(self._open_once(self._opening))
        except (sqlite3.Error, OSError) as exc:
            raise as_storage_error(exc, self._path) from exc

    async def _open_once(self, opening: Lock) -> None:
        async with opening:  # the first calls may come in parallel
            if self._executors is None:
                self._executors = await to_thread.run_sync(self._open_blocking, limiter=CapacityLimiter(1))

    def _open_blocking(self) -> _Executors:
        writer = schema.prepare(self._path, self._busy_timeout)
        try:
            reader = schema.connect(self._path, self._busy_timeout)
            writer.execute("PRAGMA busy_timeout = 0")  # from here on `run_writes` waits for other processes
        except BaseException:
            writer.close()
            raise
        write = partial(run_writes, self._busy_timeout)
        return _Executors(BatchExecutor(reader, run_reads), BatchExecutor(writer, write))

    async def _close(self) -> None:
        if (opening := self._opening) is None:
            return
        async with opening:  # a call that is opening the file must not leave it open
            executors, self._executors = self._executors, None
            if not opening.statistics().tasks_waiting:
                self._opening = None
        if executors is not None:
            try:
                await executors.reader.aclose()
            finally:
                await executors.writer.aclose()


def _after(prefix: str) -> str | None:
    """Return the first text that sorts after all texts that begin with `prefix`, or None if there is none.

    SQLite compares text by its UTF-8 bytes, which sort as the code points do.
    """
    for position in range(len(prefix) - 1, -1, -1):
        point = ord(prefix[position]) + 1
        if point <= 0x10FFFF:
            return prefix[:position] + chr(0xE000 if point == 0xD800 else point)  # no surrogates in UTF-8
    return None
