"""A table or a role that lacks something: `check` names it, and what may be made anew is made anew."""

import logging

import pytest
from servers.postgres_server import PostgresServer
from tests.storage.postgres_rigs import connection, new_table, opened, table_of

from sessioncore._errors import StorageError, StorageUnavailable
from sessioncore.storage.postgres import PostgresStorage

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


BREAKS = {
    "REVOKE SELECT ON {table} FROM {role}": "42501.*permission denied.*the role needs SELECT",
    "REVOKE INSERT ON {table} FROM {role}": "42501.*permission denied.*the role needs SELECT, INSERT",
    "REVOKE UPDATE ON {table} FROM {role}": "42501.*permission denied.*the role needs SELECT, INSERT, UPDATE",
    "REVOKE DELETE ON {table} FROM {role}": "42501.*permission denied.*INSERT, UPDATE and DELETE",
    "ALTER TABLE {table} DROP COLUMN purge_after": r"42703.*does not exist.*lacks a column.*schema_sql\(\)",
    "ALTER TABLE {table} DROP CONSTRAINT {table}_pkey": r"42P10.*no unique.*lacks its primary key.*schema_sql\(\)",
    "DROP TABLE {table}": r"42P01.*does not exist.*is missing.*schema_sql\(\)",
    "ALTER ROLE {role} SET default_transaction_read_only = on": "25006.*cannot execute.*takes no writes.*primary",
}


@pytest.mark.parametrize(("change", "words"), BREAKS.items(), ids=[*BREAKS])
async def test_check_names_what_a_write_would_lack(postgres: PostgresServer, change: str, words: str) -> None:
    table = new_table()
    role = f"role_{table}"
    async with connection(postgres.dsn()) as plain:
        await plain.execute(PostgresStorage.schema_sql(table))
        await plain.execute(f"CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}")
        dsn = f"postgresql://{role}@127.0.0.1:{postgres.port}/postgres"
        async with opened(dsn, table=table, create_table=False) as storage:
            await storage.check()
        await plain.execute(change.format(table=table, role=role))
        async with opened(dsn, table=table, create_table=False) as storage:
            with pytest.raises(StorageError, match=words) as caught:
                await storage.check()
    assert isinstance(caught.value, StorageUnavailable) == words.startswith("25006")


async def test_check_logs_an_index_that_is_missing(postgres: PostgresServer, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(postgres.dsn()) as storage, connection(postgres.dsn()) as plain:
        await plain.execute(f"DROP INDEX {table_of(storage)}_owner")
        await storage.check()
    assert [f'"{table_of(storage)}_owner"' in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.parametrize("change", ["DROP TABLE {table}", "ALTER TABLE {table} DROP COLUMN purge_after"])
async def test_a_table_that_was_dropped_or_restored_from_long_ago_is_made_anew(
    postgres: PostgresServer, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "sessioncore")
    async with opened(postgres.dsn()) as storage, connection(postgres.dsn()) as plain:
        await storage.create("before", b"x", 100, owner="u")
        await plain.execute(change.format(table=table_of(storage)))
        assert await storage.create("a", b"x", 100, owner="u") is not None
        assert "a" in await storage.owned_keys("u")
        assert (await storage.load("before") is None) == change.startswith("DROP TABLE")
        await storage.check()
    assert ["made anew" in record.message for record in caplog.records] == [True]


async def test_a_role_that_may_not_change_the_table_is_told_what_to_do(postgres: PostgresServer) -> None:
    table = new_table()
    async with connection(postgres.dsn()) as plain:
        await plain.execute(PostgresStorage.schema_sql(table))
        await plain.execute(f"ALTER TABLE {table} DROP COLUMN purge_after; CREATE ROLE r_{table} LOGIN")
        await plain.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO r_{table}")
    storage = PostgresStorage(f"postgresql://r_{table}@127.0.0.1:{postgres.port}/postgres", table=table)
    with pytest.raises(StorageError, match=r"only the table's owner.*schema_sql\(\)"):
        await storage.open()
    await storage.aclose()
