"""Running statements through asyncpg: the pool, timeouts, retries, and asyncpg's errors as ours.

asyncpg ships no types, so the few calls in use are declared here. This module knows
neither the SQL of the storage nor sessions.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Protocol, cast, runtime_checkable

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no py.typed # pyright: ignore[reportMissingTypeStubs]

from sessioncore._errors import ConfigError, StorageError, StorageUnavailable
from sessioncore.storage.postgres._statements import PreparedStatements, Rows, is_about_the_name

__all__ = ["UNIQUE_VIOLATION", "Database", "Pool", "Rows", "require_asyncio", "sqlstate"]

_log = logging.getLogger("sessioncore.storage.postgres")

UNIQUE_VIOLATION = "23505"

# The server has rolled the statement back: it changed nothing, and can be sent again.
_ROLLED_BACK = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected
_TRIES = 100

# SQLSTATEs, or the first letters of them, that mean "unavailable". 25006: the primary has become a standby.
# 40 and 55: rolled back once more, or a lock was not granted in time.
_UNAVAILABLE = ("08", "25006", "28", "3D000", "40", "53", "55P03", "57", "58")

_HINTS = {
    "42501": "the role needs SELECT, INSERT, UPDATE and DELETE on the table, and CREATE on the schema to create it",
    "42P01": "the table is missing; run the SQL of PostgresStorage.schema_sql(), or pass create_table=True",
    "54000": "a key is longer than an index entry may be, some 2700 bytes",
}

# By the first two letters of the SQLSTATE: why the server refuses every connection.
_LOGIN_HINTS = {
    "28": "it does not accept this user and password; check them in the URL, and the server's pg_hba.conf",
    "3D": "there is no such database; check the database of the URL",
}

_OTHER_LOOP = (
    "this PostgresStorage was opened in another event loop, and connections belong to one loop: close it there first "
    "(async with store), and in a handler that runs in a thread write anyio.from_thread.run instead of asyncio.run"
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
                    min_size=1,
                    max_size=self._max_connections,
                    statement_cache_size=0,  # asyncpg numbers its names: the same name means other SQL in each process
                    reset=_no_reset,
                )
        except ValueError:
            # asyncpg's message quotes the DSN with its password.
            raise ConfigError(
                "the PostgreSQL DSN cannot be understood; expected postgresql://user:password@host:port/database"
            ) from None
        except _FAILURES as exc:
            raise _as_storage_error(exc) from exc
        return cast("Pool", pool)

    def check_loop(self) -> None:
        """Return if the pool may be closed in this event loop.

        Raises:
            StorageError: it is in use in another event loop.
        """
        if self._is_other_loop() and self._loop is not None and not self._loop.is_closed():
            raise StorageError(_OTHER_LOOP)

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

    async def run(self, sql: str, *args: object) -> Rows:
        """Run one statement and return its rows.

        Raises:
            StorageUnavailable: the server did not answer, or not in time.
            StorageError: the server refused.
        """
        if self._is_other_loop():
            raise StorageError(_OTHER_LOOP)  # asyncpg would fail half-way and leave the connection in an unknown state
        for _ in range(_TRIES):
            try:
                return await self._run_once(sql, args)
            except _FAILURES as exc:
                if is_about_the_name(exc):
                    self._stop_naming()
                elif sqlstate(exc) not in _ROLLED_BACK and not _never_sent(exc):
                    raise _as_storage_error(exc) from exc
        raise StorageUnavailable("PostgreSQL rolled the statement back again and again: too many writers on one row")

    def _stop_naming(self) -> None:
        # There is a pooler that switches server connections, or the type of a column was changed. Names fail again.
        if self._statements.named:
            self._statements = PreparedStatements(named=False)
            _log.info("prepared statements are missing on the server (a pooler?): from now on each is sent in full")

    async def _run_once(self, sql: str, args: tuple[object, ...]) -> Rows:
        if self._pool is None:
            raise StorageUnavailable("this PostgreSQL storage was closed meanwhile")
        pool = self._pool
        async with asyncio.timeout(self._timeout):
            connection = await pool.acquire()
            try:
                return await self._statements.fetch(connection, sql, args)
            except asyncpg.InternalClientError:
                connection.terminate()  # its state is unknown, so it must not be used again
                raise
            finally:
                # The outcome is known already; an error of the release must not replace it. asyncpg shields
                # the release, waits until a cancelled statement has ended, and closes the connection otherwise.
                with suppress(*_FAILURES):
                    await pool.release(connection, timeout=_RELEASE_TIMEOUT)


def require_asyncio() -> None:
    """Return if the running event loop is asyncio's.

    Raises:
        ConfigError: it is not; asyncpg supports no other.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigError(
            "PostgresStorage needs asyncio, as asyncpg does; on trio use SQLiteStorage or MemoryStorage"
        ) from None


def sqlstate(error: BaseException | None) -> str | None:
    """Return the SQLSTATE of an error that the server sent, None for other errors."""
    return cast("str | None", getattr(error, "sqlstate", None))


async def _no_reset(connection: object) -> None:
    """Send no RESET on release: no statement here changes a connection, and it would double the round trips."""


_create_pool: Callable[..., Awaitable[Any]] = getattr(asyncpg, "create_pool")  # noqa: B009 - see the module's text
_FAILURES: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # Raised when a connection breaks between two exchanges.
    asyncpg.InternalClientError,
)


def _never_sent(exc: Exception) -> bool:
    # asyncpg raises errors with these texts, before it sends anything, if the connection broke while it was
    # idle: so try another one. If a later asyncpg changes the texts, the call just fails.
    text = str(exc)
    return isinstance(exc, asyncpg.InternalClientError | asyncpg.InterfaceError) and (
        text.startswith("cannot switch to state") or text.endswith("connection is closed")
    )


def _as_storage_error(exc: Exception) -> StorageError:
    # The server's text may quote keys, so the message names only the kind of the error.
    state = sqlstate(exc)
    kind = type(exc).__name__
    if state is None or state.startswith(_UNAVAILABLE):
        if isinstance(exc, asyncpg.InterfaceError) and str(exc).startswith("pool is not initialized"):
            return StorageUnavailable(
                "the pool is not open: write `await asyncpg.create_pool(...)`, in the running loop"
            )
        if hint := _LOGIN_HINTS.get((state or "")[:2]):
            return StorageUnavailable(f"PostgreSQL refused ({kind}, SQLSTATE {state}): {hint}")
        return StorageUnavailable(f"PostgreSQL is unavailable at the moment ({kind})")
    hint = _HINTS.get(state, "the cause of this error says why")
    return StorageError(f"PostgreSQL refused ({kind}, SQLSTATE {state}): {hint}")
