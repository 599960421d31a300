"""Records in PostgreSQL, through asyncpg: nearly every storage call is one statement.

The database decides what two processes could disagree on: the time, and which write came
first. The table is created on demand, or by a migration that runs `schema_sql()`.
"""

import logging
from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import timedelta
from functools import partial
from math import inf
from random import uniform
from typing import Any, ClassVar, cast

from anyio import sleep

from sessioncore._errors import ConfigError, KeyTaken, StorageError, StorageUnavailable
from sessioncore._extras import needs_extra
from sessioncore._storage_calls import Moved, Stored, Unreadable, Written
from sessioncore._storage_capabilities import Clears, KeepsTombstones, LoadsMany, Opens, Purges, Scans, Watches
from sessioncore._watchers import Changed, Watchers
from sessioncore.concurrency._locks import CrossLoopLock
from sessioncore.concurrency._shield import run_shielded
from sessioncore.storage._per_loop import PerLoop
from sessioncore.storage._text import bytes_of, keys_of
from sessioncore.storage._versions import random_version
from sessioncore.storage.postgres._schema import locked_schema_sql, schema_sql
from sessioncore.storage.postgres._sql import owner_bytes, statements

with needs_extra("postgres"):
    from sessioncore.storage.postgres._batches import clear, purge, scan
    from sessioncore.storage.postgres._driver import Database, Rows
    from sessioncore.storage.postgres._errors import MISSING_PARTS, UNIQUE_VIOLATION, WEAKNESSES, sqlstate
    from sessioncore.storage.postgres._pool import Pool, source_of
    from sessioncore.storage.postgres._rows import found, written
    from sessioncore.storage.postgres._watching import notice_changes

__all__ = ["PostgresStorage"]

_logger = logging.getLogger("sessioncore.storage.postgres")

_PAUSE = 0.01  # at most, in seconds

_MIGRATE = "The table is to be created or completed: if it is large, run `sessioncore migrate`, which waits for that"


