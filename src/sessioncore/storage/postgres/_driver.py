"""Running statements through asyncpg: the pool, timeouts, retries, and connections to the wrong server.

asyncpg ships no types, so the few calls in use are declared here. This module knows
neither the SQL of the storage nor sessions.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack, suppress
from typing import Any, Protocol, cast, runtime_checkable
from weakref import WeakValueDictionary

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no py.typed # pyright: ignore[reportMissingTypeStubs]

from sessioncore._cross_loop import asyncio_loop
from sessioncore._errors import ConfigError, StorageError, StorageUnavailable
from sessioncore.storage.postgres._connecting import connect, target_of
from sessioncore.storage.postgres._errors import (
    FAILURES,
    READ_ONLY,
    changed_nothing,
    is_about_the_connection,
    sqlstate,
    storage_error,
)
from sessioncore.storage.postgres._statements import PreparedStatements, Rows, is_about_the_name

__all__ = ["Database", "Pool", "Rows", "require_asyncio"]

_log = logging.getLogger("sessioncore.storage.postgres")

_TRIES = 100

# Seconds during which no call tries another new connection after one has answered that the server only reads.
_READ_ONLY_PAUSE = 1.0

_OTHER_LOOP = (
    "this PostgresStorage was opened in another event loop, and connections belong to one loop. In tests write "
    "`with TestClient(app) as client:`, since outside `with` each request runs in a loop of its own; elsewhere close "
    "it there first (async with store), and in a handler that runs in a thread write anyio.from_thread.run instead of "
    "asyncio.run"
)

# Seconds that a connection may take to become idle when it is returned to the pool, for instance after a
# cancelled statement. After that it is closed, so that it does not keep its place in the pool.
_RELEASE_TIMEOUT = 2.0


@runtime_checkable
class Pool(Protocol):
    """The part of `asyncpg.Pool` that is used here."""

    def acquire(self) -> Awaitable[Any]:
        """Return a free connection."""
        ...

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's own name
        """Take a connection back."""
        ...

    async def expire_connections(self) -> None:
        """Replace each connection before it is used again."""
        ...

    async def close(self) -> None:
        """Close all connections when they have been released."""
        ...

    def terminate(self) -> None:
        """Close all connections at once."""
        ...


def _source_of(given: object) -> Pool | str:
    # None and an empty text come from environment variables that are not set.
    if (isinstance(given, str) and given.strip()) or (isinstance(given, Pool) and not isinstance(given, type)):
        return given
    raise ConfigError("PostgresStorage takes postgresql://user:password@host:port/database, or an asyncpg.Pool")


class Database:
    """One pool, given or made from a DSN; each statement has `timeout` seconds."""

    def __init__(
        self,
        pool_or_dsn: Pool | str,
        *,
        prepared_statements: bool,
        max_connections: int,
        timeout: float,
    ) -> None:
        self._source = _source_of(pool_or_dsn)
        self._max_connections = max_connections
        self._statements = PreparedStatements(named=prepared_statements)
        self._timeout = timeout
        self._pool: Pool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self._expired_at = self._read_only_at = self._wrote_at = -math.inf

    async def connect(self) -> None:
        """Make the pool, or use the given one. Called again, it has no effect.

        Raises:
            ConfigError: the DSN cannot be understood.
            StorageUnavailable: the server does not answer.
        """
        if self._pool is None:
            self._pool = await self._make(self._source) if isinstance(self._source, str) else self._source
            self._loop = asyncio.get_running_loop()

    async def _make(self, dsn: str) -> Pool:
        try:
            async with asyncio.timeout(self._timeout):
                pool = await _create_pool(
                    dsn,
                    min_size=0,  # otherwise asyncpg keeps connecting, and logs a traceback each time, while it cannot
                    max_size=self._max_connections,
                    statement_cache_size=0,  # asyncpg numbers its names: the same name means other SQL in each process
                    # As the server spells it. pgbouncer takes asyncpg's 'utf-8' for a difference, and sends a SET
                    # whenever a client gets another server connection; now and then the client waits for seconds.
                    server_settings={"client_encoding": "UTF8"},
                    reset=_no_reset,
                    connect=connect,
                    timeout=self._timeout,
                    **target_of(dsn),
                )
                try:
                    await pool.release(await pool.acquire())  # an address that cannot work fails here
                except BaseException:
                    pool.terminate()  # it may have connected already
                    raise
        except (ValueError, OverflowError):  # the latter for a port beyond 65535
            # asyncpg's message quotes the DSN with its password.
            raise ConfigError(
                "the PostgreSQL DSN cannot be understood; expected postgresql://user:password@host:port/database"
            ) from None
        except FAILURES as exc:
            raise storage_error(exc) from exc
        return cast("Pool", pool)

    def check_loop(self) -> None:
        """Return if the pool may be closed in this event loop.

        Raises:
            StorageError: it is in use in another event loop.
        """
        if self._is_other_loop() and not self.has_outlived_its_loop():
            raise StorageError(_OTHER_LOOP)

    def has_outlived_its_loop(self) -> bool:
        """Return whether the event loop of the pool is closed, and the connections with it."""
        return self._loop is not None and self._loop.is_closed()

    def _is_other_loop(self) -> bool:
        return self._loop is not None and self._loop is not asyncio.get_running_loop()

    async def aclose(self) -> None:
        """Close the pool if it was made from a DSN; a given one stays open."""
        pool, other_loop = self._pool, self._is_other_loop()
        self._pool = self._loop = None
        if pool is None or other_loop or not isinstance(self._source, str):
            return  # the connections of a loop that has ended are closed already
        try:
            async with asyncio.timeout(self._timeout):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    async def run(self, sql: str, *args: object, turns: Collection[bytes] = ()) -> Rows:
        """Run one statement and return its rows.

        Calls that have one of their `turns` in common run one after the other. They would wait for the lock of the
        same row, each with a connection that others need.

        Raises:
            StorageUnavailable: the server did not answer, or not in time.
            StorageError: the server refused.
        """
        if self._is_other_loop():
            raise StorageError(_OTHER_LOOP)  # asyncpg would fail half-way and leave the connection in an unknown state
        locks = {self._turns.setdefault(turn, asyncio.Lock()) for turn in turns}
        try:
            async with asyncio.timeout(self._timeout), AsyncExitStack() as stack:
                for lock in sorted(locks, key=id):  # in one order, so that two calls do not wait for each other
                    await stack.enter_async_context(lock)
                return await self._run(sql, args)
        except TimeoutError as exc:
            raise StorageUnavailable(
                f"PostgreSQL did not answer within {self._timeout:g} s; look for locks, for too few connections, "
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
        succeeds ends that second: from then on no connection to the other server is believed.
        """
        now = asyncio.get_running_loop().time()
        if self._wrote_at <= acquired_at:
            if first and now - self._read_only_at < _READ_ONLY_PAUSE:
                return False
            if refused_at <= self._expired_at <= acquired_at:  # the connection was made after the first refusal
                self._read_only_at = now
                return False
        if self._pool is not None and self._expired_at < acquired_at:
            self._expired_at = now
            await self._pool.expire_connections()
        return True

    def _stop_naming(self) -> None:
        # There is a pooler that switches server connections, or the type of a column was changed. Names fail again.
        if self._statements.named:
            self._statements = PreparedStatements(named=False)
            _log.info("prepared statements are missing on the server (a pooler?): from now on each is sent in full")

    async def _run_once(self, sql: str, args: tuple[object, ...]) -> Rows:
        if self._pool is None:
            raise StorageUnavailable("this PostgreSQL storage was closed meanwhile")
        pool = self._pool
        connection = await pool.acquire()
        try:
            rows = await self._statements.fetch(connection, sql, args)
        except BaseException as exc:
            if isinstance(exc, FAILURES) and is_about_the_connection(exc):
                with suppress(*FAILURES):  # if the server has ended it, the pool has dropped it already
                    connection.terminate()  # so that the pool does not lend it again
            # asyncpg waits until a cancelled statement has ended, and closes the connection otherwise. In a task with
            # a callback: if the caller is cancelled once more, the release still ends, and its error counts as seen.
            release = asyncio.ensure_future(_give_back(pool, connection))
            release.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.wait([release])
            raise
        with suppress(*FAILURES):  # the outcome is known already; an error of the release must not replace it
            await pool.release(connection, timeout=_RELEASE_TIMEOUT)
        return rows


async def _give_back(pool: Pool, connection: Any) -> None:
    """Return a connection to the pool after a statement that was interrupted or failed."""
    with suppress(*FAILURES):
        # A cancelled transaction rolls itself back, unless it is cancelled again; asyncpg would log that as an error.
        if connection.is_in_transaction():
            await connection.execute("ROLLBACK", timeout=_RELEASE_TIMEOUT)
    await pool.release(connection, timeout=_RELEASE_TIMEOUT)


def require_asyncio() -> None:
    """Return if the running event loop is asyncio's.

    Raises:
        ConfigError: it is not; asyncpg supports no other.
    """
    if asyncio_loop() is None:
        raise ConfigError("PostgresStorage needs asyncio, as asyncpg does; on trio use SQLiteStorage or MemoryStorage")


async def _no_reset(connection: object) -> None:
    """Send no RESET on release: no statement here changes a connection, and it would double the round trips."""


_create_pool: Callable[..., Awaitable[Any]] = getattr(asyncpg, "create_pool")  # noqa: B009 - see the module's text
