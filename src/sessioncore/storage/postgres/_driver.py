"""What the PostgreSQL storage asks of asyncpg: a pool, rows, and errors put into our words.

asyncpg ships no types of its own, so the few calls in use are described here.
No SQL of the storage and no session is known here.
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

# The server rolled the statement back and says so: it did nothing, and may be sent again.
_ROLLED_BACK = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected
_TRIES = 100

# SQLSTATEs, or their first letters, by which a server says that it cannot serve now. 25006: the primary that
# we knew has become a standby. 40 and 55: a rollback or a lock that did not come in time.
_UNAVAILABLE = ("08", "25006", "28", "3D000", "40", "53", "55P03", "57", "58")

_HINTS = {
    "42501": "the role needs SELECT, INSERT, UPDATE and DELETE on the table; to make it, CREATE on the schema too",
    "42P01": "the table is missing; run the SQL of PostgresStorage.schema_sql(), or pass create_table=True",
    "54000": "a key is longer than an index entry may be, some 2700 bytes",
}

# By the first two letters: why a server lets nobody in.
_LOGIN_HINTS = {
    "28": "it does not let us in with this user and password; check them in the URL, and the server's pg_hba.conf",
    "3D": "there is no such database; check the database of the URL",
}

_OTHER_LOOP = (
    "this PostgresStorage was opened in another event loop, whose connections serve no other: close it there first "
    "(async with store), and in a handler that runs in a thread write anyio.from_thread.run instead of asyncio.run"
)

# Seconds for a connection to come to rest when it is given back, for instance after a cancelled statement.
# One that does not is closed, and costs its place in the pool no longer than this.
_GIVE_BACK = 2.0


@runtime_checkable
class Pool(Protocol):
    """The part of `asyncpg.Pool` in use."""

    def acquire(self) -> Awaitable[Any]:
        """Lend a connection."""
        ...

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's own name
        """Take a connection back."""
        ...

    async def close(self) -> None:
        """Close all connections once they are given back."""
        ...

    def terminate(self) -> None:
        """Close all connections at once."""
        ...


def _source_of(given: object) -> Pool | str:
    # None and an empty text are environment variables that are not set.
    if (isinstance(given, str) and given.strip()) or (isinstance(given, Pool) and not isinstance(given, type)):
        return given
    raise ConfigError("PostgresStorage takes postgresql://user:password@host:port/database, or an asyncpg.Pool")


class Database:
    """One pool, given or made from a DSN, with a bound on the time of each statement in seconds."""

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
        """Make the pool, or take the given one; again: no effect.

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
                    statement_cache_size=0,  # asyncpg's own names mean something else in every process
                    reset=_leave_as_it_is,
                )
        except ValueError:
            # asyncpg quotes the DSN in its message, and the password stands in there.
            raise ConfigError(
                "the PostgreSQL DSN cannot be understood; expected postgresql://user:password@host:port/database"
            ) from None
        except _FAILURES as exc:
            raise _translated(exc) from exc
        return cast("Pool", pool)

    def leave(self) -> None:
        """Return if the pool may be closed from here.

        Raises:
            StorageError: it is in use in another event loop.
        """
        if self._is_elsewhere() and self._loop is not None and not self._loop.is_closed():
            raise StorageError(_OTHER_LOOP)

    def _is_elsewhere(self) -> bool:
        return self._loop is not None and self._loop is not asyncio.get_running_loop()

    async def aclose(self) -> None:
        """Close the pool if it was made here; a given one stays open."""
        pool, elsewhere = self._pool, self._is_elsewhere()
        self._pool = self._loop = None
        if pool is None or elsewhere or not isinstance(self._source, str):
            return  # connections that were left open have ended with their loop
        try:
            async with asyncio.timeout(self._timeout):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    async def run(self, sql: str, *args: object) -> Rows:
        """Run one statement and return its rows.

        Raises:
            StorageUnavailable: no answer in time, or none at all.
            StorageError: the server refused.
        """
        if self._is_elsewhere():
            raise StorageError(_OTHER_LOOP)  # asyncpg would notice half way, and its connection be in a state unknown
        for _ in range(_TRIES):
            try:
                return await self._run_once(sql, args)
            except _FAILURES as exc:
                if is_about_the_name(exc):
                    self._do_without_names()
                elif sqlstate(exc) not in _ROLLED_BACK and not _never_sent(exc):
                    raise _translated(exc) from exc
        raise StorageUnavailable("PostgreSQL rolled the statement back again and again; too many writers on a row")

    def _do_without_names(self) -> None:
        # A pooler hands out server connections, or a column has another type now. Names would go on to miss.
        if self._statements.named:
            self._statements = PreparedStatements(named=False)
            _log.info(
                "statements that were prepared are not there any more: a pooler? from now on each is sent in full"
            )

    async def _run_once(self, sql: str, args: tuple[object, ...]) -> Rows:
        if self._pool is None:
            raise StorageUnavailable("this PostgreSQL storage was closed meanwhile")
        pool = self._pool
        async with asyncio.timeout(self._timeout):
            connection = await pool.acquire()
            try:
                return await self._statements.fetch(connection, sql, args)
            except asyncpg.InternalClientError:
                connection.terminate()  # its state is unknown, so nobody else shall have it
                raise
            finally:
                # The outcome is known already, success or error; trouble here must not replace it. asyncpg
                # shields this, waits for a cancelled statement to end, and closes the connection otherwise.
                with suppress(*_FAILURES):
                    await pool.release(connection, timeout=_GIVE_BACK)


