"""Records in a SQLite file: durable, without a server, shared by the processes of one machine.

`_records` has what each call does to the table, and `_file` runs it in a worker thread. It does not work on
network file systems, because the shared memory of WAL needs one machine.
"""

import os
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import timedelta
from typing import ClassVar, cast

from sessioncore._errors import ConfigError, KeyTaken
from sessioncore._storage_calls import Moved, Stored, Unreadable, Written
from sessioncore._storage_capabilities import Clears, KeepsTombstones, LoadsMany, Opens, Purges, Scans, Watches
from sessioncore._watchers import Changed
from sessioncore.storage._text import bytes_of
from sessioncore.storage.sqlite._file import SQLiteFile
from sessioncore.storage.sqlite._file_changes import FileChanges
from sessioncore.storage.sqlite._records import BATCH, Records
from sessioncore.storage.sqlite._schema import schema_sql

__all__ = ["SQLiteStorage"]


class SQLiteStorage:
    """Keep records in the SQLite file `path`; a missing file is created, readable by this user alone.

    The first call opens the file. When a write returns, it has reached the disk. Several
    processes may share the file; open it after a fork, not before. If another process holds
    the file, a call waits for `busy_timeout`, but not longer than the store's
    `storage_timeout`. `clock` returns seconds since the epoch.

    If the file, or the -wal or -shm file beside it, is removed or replaced while it is open, every
    call raises StorageUnavailable until it is back, because further writes would be lost.

    Raises:
        ConfigError: `path` names no file (`:memory:`), or `busy_timeout` is no timedelta of zero or more.
    """

    capabilities: ClassVar[frozenset[type]] = frozenset(
        {Clears, KeepsTombstones, LoadsMany, Opens, Purges, Scans, Watches}
    )

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.time,
        busy_timeout: timedelta = timedelta(seconds=4),
    ) -> None:
        given: object = os.fspath(path) if isinstance(cast("object", path), str | os.PathLike) else None
        if not isinstance(given, str) or not _can_be_a_file(given):
            raise ConfigError("SQLiteStorage needs the path of a file; use MemoryStorage to keep records in memory")
        if not isinstance(cast("object", busy_timeout), timedelta) or busy_timeout < timedelta():
            raise ConfigError("busy_timeout must be a timedelta of zero or more")
        self._records = Records(clock)
        self._changes = FileChanges(self._records)
        path = os.path.abspath(given)  # noqa: PTH100 - links stay; a later chdir() makes no difference
        self._file = SQLiteFile(path, busy_timeout.total_seconds())

    def __repr__(self) -> str:
        return f"<SQLiteStorage {self._file.path}>"

    @property
    def path(self) -> str:
        """The absolute path of the file."""
        return self._file.path

    @property
    def migration_sql(self) -> str:
        """The SQL that creates the table in a new file."""
        return schema_sql()

    async def load(self, key: str, *, renew: float | None = None) -> Stored | Moved | Unreadable | None:
        """Return the live record at `key`, or None; with `renew`, set its ttl first."""
        if renew is not None:
            return await self._file.write(self._records.renew, key, renew)
        return await self._file.read(self._records.load, key)

    async def load_many(self, keys: Sequence[str]) -> list[Stored | Moved | Unreadable | None]:
        """Return for each key what `load` would return, with one call to the worker thread."""
        return await self._file.read(lambda connection: [self._records.load(connection, key) for key in keys])

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        """Store a new record and return its version, or None if the key is taken."""
        return await self._file.write(self._records.create, key, data, ttl, owner)

    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        """Write if the record still has `version`; otherwise return the current record, or None if it is gone."""
        return await self._file.write(self._records.replace, key, data, ttl, version=version, owner=owner)

    async def move(
        self,
        key: str,
        new_key: str,
        data: bytes,
        ttl: float,
        *,
        version: int,
        owner: str | None = None,
        tombstone: float = 0.0,
    ) -> Written:
        """Do what `replace` does, and give the record a new key in the same transaction; see `KeepsTombstones`.

        Raises:
            KeyTaken: `new_key` is taken; nothing is changed.
        """
        result = await self._file.write(
            self._records.move, key, new_key, data, ttl, version=version, owner=owner, tombstone=tombstone
        )
        if isinstance(result, KeyTaken):
            raise result
        return result

    async def touch(self, key: str, ttl: float) -> bool:
        """Set the ttl of a live record; False if there is none."""
        return await self._file.write(self._records.touch, key, ttl)

    async def delete(self, *keys: str) -> int:
        """Delete these records in one transaction, following tombstones; return how many were live."""
        return await self._file.write(self._records.delete, keys) if keys else 0

    async def clear(self, prefix: str) -> int:
        """Delete every record whose key begins with `prefix`, in bounded batches; return how many were live."""
        return await self._in_batches(self._records.clear_batch, prefix)

    async def scan(self, prefix: str) -> AsyncGenerator[list[str]]:
        """Yield the keys of live records that begin with `prefix`, up to 500 per query."""
        start: bytes | None = bytes_of(prefix)
        while start is not None:
            keys, start = await self._file.read(self._records.scan_batch, prefix, start)
            yield keys

    async def owned_keys(self, owner: str) -> list[str]:
        """Return the keys of the owner's live records."""
        return await self._file.read(self._records.owned_keys, owner)

    notices_within: float | None = 1.0  # seconds

    async def watch(self, keys: Sequence[str], changed: Changed) -> list[Stored | Moved | Unreadable | None]:
        """Return what the keys hold, and watch them; see `Watches`."""
        self._changes.add(keys, changed)
        answers = await self.load_many(keys)
        self._changes.note_answers(keys, answers)
        return answers

    def unwatch(self, key: str, changed: Changed) -> None:
        """Do not call `changed` for this key any more."""
        self._changes.remove(key, changed)

    async def confirm(self) -> None:
        """Call `changed` for what has changed; if the file has not been written to, this costs one PRAGMA."""
        await self._changes.confirm(self._file.read)

    async def purge_expired(self) -> int:
        """Remove expired records, in bounded batches; return how many."""
        return await self._in_batches(self._records.purge_batch)

    async def _in_batches(self, remove: Callable[..., tuple[int, int]], *args: str) -> int:
        """Remove up to BATCH rows at a time, until fewer are left; return how many of them were records."""
        removed = 0
        while True:
            rows, records = await self._file.write(remove, *args)
            removed += records
            # A short batch has seen the whole range in one transaction: no record that was moved
            # between two batches was missed.
            if rows < BATCH:
                return removed

    async def open(self) -> None:
        """Open the file; create it and its tables if they are missing.

        Raises:
            StorageError: the file has a newer schema, is another program's, or is read-only; it is left unchanged.
            WritesRefused: the disk is full, or another process holds the file.
            StorageUnavailable: the folder is missing.
        """
        await self._file.open()

    async def migrate(self) -> None:
        """Do what `open` does, which upgrades the table of an earlier version, and check that the table is there."""
        await self._file.open()
        await self.check()

    async def check(self) -> None:
        """Check that the file can be read.

        Raises:
            StorageError: the table is missing.
            WritesRefused: another process holds the file.
            StorageUnavailable: it cannot be read.
        """
        await self._file.read(self._records.check)

    async def aclose(self) -> None:
        """Close the file when the running calls are done. A later call opens it again."""
        await self._file.aclose()


def _can_be_a_file(path: str) -> bool:
    if not path or "\0" in path or path.startswith((":memory:", "file:")):  # empty: from an unset variable, like None
        return False
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True
