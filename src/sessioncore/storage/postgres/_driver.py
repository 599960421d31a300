"""Running statements through asyncpg: timeouts, retries, and connections to the wrong server.

This module knows neither the SQL of the storage nor sessions.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Collection
from contextlib import AsyncExitStack, suppress
from typing import Any
from weakref import WeakValueDictionary

from sessioncore._errors import StorageError, StorageUnavailable
from sessioncore.concurrency._standstill import time_limit
from sessioncore.storage.postgres._connecting import Connector
from sessioncore.storage.postgres._errors import (
    FAILURES,
    OF_THE_SESSION,
    READ_ONLY,
    changed_nothing,
    is_about_the_connection,
    sqlstate,
    storage_error,
)
from sessioncore.storage.postgres._places import Places
from sessioncore.storage.postgres._pool import Pool, make_pool
from sessioncore.storage.postgres._statements import PreparedStatements, Rows, is_about_the_name

__all__ = ["Database", "Rows"]

_logger = logging.getLogger("sessioncore.storage.postgres")

_TRIES = 100

# Seconds during which no call tries another new connection after one has answered that the server only reads.
_READ_ONLY_PAUSE = 1.0
# Seconds between two replacements of connections whose settings, or whose role, may be out of date.
_SESSION_PAUSE = 10.0

_OTHER_LOOP = (
    "the asyncpg.Pool of this PostgresStorage belongs to another event loop, and so do its connections. Pass the DSN "
    "instead of a pool, and each loop gets a pool of its own. Or create the pool in the loop that uses it, and in a "
    "handler that runs in a thread write anyio.from_thread.run instead of asyncio.run"
)
_CLOSED = "this PostgresStorage was closed meanwhile"

# Seconds that a connection may take to become idle when it is returned to the pool, for instance after a
# cancelled statement. After that it is closed, so that it does not keep its place in the pool.
_RELEASE_TIMEOUT = 2.0


class Database:
    """One pool, passed or made from a DSN; each statement has `timeout` seconds. It belongs to one event loop."""

    def __init__(self, source: Pool | str, *, prepared_statements: bool, max_connections: int, timeout: float) -> None:
        self._source = source
        self._max_connections = max_connections
        self._statements = PreparedStatements(named=prepared_statements)
        self._timeout = timeout
        self._places: Places | None = None  # of the pool; None until it is needed, and after `aclose`
        self._connector = Connector()
        self._connecting = asyncio.Lock()
        self._closed = False
        self._releasing: list[Any] = []  # connections whose callers were cancelled while they gave them back
        self._row_locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._expired_at = self._read_only_at = self._wrote_at = -math.inf

    async def connect(self) -> None:
        """Make the pool, or use the one that was passed. Called again, it has no effect.

        Raises:
            ConfigError: the DSN cannot be understood.
            StorageError: the pool that was passed belongs to another event loop.
            StorageUnavailable: the server does not answer, or this was closed.
        """
        async with self._connecting:
            if self._closed:
                raise StorageUnavailable(_CLOSED)
            if self._places is None:
                self._places = Places(await self._usable_pool())

    async def _usable_pool(self) -> Pool:
        if isinstance(self._source, str):
            return await make_pool(
                self._source, self._connector, max_connections=self._max_connections, seconds=self._timeout
            )
        if getattr(self._source, "_loop", None) not in {None, asyncio.get_running_loop()}:
            raise StorageError(_OTHER_LOOP)  # asyncpg would fail half-way and leave a connection in an unknown state
        return self._source

    async def aclose(self) -> None:
        """Close the pool if it was made from a DSN; one that was passed stays open."""
        self._closed = True
        async with self._connecting:  # a call that is connecting must not leave a pool open
            places, self._places = self._places, None
        for connection in self._releasing:  # the pool would wait for them
            _terminate(connection)
        if places is None or not isinstance(self._source, str):
            return
        try:
            async with asyncio.timeout(self._timeout):
                await places.pool.close()
        except TimeoutError:
            places.pool.terminate()

    async def run(self, sql: str, *args: object, locking: Collection[bytes] = (), seconds: float | None = None) -> Rows:
        """Run one statement and return its rows; `seconds`: another time limit than that of the other statements.

        `locking`: the keys whose rows the statement locks. Calls that lock the same row run one after the other, since
        each would wait for the lock with a connection that others need.

        Raises:
            StorageUnavailable: the server did not answer, or not in time.
            StorageError: the server refused.
        """
        locks = {self._row_locks.setdefault(key, asyncio.Lock()) for key in locking}
        limit = self._timeout if seconds is None else seconds
        try:
            async with time_limit(limit), AsyncExitStack() as stack:
                if self._places is None:
                    await self.connect()
                for lock in sorted(locks, key=id):  # in one order, so that two calls do not wait for each other
                    await stack.enter_async_context(lock)
                return await self._run(sql, args)
        except TimeoutError as exc:
            raise StorageUnavailable(
                f"PostgreSQL did not answer within {limit:g} s; look for locks, for too few connections, "
                "and at the network"
            ) from exc

    async def _run(self, sql: str, args: tuple[object, ...]) -> Rows:
        clock, refused_at = asyncio.get_running_loop().time, math.inf
        for _ in range(_TRIES):
            acquired_at = clock()
            try:
                rows = await self._run_once(sql, args)
            except FAILURES as exc:
                if is_about_the_name(exc):
                    self._stop_naming()
                elif sqlstate(exc) == READ_ONLY:
                    first, refused_at = refused_at == math.inf, min(refused_at, clock())
                    if not await self._finds_another_server(acquired_at, refused_at, first=first):
                        raise storage_error(exc) from exc
                elif not changed_nothing(exc):
                    if sqlstate(exc) in OF_THE_SESSION and clock() - self._expired_at >= _SESSION_PAUSE:
                        await self._expire_connections()
                    raise storage_error(exc) from exc
            else:
                if not sql.lstrip().startswith("SELECT"):
                    self._read_only_at, self._wrote_at = -math.inf, clock()
                return rows
        raise StorageUnavailable(
            f"PostgreSQL rolled the statement back {_TRIES} times: too many writers on one row; try again"
        )

    async def _finds_another_server(self, acquired_at: float, refused_at: float, *, first: bool) -> bool:
        """Return whether a statement that a read-only server refused is to be sent again, on a new connection.

        The server refuses such a statement before it does anything. The other connections of the pool probably lead
        to that server, too, so all are replaced. If a new one is refused as well, there is no better server at the
        moment: for a second, calls fail at the first refusal, so that they do not all keep connecting. A write that
        succeeds ends that second: from then on the refusal of an older connection says nothing.
        """
        now = asyncio.get_running_loop().time()
        if self._wrote_at <= acquired_at:
            if first and now - self._read_only_at < _READ_ONLY_PAUSE:
                return False
            if refused_at <= self._expired_at <= acquired_at:  # the connection was made after the first refusal
                self._read_only_at = now
                return False
        if self._expired_at < acquired_at:
            await self._expire_connections()
        return True

    async def _expire_connections(self) -> None:
        if self._places is not None:
            self._expired_at = asyncio.get_running_loop().time()
            await self._places.pool.expire_connections()

    def _stop_naming(self) -> None:
        # A pooler switches server connections: names would fail again.
        if self._statements.named:
            self._statements = PreparedStatements(named=False)
            _logger.info("prepared statements are missing on the server (a pooler?): from now on each is sent in full")

    async def _run_once(self, sql: str, args: tuple[object, ...]) -> Rows:
        if (places := self._places) is None:
            raise StorageUnavailable(_CLOSED)
        connection = await places.acquire()
        try:
            return await self._run_on(connection, places.pool, sql, args)
        finally:
            places.free()

    async def _run_on(self, connection: Any, pool: Pool, sql: str, args: tuple[object, ...]) -> Rows:
        try:
            rows = await self._statements.fetch(connection, sql, args)
        except BaseException as exc:
            if isinstance(exc, FAILURES) and is_about_the_connection(exc):
                _terminate(connection)  # so that the pool does not lend it again
            # asyncpg waits until a cancelled statement has ended, and closes the connection otherwise.
            await self._give_back(connection, asyncio.shield(_release_interrupted(pool, connection)))
            raise
        await self._give_back(connection, pool.release(connection, timeout=_RELEASE_TIMEOUT))
        return rows

    async def _give_back(self, connection: Any, release: Awaitable[None]) -> None:
        """Await `release`; it goes on if the caller is cancelled, but not if that is because the event loop ends."""
        try:
            with suppress(*FAILURES):  # the outcome of the statement is known; nothing must replace it
                await release
        except BaseException:
            self._releasing = [one for one in (*self._releasing, connection) if _is_lent(one)]
            raise


async def _release_interrupted(pool: Pool, connection: Any) -> None:
    """Return a connection to the pool after a statement that was interrupted or failed."""
    with suppress(*FAILURES):
        # A cancelled transaction rolls itself back, unless it is cancelled again; asyncpg would log that as an error.
        if connection.is_in_transaction():
            await connection.execute("ROLLBACK", timeout=_RELEASE_TIMEOUT)
    with suppress(*FAILURES):  # a task that fails after its caller was cancelled would be logged
        try:
            await pool.release(connection, timeout=_RELEASE_TIMEOUT)
        except TimeoutError:
            # The server has not even answered that the statement was cancelled, so the way to it is broken, and each
            # idle connection would cost another call all of its time.
            await pool.expire_connections()


def _is_lent(connection: Any) -> bool:
    try:
        connection.is_closed()
    except FAILURES:  # the pool has it
        return False
    return True


def _terminate(connection: Any) -> None:
    with suppress(*FAILURES):  # the pool has it, or has dropped it
        connection.terminate()