def require_asyncio() -> None:
    """Return if asyncio runs here.

    Raises:
        ConfigError: it does not; asyncpg knows no other event loop.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigError(
            "PostgresStorage needs asyncio, as asyncpg does; on trio take SQLiteStorage or MemoryStorage"
        ) from None


def sqlstate(error: BaseException | None) -> str | None:
    """Return the SQLSTATE that the server gave to an error, if it comes from there."""
    return cast("str | None", getattr(error, "sqlstate", None))


async def _leave_as_it_is(connection: object) -> None:
    """Replace asyncpg's RESET: no statement here changes a connection, and it would double the round trips."""


_create_pool: Callable[..., Awaitable[Any]] = getattr(asyncpg, "create_pool")  # noqa: B009 - see the module's text
_FAILURES: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # Raised where a connection breaks between two exchanges.
    asyncpg.InternalClientError,
)


def _never_sent(exc: Exception) -> bool:
    # A connection that broke while it was idle is noticed by the next call, before a byte is written: asyncpg
    # says so in these words. Another connection may serve. Should the words change, the call just fails.
    text = str(exc)
    return isinstance(exc, asyncpg.InternalClientError | asyncpg.InterfaceError) and (
        text.startswith("cannot switch to state") or text.endswith("connection is closed")
    )


def _translated(exc: Exception) -> StorageError:
    # The server's own text may quote keys; only the kind of error is repeated.
    state = sqlstate(exc)
    kind = type(exc).__name__
    if state is None or state.startswith(_UNAVAILABLE):
        if isinstance(exc, asyncpg.InterfaceError) and str(exc).startswith("pool is not initialized"):
            return StorageUnavailable(
                "the pool is not open: write `await asyncpg.create_pool(...)`, in the running loop"
            )
        if hint := _LOGIN_HINTS.get((state or "")[:2]):
            return StorageUnavailable(f"PostgreSQL refused ({kind}, SQLSTATE {state}): {hint}")
        return StorageUnavailable(f"PostgreSQL does not serve at the moment ({kind})")
    hint = _HINTS.get(state, "the cause of this error says why")
    return StorageError(f"PostgreSQL refused ({kind}, SQLSTATE {state}): {hint}")
