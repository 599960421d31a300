"""Turns asyncpg's errors into errors of the storage contract, with the server's own words and what to do.

PostgreSQL puts values into the detail and the context of an error, such as the key that exists already. Both are
removed here, so that neither the text of an error nor its causes hold a key or an owner.
"""

import ssl
from typing import Any, cast

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no py.typed # pyright: ignore[reportMissingTypeStubs]

from sessioncore._causes import RAISE_FILE_LIMIT, is_file_limit_reached
from sessioncore._errors import StorageError, StorageUnavailable, WritesRefused

__all__ = [
    "FAILURES", "MISSING_PARTS", "OF_THE_SESSION", "READ_ONLY", "UNIQUE_VIOLATION", "WEAKNESSES", "changed_nothing",
    "is_about_the_connection", "sqlstate", "storage_error",
]  # fmt: skip

UNIQUE_VIOLATION = "23505"
READ_ONLY = "25006"
# What a connection does not notice: its role was dropped and made anew, or has another search_path or timeout now.
OF_THE_SESSION = frozenset({"3F000", "42501", "42P01", "55P03", "57014"})
MISSING_PARTS = frozenset({"42P01", "42703", "42P10"})  # of the table: itself, a column, the primary key

FAILURES: tuple[type[Exception], ...] = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # Raised when a connection breaks between two round trips.
    asyncpg.InternalClientError,
)

# The server has rolled the statement back: it changed nothing, and can be sent again.
_ROLLED_BACK = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected

_OF_FILES = (ssl.SSLError, FileNotFoundError, IsADirectoryError, NotADirectoryError)

# SQLSTATEs, or the first letters of them, that mean "unavailable".
# 40 and 55: rolled back once more, or a lock was not granted in time.
_UNAVAILABLE = ("08", READ_ONLY, "28", "3D000", "40", "53", "55P03", "57", "58")

_TAKES_NO_WRITES = frozenset({READ_ONLY, "53100"})  # 53100: the disk is full

# The server is shutting down, so its connection must not be used again. (A connection to a read-only server stays in
# use while there is no better one, see Database.)
_ABOUT_THE_CONNECTION = ("08", "57P")

_ONLY_READS = (
    "the server takes no writes: it is a standby, or default_transaction_read_only is set. Lead the URL to the "
    "primary; one with several hosts finds it by ?target_session_attrs=read-write. If a pooler sends reads to "
    "standbys, turn that off"
)
_OPEN_TO_THE_ROLE = "disable it for this table, or give the role a policy for all commands, USING (true)"
_ROW_SECURITY = f"the table's row-level security refuses the role: {_OPEN_TO_THE_ROLE}"
# What weakens a promise, as the statement `check` names it.
WEAKNESSES = {
    "index": "the index {name} is missing; run the SQL of PostgresStorage.schema_sql()",
    "unlogged": "the table is UNLOGGED: after a crash of the server, or a failover, all sessions are gone; run "
    "ALTER TABLE ... SET LOGGED",
    "policy": "the table's row-level security applies to the role, and a policy can hide sessions from it: such a "
    f"visitor is anonymous, and such a session cannot be ended; {_OPEN_TO_THE_ROLE}",
}
_HINTS = {
    READ_ONLY: _ONLY_READS,
    "3F000": "create the schema first and GRANT USAGE ON SCHEMA ... TO the role, or name one that it may use in its "
    "search_path or in table=",
    "42501": "the role needs SELECT, INSERT, UPDATE and DELETE on the table, and CREATE on the schema to create it; "
    "only the table's owner can change its columns and indexes, with the SQL of PostgresStorage.schema_sql()",
    "42703": "the table lacks a column, because an earlier version made it: run the SQL of "
    "PostgresStorage.schema_sql() as its owner, or pass create_table=True; if another program made it, give "
    "PostgresStorage a table= of its own",
    "42704": "the driver passes parameters of the URL that it does not know to the server: correct or remove them",
    "42P01": "the table is missing, or its schema is not in the role's search_path, or the role lacks USAGE on it; run "
    "`sessioncore migrate` or the SQL of PostgresStorage.schema_sql(), or pass create_table=True",
    "42P10": "the table lacks its primary key, so it was not made by the SQL of PostgresStorage.schema_sql()",
    "53100": "its disk is full: make room",
    "53300": "lower max_connections of PostgresStorage, or raise the limit of the server or the role",
    "54000": "a key is longer than an index entry may be, some 2700 bytes",
    "55P03": "another client keeps the row or the table locked: look for it in pg_locks, or raise lock_timeout",
    "57014": "raise statement_timeout for this role if the server is merely slow, and look for locks",
}

