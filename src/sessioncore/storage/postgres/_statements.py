"""Prepared statements whose names mean the same in every process, and statements that are sent with their text.

Behind a pooler, processes share server connections. asyncpg numbers its statements, so another process may have
prepared other SQL under the same name, and a load might run its DELETE. Here the name is the hash of the SQL.
This module knows neither sessions nor the pool.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeAlias, cast
from weakref import WeakKeyDictionary

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no py.typed # pyright: ignore[reportMissingTypeStubs]
from asyncpg import prepared_stmt  # pyright: ignore[reportMissingTypeStubs]

__all__ = ["PreparedStatements", "Rows", "is_about_the_name"]

Rows: TypeAlias = Sequence[Mapping[str, Any]]

# invalid_sql_statement_name: no such statement; duplicate_prepared_statement: the name is in use already.
_NAME_STATES = frozenset({"26000", "42P05"})


def is_about_the_name(error: BaseException) -> bool:
    """Return whether the server refused because of the name of a statement, and so has executed nothing."""
    return getattr(error, "sqlstate", None) in _NAME_STATES


class PreparedStatements:
    """The statements that each connection of a pool has prepared so far.

    Args:
        named: keep statements on the server, under the hash of their SQL. Otherwise each call sends the
            text along, in the same round trip as the values: a pooler cannot separate them.
    """

    def __init__(self, *, named: bool) -> None:
        self.named = named
        # Not `asyncpg.PreparedStatement`: it is invalid once its connection is released, and keeps it alive.
        # None instead of a state: the statement is being prepared, or that was interrupted.
        self._states: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()

    async def fetch(self, connection: Any, sql: str, args: tuple[object, ...]) -> Rows:
        """Run `sql` on a connection of the pool: one round trip, except for the first run on that connection."""
        # The pool wraps the same connection in a new object each time.
        raw = getattr(connection, "_con", connection)
        states = self._states.get(raw)
        if states is None:
            states = self._states[raw] = {}
        state = states.get(sql)
        if state is None or state.closed:
            interrupted = sql in states and state is None
            states[sql] = None
            state = states[sql] = await (_prepare_named(raw, sql, interrupted) if self.named else _describe(raw, sql))
        try:
            return cast("Rows", await _PreparedStatement(raw, sql, state).fetch(*args))
        except (asyncpg.DataError, asyncpg.InvalidCachedStatementError):
            # The type of a column may have changed after the statement was prepared: the next call prepares it anew.
            states[sql] = None
            raise
        except (AssertionError, BufferError, UnicodeDecodeError):
            pass  # not the cause of what is raised: it may hold a part of the row
        raise asyncpg.InternalClientError("the types of the reply are not those that the statement had at first")


@lru_cache
def _name(sql: str) -> str:
    # PostgreSQL cuts names at 63 bytes.
    return f"sessioncore_{sha256(sql.encode()).hexdigest()[:32]}"


async def _prepare_named(raw: Any, sql: str, interrupted: bool) -> Any:
    if interrupted:  # the server may have the name, and would refuse it
        with suppress(asyncpg.InvalidSQLStatementNameError):
            await raw.execute(f"DEALLOCATE {_name(sql)}")
    return _kept(await raw.prepare(sql, name=_name(sql)))


async def _describe(raw: Any, sql: str) -> Any:
    # To look up a type, asyncpg may send statements and settings of its own. A transaction keeps them on one
    # server connection, and ends the settings, so that they do not reach the next user of that connection.
    async with raw.transaction():
        state = _kept(await raw.prepare(sql, name=""))
        # asyncpg sends the Sync that ends a series of messages together with values. Odyssey waits for it, and keeps
        # the server connection for that long, even after the COMMIT.
        await _PreparedStatement(raw, "SELECT", _kept(await raw.prepare("SELECT", name=""))).fetch()
    # From now on asyncpg sends the text before the values, in one round trip, whenever the statement is run.
    state.mark_unprepared()
    return state


def _kept(statement: Any) -> Any:
    # A reference of our own: without any, asyncpg would close the statement on the server.
    state = statement._state  # noqa: SLF001 - the public object is invalid once the connection is released
    state.attach()
    return state


_PreparedStatement: Any = prepared_stmt.PreparedStatement
