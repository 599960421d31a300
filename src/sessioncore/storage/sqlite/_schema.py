"""The table of a SQLite file, and the marks by which a file of ours is known: creates both, or migrates them.

Everything here blocks, and so runs in a worker thread.
"""

import sqlite3

from sessioncore._errors import StorageError

__all__ = ["SCHEMA", "create_or_migrate", "schema_of", "schema_sql"]

_APPLICATION_ID = 0x73657373  # "sess": tells our file from other SQLite files
SCHEMA = 2

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
    f"PRAGMA user_version = {SCHEMA}",
)

# By the schema of the file: the statements that lead to the next one.
_MIGRATE = {1: ("ALTER TABLE records ADD COLUMN moved_to TEXT", "PRAGMA user_version = 2")}

# One statement, because another process may be writing them.
_MARKS = """SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master)
    FROM pragma_application_id, pragma_user_version"""


def schema_sql() -> str:
    """Return the SQL that makes a file ours."""
    return "".join(f"{statement};\n" for statement in _CREATE)


def schema_of(connection: sqlite3.Connection, path: str) -> int:
    """Return the schema of a file of ours, 0 for an empty one.

    Raises:
        StorageError: the file is of a newer schema, or is another program's.
    """
    application, schema, tables = connection.execute(_MARKS).fetchone()
    if application == _APPLICATION_ID and 0 < schema <= SCHEMA:
        return int(schema)
    if application == _APPLICATION_ID and schema > SCHEMA:
        raise StorageError(
            f"the file {path} has schema {schema}, this release of sessioncore knows {SCHEMA}: "
            "upgrade sessioncore, or give it another file"
        )
    if application or schema or tables:
        raise StorageError(f"the file {path} belongs to another program: give SQLiteStorage a file of its own")
    return 0


def create_or_migrate(connection: sqlite3.Connection, path: str) -> None:
    """Create the table in an empty file, or upgrade one that an earlier version made."""
    connection.execute("BEGIN")
    try:
        # Another process may have created or migrated it meanwhile; if one does so from now on, the file is busy.
        schema = schema_of(connection, path)
        steps = _CREATE if schema == 0 else [step for old in range(schema, SCHEMA) for step in _MIGRATE[old]]
        for statement in steps:
            connection.execute(statement)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