_NOT_OUR_TABLE = (
    "compare the table with the SQL of PostgresStorage.schema_sql(); if another program made it, give PostgresStorage "
    "a table= of its own"
)

# By the first two letters of the SQLSTATE.
_HINTS_BY_CLASS = {
    "08": "look at the server or the pooler in between, and at the URL",
    "22": _NOT_OUR_TABLE,  # a value does not fit the type of its column
    "23": _NOT_OUR_TABLE,  # a constraint
    "28": "it does not accept this user and password; check them in the URL, and the server's pg_hba.conf",
    "3D": "there is no such database; check the database of the URL",
    "42": _NOT_OUR_TABLE,  # an operator for other types, a view in the place of the table
    "57": "it starts, stops or was told to end the connection; if that does not pass, look at its log",
}


def sqlstate(error: BaseException | None) -> str | None:
    """Return the SQLSTATE of an error that the server sent, None for other errors."""
    return cast("str | None", getattr(error, "sqlstate", None))


def is_about_the_connection(exc: Exception) -> bool:
    """Return whether the connection must not be used again: another one may lead to a server that works."""
    state = sqlstate(exc)
    return isinstance(exc, asyncpg.InternalClientError) or (state or "").startswith(_ABOUT_THE_CONNECTION)


def changed_nothing(exc: Exception) -> bool:
    """Return whether the statement had no effect and may succeed if it is sent again."""
    # The type of a column was changed: the statement will be prepared anew.
    if sqlstate(exc) in _ROLLED_BACK or isinstance(exc, asyncpg.InvalidCachedStatementError):
        return True
    # asyncpg raises errors with these texts, before it sends anything, if the connection broke while it was
    # idle: so try another one. If a later asyncpg changes the texts, the call just fails.
    text = str(exc)
    return isinstance(exc, asyncpg.InternalClientError | asyncpg.InterfaceError) and (
        text.startswith("cannot switch to state") or text.endswith("connection is closed")
    )


def storage_error(exc: Exception) -> StorageError:
    """Return the error that says what asyncpg's means and what to do about it; remove values from `exc`, its cause."""
    state = sqlstate(exc)
    words = _words_without_values(exc, state)
    if state is None:
        if isinstance(exc, asyncpg.TargetServerAttributeNotMatched):
            return WritesRefused(f"PostgreSQL is unavailable at the moment: {words}; {_ONLY_READS}")
        if isinstance(exc, asyncpg.InterfaceError) and words.startswith("pool is not initialized"):
            return StorageUnavailable(
                "the pool is not open: write `await asyncpg.create_pool(...)`, in the running loop"
            )
        if isinstance(exc, asyncpg.InterfaceError) and words.startswith("pool is clos"):
            return StorageUnavailable("the pool is closed: close the store first, and its pool after it")
        if is_file_limit_reached(exc):
            advice = RAISE_FILE_LIMIT
        elif isinstance(exc, _OF_FILES) or (isinstance(exc, PermissionError) and exc.filename):
            advice = (
                "look at the certificates, keys or socket that the URL names (sslrootcert=, sslcert=, host=), and at "
                "~/.postgresql"
            )
        else:
            advice = "look at the server, its address and the network"
        return StorageUnavailable(f"PostgreSQL is unavailable at the moment ({type(exc).__name__}): {words}; {advice}")
    hint = (
        _ROW_SECURITY
        if "row-level security" in words
        else _HINTS.get(state) or _HINTS_BY_CLASS.get(state[:2]) or "look at the log of the server"
    )
    text = f"PostgreSQL refused (SQLSTATE {state}): {words}; {hint}"
    if state in _TAKES_NO_WRITES:
        return WritesRefused(text)
    return StorageUnavailable(text) if state.startswith(_UNAVAILABLE) else StorageError(text)


def _words_without_values(exc: Any, state: str | None) -> str:
    if state is not None:
        fields: dict[str, Any] = exc.__dict__
        fields.update(detail=None, context=None)
        if state.startswith("22"):  # the message itself quotes a value
            fields.update(message="a value was refused")
            exc.args = ("a value was refused",)
    return str(exc.args[0] if state is not None and exc.args else exc) or type(exc).__name__
