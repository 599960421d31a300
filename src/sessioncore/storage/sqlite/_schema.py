"""Opening a SQLite file: check that it is ours, check or create its schema, set how it is used.

Everything here blocks, and so runs in a worker thread.
"""

import errno
import os
import sqlite3
import sysconfig
import threading
from pathlib import Path

from sessioncore._errors import StorageError
from sessioncore.storage.sqlite._batching import when_free
from sessioncore.storage.sqlite._errors import files_beside, may_write

__all__ = ["connect", "prepare", "schema_sql"]

_creating = threading.Lock()
_APPLICATION_ID = 0x73657373  # "sess": tells our file from other SQLite files
_SCHEMA = 2
# On a Python without the GIL, a statement that one thread has prepared and another one frees outlives `close`, and
# keeps the file open and locked: prepare each anew there.
_CACHED_STATEMENTS = 0 if sysconfig.get_config_var("Py_GIL_DISABLED") else 128

# `ends` is wall-clock time: the only clock that several processes share, and that goes on after a restart.
_CREATE = (
    """CREATE TABLE records (
        key TEXT NOT NULL PRIMARY KEY,
        data BLOB NOT NULL,
        version INTEGER NOT NULL,
        ends REAL NOT NULL,
        owner TEXT,
        moved_to TEXT
    )""",
    "CREATE INDEX records_by_end ON records (ends)",
    "CREATE INDEX records_by_owner ON records (owner) WHERE owner IS NOT NULL",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA}",
)

# By the schema of the file: the statements that lead to the next one.
_MIGRATE = {1: ("ALTER TABLE records ADD COLUMN moved_to TEXT", "PRAGMA user_version = 2")}


def schema_sql() -> str:
    """Return the SQL that makes a file ours."""
    return "".join(f"{statement};\n" for statement in _CREATE)


def connect(path: str, until: float) -> sqlite3.Connection:
    """Return a connection that starts no transaction and waits for no lock; any thread may use it, one at a time.

    While the file is locked, try again until the monotonic clock shows `until`: the setting below reads the
    file, and that fails at once while the last connection of another pool is being closed.
    """
    return when_free(lambda: _connect(path), until)


def _connect(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=_CACHED_STATEMENTS
    )
    # In WAL mode NORMAL survives kill -9, but a power cut loses the last commits, perhaps a logout that
    # was already confirmed. FULL waits for the disk once per commit, and concurrent requests share commits.
    try:
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(path: str, until: float) -> sqlite3.Connection:
    """Return a connection to a file of our schema, created or migrated where needed; other files are not changed.

    While the file is locked, try again until the monotonic clock shows `until`.

    Raises:
        StorageError: the file is of a newer schema, or is another program's.
    """
    _create_private(path)
    # SQLite waits for no lock here: some fail at once in any case, such as that for a change of the journal mode.
    return when_free(lambda: _prepared(path), until)


def _prepared(path: str) -> sqlite3.Connection:
    connection = _connect(path)
    try:
        ready = _is_ready(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")  # every time: a file restored from a backup may lack it
        if not ready:
            _create_or_migrate(connection, path)
        _marks(connection)  # this opens the -wal and -shm files, also where the journal was another one until now
    except BaseException:
        connection.close()
        raise
    return connection


def _create_private(path: str) -> None:
    # One at a time: when a process closes a file, it loses its locks there, also those of its open connections, and
    # the next process that closes the file removes the -wal file that they write to.
    with _creating:
        if not Path(path).exists():
            # SQLite would follow the umask; its -wal and -shm files get the mode of the main file.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            return
    if not may_write(path) and not all(each.exists() for each in files_beside(path)):
        # A user who may only read would create them, and then the user who may write could not any more.
        raise PermissionError(errno.EACCES, "")


def _is_ready(connection: sqlite3.Connection, path: str) -> bool:
    connection.execute("BEGIN")  # one consistent view: another process may be writing these marks
    try:
        return _schema_of(*_marks(connection), path) == _SCHEMA
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _marks(connection: sqlite3.Connection) -> tuple[int, int, int]:
    asked = ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
    application, schema, tables = (int(connection.execute(each).fetchone()[0]) for each in asked)
    return application, schema, tables


def _schema_of(application: int, schema: int, tables: int, path: str) -> int:
    """Return the schema of a file of ours, 0 for an empty one; raise StorageError for any other."""
    if application == _APPLICATION_ID and 0 < schema <= _SCHEMA:
        return schema
    if application == _APPLICATION_ID and schema > _SCHEMA:
        raise StorageError(
            f"the file {path} has schema {schema}, this release of sessioncore knows {_SCHEMA}: "
            "upgrade sessioncore, or give it another file"
        )
    if application or schema or tables:
        raise StorageError(f"the file {path} belongs to another program: give SQLiteStorage a file of its own")
    return 0


def _create_or_migrate(connection: sqlite3.Connection, path: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        schema = _schema_of(*_marks(connection), path)  # another process may have created or migrated it meanwhile
        steps = _CREATE if schema == 0 else [step for old in range(schema, _SCHEMA) for step in _MIGRATE[old]]
        for statement in steps:
            connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