class PostgresStorage:
    """Keep records in one table of a PostgreSQL database (11 or newer).

    Args:
        pool_or_dsn: a DSN, from which the storage creates a pool for each event loop, and which
            `aclose` closes; or an `asyncpg.Pool`, which you close yourself.
        table: `name` or `schema.name`.
        create_table: create the table in `open` if it is missing; False if a migration does.
        prepared_statements: False sends the SQL text with each call, and prepares no statement
            on the server; True switches to that by itself behind a pooler that needs it.
        max_connections: size of each pool that is created; a given pool keeps its own size.
        timeout: how long a call may take, including the wait for a free connection.

    Raises:
        ConfigError: there is neither a DSN nor a pool, `table` is not a plain identifier, or
            a number is not above zero.
    """

    capabilities: ClassVar[frozenset[type]] = frozenset(
        {Clears, KeepsTombstones, LoadsMany, Opens, Purges, Scans, Watches}
    )

    def __init__(
        self,
        pool_or_dsn: Pool | str,
        *,
        table: str = "sessioncore_sessions",
        create_table: bool = True,
        prepared_statements: bool = True,
        max_connections: int = 10,
        timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        if not isinstance(cast("object", timeout), timedelta) or timeout <= timedelta():
            raise ConfigError("timeout must be a timedelta above zero")
        if type(cast("object", max_connections)) is not int or max_connections < 1:
            raise ConfigError("max_connections must be a whole number of at least 1")
        self._table = table
        self._sql = statements(table)
        self._create_table = create_table
        self._looked_for_table = not create_table
        self._making_table = CrossLoopLock()
        self._watchers = Watchers()
        self._timeout = timeout.total_seconds()
        new_database = partial(
            Database,
            source_of(pool_or_dsn),
            prepared_statements=prepared_statements,
            max_connections=max_connections,
            timeout=self._timeout,
        )
        self._databases = PerLoop(new_database, Database.aclose, storage="PostgresStorage", driver="asyncpg")

    def __repr__(self) -> str:
        return f"<PostgresStorage {self._table}>"

    @staticmethod
    def schema_sql(table: str = "sessioncore_sessions") -> str:
        """Return the SQL that creates `table` and its indexes, for a migration tool.

        Raises:
            ConfigError: `table` is not a plain identifier.
        """
        return schema_sql(table)

    @property
    def migration_sql(self) -> str:
        """The SQL that `migrate` runs."""
        return schema_sql(self._table)

    async def migrate(self) -> None:
        """Create the table, or upgrade one that an earlier version made, whatever `create_table` says.

        It takes as long as it needs: an index on a large table takes minutes.
        """
        await self._make_table(seconds=inf)

    async def load(self, key: str, *, renew: float | None = None) -> Stored | Moved | Unreadable | None:
        """Return the live record at `key`, or None; with `renew`, set its ttl to that many seconds."""
        if renew is None:
            return found(await self._run(self._sql.load, bytes_of(key)))
        return found(await self._write(self._sql.renew, bytes_of(key), float(renew)))

    async def load_many(self, keys: Sequence[str]) -> list[Stored | Moved | Unreadable | None]:
        """Return for each key what `load` would return, with one statement."""
        rows = await self._run(self._sql.load_many, [bytes_of(key) for key in keys])
        by_key = {row["key"]: found([row]) for row in rows}
        return [by_key.get(bytes_of(key)) for key in keys]

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        """Store a new record for `ttl` seconds and return its version, or None if the key is taken."""
        new = random_version()
        rows = await self._run(self._sql.create, bytes_of(key), data, float(ttl), owner_bytes(owner), new)
        return new if rows else None

    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        """Write if the record still has `version`; otherwise return the current record, or None."""
        new = random_version()
        args = (data, float(ttl), owner_bytes(owner), version, new)
        return written(await self._write(self._sql.replace, bytes_of(key), *args), new)

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
        """Do what `replace` does, and give the record a new key in the same statement; leave a tombstone for a while.

        Raises:
            KeyTaken: `new_key` is taken; nothing is changed.
        """
        if new_key == key:
            raise KeyTaken
        new, target = random_version(), bytes_of(new_key)
        args: tuple[Any, ...] = (bytes_of(key), data, float(ttl), owner_bytes(owner), version, new, target)
        sql = self._sql.move
        if tombstone > 0:
            sql, args = self._sql.move_with_tombstone, (*args, float(tombstone))
        try:
            return written(await self._run(sql, *args, locking=(args[0], target)), new)
        except StorageError as exc:
            if sqlstate(exc.__cause__) != UNIQUE_VIOLATION:
                raise
            # What is at the new key may have expired, and merely not be purged yet.
            if not await self._run(self._sql.delete_expired, target):
                raise KeyTaken from exc
        return written(await self._run(sql, *args, locking=(args[0], target)), new)

    async def touch(self, key: str, ttl: float) -> bool:
        """Set the ttl of a live record, in seconds; False if there is none."""
        return bool(await self._write(self._sql.touch, bytes_of(key), float(ttl)))

    async def delete(self, *keys: str) -> int:
        """Delete these records, and those to which tombstones at these keys lead; return how many were live."""
        if not keys:
            return 0
        ends = named = [bytes_of(key) for key in keys]
        live = 0
        while True:
            (row,) = await self._run(self._sql.delete, ends, locking=ends)
            live += int(row["live"])
            if row["moved"]:  # by another call, at this moment: end what has moved first, and then what leads to it
                ends = list(row["moved"])
                await sleep(uniform(0, _PAUSE))  # noqa: S311 - so that a fast mover is not always one step ahead
            elif ends is named:
                return live
            else:
                ends = named

    async def clear(self, prefix: str) -> int:
        """Delete every record whose key begins with `prefix`, in batches; return how many were live."""
        return await clear(self._sql, prefix, self._run)

    def scan(self, prefix: str) -> AsyncGenerator[list[str]]:
        """Return an iterator over the keys of live records that begin with `prefix`, in batches."""
        return scan(self._sql, prefix, self._run)

    async def owned_keys(self, owner: str) -> list[str]:
        """Return the keys of live records whose last create, replace or move named `owner`."""
        return keys_of(row["key"] for row in await self._run(self._sql.owned_keys, owner_bytes(owner)))

    notices_within: float | None = 1.0  # seconds

    async def watch(self, keys: Sequence[str], changed: Changed) -> list[Stored | Moved | Unreadable | None]:
        """Return what the keys hold, and watch them; see `Watches`."""
        self._watchers.add(keys, changed)
        answers = await self.load_many(keys)
        self._watchers.note_answers(keys, answers)
        return answers

    def unwatch(self, key: str, changed: Changed) -> None:
        """Do not call `changed` for this key any more."""
        self._watchers.remove(key, changed)

    async def confirm(self) -> None:
        """Call `changed` for what has changed, after one statement about the watched keys, if there are any."""
        await notice_changes(self._watchers, self._sql, self._run)

    async def purge_expired(self) -> int:
        """Remove expired records, in batches that skip locked rows; return how many."""
        return await purge(self._sql, self._run)

    async def open(self) -> None:
        """Connect, and create or upgrade the table. A second call has no effect.

        Raises:
            ConfigError: the DSN cannot be understood, or this is not asyncio.
            StorageUnavailable: the server does not answer.
            StorageError: the role may not create the table, or change one that an earlier version made.
        """
        self._databases.reopen()
        await self._databases.here().connect()
        self._looked_for_table = not self._create_table
        await self._look_for_table()

    async def check(self) -> None:
        """Check that the server takes writes to this table; log what weakens a promise.

        Raises:
            StorageUnavailable: the server does not answer, or only reads.
            StorageError: the table, a column or a right is missing.
        """
        for row in await self._run(self._sql.check):
            _logger.warning(WEAKNESSES[row["weakness"]].format(name=row["name"]))

    async def aclose(self) -> None:
        """Close the pools that were created for a DSN, in each event loop; a given pool stays open."""
        await run_shielded(self._databases.close(seconds=self._timeout))

    async def _look_for_table(self) -> None:
        async with self._making_table:
            if not self._looked_for_table:
                await self._make_table()
                self._looked_for_table = True

    async def _make_table(self, *, seconds: float | None = None) -> bool:
        """Create the table, or what it lacks; return False if it lacks nothing."""
        run = self._databases.here().run
        # Look first: CREATE TABLE IF NOT EXISTS fails for a role that may only read and write rows.
        if await run(self._sql.is_current):
            return False
        try:
            await run(locked_schema_sql(self._table), seconds=seconds)
        except StorageUnavailable as exc:
            if not isinstance(exc.__cause__, TimeoutError):
                raise
            raise StorageUnavailable(f"{exc}. {_MIGRATE}") from exc.__cause__
        return True

    async def _write(self, sql: str, key: bytes, *args: object) -> Rows:
        return await self._run(sql, key, *args, locking=(key,))

    async def _run(self, sql: str, *args: object, locking: Collection[bytes] = ()) -> Rows:
        if not self._looked_for_table:
            await self._look_for_table()
        database = self._databases.here()
        try:
            return await database.run(sql, *args, locking=locking)
        except StorageError as exc:
            if not self._create_table or sqlstate(exc.__cause__) not in MISSING_PARTS:
                raise
        async with self._making_table:
            # It was dropped, or one that an earlier version made was restored.
            if await self._make_table():
                _logger.warning("the table was missing or incomplete; it was made anew or completed")
        return await database.run(sql, *args, locking=locking)
