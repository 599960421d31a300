"""How a statement reaches PostgreSQL: under a name that means the same in every process, or with its text.

Behind a pooler a process meets server connections that other processes have used. asyncpg numbers the names
of its statements, so there the same name may be any statement, and a load may run somebody's DELETE. Here a
name is the hash of the SQL. No session and no pool is known here.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeAlias, cast
from weakref import WeakKeyDictionary

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no py.typed # pyright: ignore[reportMissingTypeStubs]
from asyncpg import prepared_stmt  # pyright: ignore[reportMissingTypeStubs]

__all__ = ["PreparedStatements", "Rows", "is_about_the_name"]

Rows: TypeAlias = Sequence[Mapping[str, Any]]

# invalid_sql_statement_name: the server knows no such statement; duplicate_prepared_statement: it has it already.
_NAME_STATES = frozenset({"26000", "42P05"})


def is_about_the_name(error: BaseException) -> bool:
    """Return whether the server found no usable statement under a name, and so has executed nothing."""
    return getattr(error, "sqlstate", None) in _NAME_STATES or isinstance(error, asyncpg.InvalidCachedStatementError)


class PreparedStatements:
    """What each connection of a pool has prepared so far.

    Args:
        named: keep statements on the server, under the hash of their SQL. Otherwise each call sends the
            text along, in the same exchange as the values: no pooler comes between these.
    """

    def __init__(self, *, named: bool) -> None:
        self.named = named
        # Not `asyncpg.PreparedStatement`, which ends when its connection goes back to the pool, and holds it.
        self._states: WeakKeyDictionary[Any, dict[str, Any]] = WeakKeyDictionary()

    async def fetch(self, connection: Any, sql: str, args: tuple[object, ...]) -> Rows:
        """Run `sql` on a connection of the pool: one round trip, except for the first time there."""
        # A pool lends the same connection in another wrapping each time.
        raw = getattr(connection, "_con", connection)
        states = self._states.get(raw)
        if states is None:
            states = self._states[raw] = {}
        state = states.get(sql)
        if state is None or state.closed:
            state = states[sql] = await (_prepare_named(raw, sql) if self.named else _describe(raw, sql))
        return cast("Rows", await _PreparedStatement(raw, sql, state).fetch(*args))


@lru_cache
def _name(sql: str) -> str:
    # PostgreSQL cuts names at 63 bytes.
    return f"sessioncore_{sha256(sql.encode()).hexdigest()[:32]}"


async def _prepare_named(raw: Any, sql: str) -> Any:
    return _kept(await raw.prepare(sql, name=_name(sql)))


async def _describe(raw: Any, sql: str) -> Any:
    # To learn about a type, asyncpg may send statements and settings of its own. In a transaction these reach one
    # server connection, and none is left behind with a setting that its next user did not ask for.
    async with raw.transaction():
        state = _kept(await raw.prepare(sql, name=""))
    # asyncpg then sends the text before the values, in one exchange, whenever it is told to run this.
    state.mark_unprepared()
    return state


def _kept(statement: Any) -> Any:
    # One reference more than asyncpg counts: without any it would close the statement on the server.
    state = statement._state  # noqa: SLF001 - what asyncpg shows of it ends when the connection is given back
    state.attach()
    return state


_PreparedStatement: Any = prepared_stmt.PreparedStatement
