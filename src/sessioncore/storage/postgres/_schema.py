"""The table of the PostgreSQL storage: its name, and the SQL that creates it or brings it up to date.

Keys and owners are `bytea`, not `text`: any string fits whatever the encoding of the database (NUL
included), and bytes compare bytewise, so a prefix is a range of the primary key.
"""

import re

from sessioncore._errors import ConfigError

__all__ = ["index_name", "locked_schema_sql", "quoted", "schema_sql"]

# An index is named after its table, and PostgreSQL silently cuts names at 63 bytes.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,49}")


def quoted(table: str) -> str:
    """Return the table's name, with its schema if it has one, quoted for SQL.

    Raises:
        ConfigError: the name is not a plain identifier.
    """
    parts = table.split(".")
    if len(parts) > 2 or not all(_NAME.fullmatch(part) for part in parts):
        raise ConfigError(
            "table must be `name` or `schema.name`, each of up to 50 letters, digits and underscores, "
            f"not beginning with a digit; got {table!r}"
        )
    return ".".join(f'"{part}"' for part in parts)


def index_name(table: str, column: str) -> str:
    """Return the quoted name of an index of a quoted table."""
    return f'{table.removesuffix(chr(34))}_{column}"'


def schema_sql(table: str) -> str:
    """Return the SQL that creates `table` and its indexes, or upgrades those that an earlier version made.

    Run again, it changes nothing.

    Raises:
        ConfigError: the name is not a plain identifier.
    """
    name = quoted(table)
    short = table.rpartition(".")[2]
    return f"""\
CREATE TABLE IF NOT EXISTS {name} (
    key bytea PRIMARY KEY,
    owner bytea,
    version bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    data bytea NOT NULL
);
-- A renewal changes no indexed column, and finds room for the row on its page: then it touches no index.
ALTER TABLE {name} ADD COLUMN IF NOT EXISTS purge_after timestamptz NOT NULL DEFAULT '-infinity';
-- The row is a tombstone: its record has moved to that key.
ALTER TABLE {name} ADD COLUMN IF NOT EXISTS moved_to bytea;
ALTER TABLE {name} SET (fillfactor = 80);
CREATE INDEX IF NOT EXISTS "{short}_owner" ON {name} (owner) WHERE owner IS NOT NULL;
CREATE INDEX IF NOT EXISTS "{short}_purge_after" ON {name} (purge_after);
DROP INDEX IF EXISTS {index_name(name, "expires_at")};
"""


# Any number that other programs are unlikely to lock: the letters "sessions".
_SCHEMA_LOCK = int.from_bytes(b"sessions")


def locked_schema_sql(table: str) -> str:
    """Return `schema_sql` as one statement, for several processes that start at the same time.

    IF NOT EXISTS does not make two connections wait for each other: one of them would fail
    with a duplicate in the system catalogue.
    """
    return f"DO $$ BEGIN PERFORM pg_advisory_xact_lock({_SCHEMA_LOCK});\n{schema_sql(table)}END $$"
