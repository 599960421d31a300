"""The pool of connections: one that the application passes, or one that is made from a DSN.

asyncpg ships no types, so the few calls in use are declared here.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast, runtime_checkable

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no py.typed # pyright: ignore[reportMissingTypeStubs]

from sessioncore._errors import ConfigError, StorageError
from sessioncore.storage.postgres._connecting import Connector

__all__ = ["Pool", "make_pool", "source_of"]

# The beginnings of asyncpg's messages that say what to change; others quote the DSN with its password.
_QUOTES_NOTHING = ("`", "root certificate file", "cannot determine", "could not determine", "direct TLS")


@runtime_checkable
class Pool(Protocol):
    """The part of `asyncpg.Pool` that is used here."""

    def acquire(self) -> Awaitable[Any]: ...
    async def release(self, connection: Any, *, timeout: float | None = None) -> None: ...  # noqa: ASYNC109 - asyncpg's own name
    async def expire_connections(self) -> None: ...  # each is replaced before it is used again
    async def close(self) -> None: ...
    def terminate(self) -> None: ...
    def get_max_size(self) -> int: ...
    def get_size(self) -> int: ...  # how many connections are open


def source_of(given: object) -> Pool | str:
    """Return the pool or the DSN that was passed.

    Raises:
        ConfigError: it is neither.
    """
    # None and an empty text come from environment variables that are not set.
    if (isinstance(given, str) and given.strip()) or (isinstance(given, Pool) and not isinstance(given, type)):
        return given
    raise ConfigError("PostgresStorage takes postgresql://user:password@host:port/database, or an asyncpg.Pool")


async def make_pool(dsn: str, connect: Connector, *, max_connections: int, seconds: float) -> Pool:
    """Return a pool that has connected once, and gives up an attempt to connect after `seconds`.

    Raises:
        ConfigError: the DSN cannot be understood.
        StorageUnavailable: the server does not answer.
    """
    try:
        pool = await _create_pool(
            dsn,
            min_size=0,  # otherwise asyncpg keeps connecting, and logs a traceback each time, while it cannot
            max_size=max_connections,
            statement_cache_size=0,  # asyncpg numbers its names: the same name means other SQL in each process
            # As the server spells it. pgbouncer takes asyncpg's 'utf-8' for a difference, and sends a SET
            # whenever a client gets another server connection; now and then the client waits for seconds.
            server_settings={"client_encoding": "UTF8"},
            reset=_no_reset,
            connect=connect,
            timeout=seconds,
        )
        try:
            await pool.release(await pool.acquire())  # an address that cannot work fails here
        except BaseException:
            pool.terminate()  # it may have connected already
            raise
    except (ValueError, OverflowError, KeyError) as exc:  # OverflowError for a port beyond 65535
        raise ConfigError(_what_is_wrong(exc)) from None
    except StorageError as exc:
        if isinstance(exc.__cause__, OSError) and isinstance(exc.__cause__.__cause__, KeyError):
            raise ConfigError(_what_is_wrong(exc.__cause__.__cause__)) from None  # of getpass since Python 3.13
        raise
    return cast("Pool", pool)


def _what_is_wrong(error: Exception) -> str:
    if isinstance(error, KeyError):  # of pwd.getpwuid
        return (
            "the PostgreSQL DSN names no user, and the one of this process has no name: write postgresql://user@host/db"
        )
    words = str(error).partition("\n")[0]
    if words.startswith(_QUOTES_NOTHING):
        return f"the PostgreSQL DSN cannot be used: {words}"
    return "the PostgreSQL DSN cannot be understood; expected postgresql://user:password@host:port/database"


async def _no_reset(connection: object) -> None:
    """Send no RESET on release: no statement here changes a connection, and it would double the round trips."""


_create_pool: Callable[..., Awaitable[Any]] = getattr(asyncpg, "create_pool")  # noqa: B009 - see the module's text
