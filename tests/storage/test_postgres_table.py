"""The table: who makes it, its rights and indexes, and what happens if it lacks something."""

import asyncio
import logging
from datetime import timedelta

import pytest
from servers.postgres_server import PostgresServer
from tests.storage.postgres_rigs import connection, new_table, opened, table_of
from tests.storage.rigs import made, record_at

from sessioncore._errors import ConfigError, StorageError, StorageUnavailable
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.storage.postgres._sql import statements

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


BREAKS = {
    "REVOKE SELECT ON {table} FROM {role}": "42501.*permission denied.*the role needs SELECT",
    "REVOKE INSERT ON {table} FROM {role}": "42501.*permission denied.*the role needs SELECT, INSERT",
    "REVOKE UPDATE ON {table} FROM {role}": "42501.*permission denied.*the role needs SELECT, INSERT, UPDATE",
    "REVOKE DELETE ON {table} FROM {role}": "42501.*permission denied.*INSERT, UPDATE and DELETE",
    "ALTER TABLE {table} DROP COLUMN purge_after": r"42703.*does not exist.*lacks a column.*schema_sql\(\)",
    "ALTER TABLE {table} DROP CONSTRAINT {table}_pkey": r"42P10.*no unique.*lacks its primary key.*schema_sql\(\)",
    "ALTER TABLE {table} ALTER version TYPE date USING now()": r"42804.*\(\).*give PostgresStorage a table= of its own",
    "DROP TABLE {table}": r"42P01.*does not exist.*is missing.*schema_sql\(\)",
    "ALTER ROLE {role} SET search_path = pg_catalog": r"42P01.*does not exist.*is missing, or .*search_path.*USAGE",
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


@pytest.mark.parametrize(
    ("change", "words"),
    [("DROP INDEX {table}_owner", '"{table}_owner" is missing'), ("ALTER TABLE {table} SET UNLOGGED", "SET LOGGED")],
)
async def test_check_logs_what_weakens_a_promise(
    postgres: PostgresServer, change: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(postgres.dsn()) as storage, connection(postgres.dsn()) as plain:
        await plain.execute(change.format(table=table_of(storage)))
        await storage.check()
    assert [words.format(table=table_of(storage)) in record.getMessage() for record in caplog.records] == [True]


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


async def test_a_key_that_is_no_text_is_not_listed(postgres: PostgresServer) -> None:
    async with opened(postgres.dsn()) as storage, connection(postgres.dsn()) as plain:
        await made(storage, "a", b"x", 100, owner="u")
        columns = "owner, version, expires_at, data"
        await plain.execute(
            f"INSERT INTO {table_of(storage)} (key, {columns}) SELECT '\\x61ff', {columns} FROM {table_of(storage)}"
        )
        assert await storage.owned_keys("u") == ["a"]
        assert [keys async for keys in storage.scan("a")] == [["a"]]


async def test_the_error_names_row_level_security_without_a_policy(postgres: PostgresServer) -> None:
    table = new_table()
    async with connection(postgres.dsn()) as plain:
        await plain.execute(f"{PostgresStorage.schema_sql(table)}; ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        await plain.execute(f"CREATE ROLE r_{table} LOGIN; GRANT ALL ON {table} TO r_{table}")
    dsn = f"postgresql://r_{table}@127.0.0.1:{postgres.port}/postgres"
    async with opened(dsn, table=table, create_table=False) as storage:
        with pytest.raises(StorageError, match=r"42501.*give the role a policy"):
            await storage.create("k", b"data", 10)


OPEN = "CREATE POLICY everything ON {table} FOR ALL USING (true)"
HIDING = {
    OPEN: False,
    "; ".join(f"CREATE POLICY for_{verb} ON {{table}} FOR {verb} {how} (true)" for verb, how in (
        ("SELECT", "USING"), ("UPDATE", "USING"), ("DELETE", "USING"), ("INSERT", "WITH CHECK"),
    )): False,
    "CREATE POLICY old ON {table} FOR ALL USING (expires_at < '2020-01-01') WITH CHECK (true)": True,
    "CREATE POLICY reads ON {table} FOR SELECT USING (true)": True,  # no delete finds a row
    OPEN.replace("USING", "TO pg_monitor USING"): True,
    f"{OPEN}; CREATE POLICY few ON {{table}} AS RESTRICTIVE FOR ALL USING (owner IS NULL)": True,
    f"{OPEN}; CREATE POLICY few ON {{table}} AS RESTRICTIVE FOR ALL TO pg_monitor USING (owner IS NULL)": False,
    f"{OPEN}; CREATE POLICY few ON {{table}} AS RESTRICTIVE FOR INSERT WITH CHECK (owner IS NULL)": False,  # an error
}  # fmt: skip


@pytest.mark.proves("P7")
@pytest.mark.parametrize(("policies", "hides"), HIDING.items(), ids=[*HIDING])
async def test_check_logs_that_a_policy_can_hide_sessions(
    postgres: PostgresServer, policies: str, hides: bool, caplog: pytest.LogCaptureFixture
) -> None:
    table = new_table()
    role = f"r_{table}"
    async with connection(postgres.dsn()) as plain:
        await plain.execute(
            f"{PostgresStorage.schema_sql(table)}; CREATE ROLE {role} LOGIN; GRANT ALL ON {table} TO {role}"
        )
        await plain.execute(policies.format(table=table))
        dsn = f"postgresql://{role}@127.0.0.1:{postgres.port}/postgres"
        async with opened(dsn, table=table, create_table=False) as storage:
            await storage.check()
            assert not caplog.records  # its policies are not in force
            await storage.create("k", b"data", 10)
            await plain.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
            await storage.check()
            assert ["policy can hide" in record.getMessage() for record in caplog.records] == [True] * hides
            held = await storage.load("k"), await storage.touch("k", 10), await storage.delete("k")
            assert hides or all(held)


async def test_the_error_of_a_role_that_may_not_change_the_table_says_what_to_do(postgres: PostgresServer) -> None:
    table = new_table()
    async with connection(postgres.dsn()) as plain:
        await plain.execute(PostgresStorage.schema_sql(table))
        await plain.execute(f"ALTER TABLE {table} DROP COLUMN purge_after; CREATE ROLE r_{table} LOGIN")
        await plain.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO r_{table}")
    storage = PostgresStorage(f"postgresql://r_{table}@127.0.0.1:{postgres.port}/postgres", table=table)
    with pytest.raises(StorageError, match=r"only the table's owner.*schema_sql\(\)"):
        await storage.open()
    await storage.aclose()


async def test_a_migration_may_make_the_table_and_the_role_need_not(postgres: PostgresServer) -> None:
    table = new_table()
    async with connection(postgres.dsn()) as plain:
        await plain.execute("CREATE ROLE modest LOGIN")
    dsn = f"postgresql://modest@127.0.0.1:{postgres.port}/postgres"
    refused = PostgresStorage(dsn, table=table)
    with pytest.raises(StorageError, match="CREATE on the schema"):
        await refused.open()
    await refused.aclose()
    async with connection(postgres.dsn()) as plain:
        await plain.execute(PostgresStorage.schema_sql(table))
        await plain.execute(PostgresStorage.schema_sql(table))
        await plain.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO modest")
    for create_table in (True, False):
        async with opened(dsn, table=table, create_table=create_table) as storage:
            await storage.migrate()
            assert await storage.create(f"a{create_table}", b"x", 100) is not None
            assert await storage.clear("a") == 1


ANEW = "REVOKE ALL ON {0} FROM r_{0}; DROP ROLE r_{0}; CREATE ROLE r_{0} LOGIN; GRANT ALL ON {0} TO r_{0}"


@pytest.mark.parametrize(
    ("spoil", "mend"),
    [("ALTER ROLE r_{0} SET search_path = pg_catalog", "ALTER ROLE r_{0} RESET search_path"), ("SELECT", ANEW)],
    ids=["search_path", "role"],
)
async def test_what_is_mended_for_new_connections_is_mended_for_those_of_the_pool(
    postgres: PostgresServer, spoil: str, mend: str
) -> None:
    table = new_table()
    dsn = f"postgresql://r_{table}@127.0.0.1:{postgres.port}/postgres"
    async with connection(postgres.dsn()) as plain:
        await plain.execute(f"{PostgresStorage.schema_sql(table)}; CREATE ROLE r_{table} LOGIN")
        await plain.execute(f"GRANT ALL ON {table} TO r_{table}; {spoil.format(table)}")
        async with opened(dsn, table=table, create_table=False) as storage:
            await plain.execute(mend.format(table))
            with pytest.raises(StorageError):
                await storage.load("a")
            assert await storage.load("a") is None


async def test_a_migration_takes_as_long_as_it_needs(postgres: PostgresServer) -> None:
    """An index on a large table takes minutes. Here another client locks the table."""
    async with (
        opened(postgres.dsn(), timeout=timedelta(seconds=0.5)) as storage,
        connection(postgres.dsn()) as plain,
    ):
        await plain.execute(f"DROP INDEX {table_of(storage)}_owner")
        async with plain.transaction():
            await plain.execute(f"LOCK TABLE {table_of(storage)}")
            migrating = asyncio.create_task(storage.migrate())
            with pytest.raises(StorageUnavailable, match=r"within 0\.5 s.*`sessioncore migrate`"):
                await PostgresStorage(postgres.dsn(), table=table_of(storage), timeout=timedelta(seconds=0.5)).open()
            assert not migrating.done()
        await migrating
        await storage.check()


async def test_a_table_may_stand_in_a_schema(postgres: PostgresServer) -> None:
    async with connection(postgres.dsn()) as plain:
        await plain.execute('CREATE SCHEMA IF NOT EXISTS "Web"')
    async with opened(postgres.dsn(), table="Web.Sessions", create_table=False) as storage:
        await storage.migrate()
        await storage.create("a", b"x", 100, owner="u")
        assert await storage.owned_keys("u") == ["a"]


@pytest.mark.parametrize("table", ["", "a;b", "a.b.c", 'a"b', "1a", "a b", "x" * 51, ".a", "a.", "é"])
def test_a_table_name_that_is_no_identifier_is_refused(table: str) -> None:
    with pytest.raises(ConfigError, match=r"schema\.name"):
        PostgresStorage("postgresql://localhost", table=table)
    with pytest.raises(ConfigError):
        PostgresStorage.schema_sql(table)


async def test_renewals_and_writes_touch_no_index_and_stay_on_their_page(postgres: PostgresServer) -> None:
    """PostgreSQL calls such an update HOT. An open snapshot keeps former versions, so each page needs room for them."""
    table, rows, each = new_table(), 400, 20
    async with connection(postgres.dsn()) as plain:
        async with opened(postgres.dsn(), table=table) as storage:
            for number in range(rows):
                await storage.create(f"{number}", b"x" * 300, 100, owner=f"{number}")
            async with plain.transaction(isolation="repeatable_read"):
                assert await plain.fetchval(f"SELECT count(*) FROM {table}") == rows
                for number in range(0, rows, each):
                    stored = await record_at(storage, f"{number}", renew=200)
                    await storage.replace(f"{number}", b"y" * 300, 300, version=stored.version, owner=f"{number}")
        # A connection reports its statistics when it is closed, at the latest.
        sql = f"SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = '{table}'"
        updated = hot = 0
        while updated < 2 * rows // each:
            updated, hot = await plain.fetchrow(sql)
    assert hot == updated


async def test_a_record_is_purged_at_its_end_however_often_that_was_moved(postgres: PostgresServer) -> None:
    async with connection(postgres.dsn()) as plain, opened(postgres.dsn()) as storage:
        earlier = ", ".join(f"{column} = {column} - interval '20 s'" for column in ("expires_at", "purge_after"))
        longer = await made(storage, "longer", b"x", 10)
        shorter = await made(storage, "shorter", b"x", 100)
        await storage.create("touched", b"x", 100)
        await storage.replace("longer", b"x", 100, version=longer)
        await storage.replace("shorter", b"x", 10, version=shorter)
        await storage.touch("touched", 10)
        await plain.execute(f"UPDATE {table_of(storage)} SET {earlier}")
        assert await storage.purge_expired() == 2
        # The purge puts live records off; otherwise they would be the first ones of each later batch.
        assert await plain.fetchval(f"SELECT count(*) FROM {table_of(storage)} WHERE purge_after <= now()") == 0
        assert await storage.load("longer", renew=10) is not None
        await plain.execute(f"UPDATE {table_of(storage)} SET {earlier}")
        assert await storage.purge_expired() == 1


async def test_the_planner_uses_the_indexes(postgres: PostgresServer) -> None:
    async with opened(postgres.dsn()) as storage, connection(postgres.dsn()) as plain:
        table = table_of(storage)
        await plain.execute(
            f"INSERT INTO {table} SELECT ('a:' || n)::bytea, ('u' || n / 5)::bytea, n,"
            f" now() + interval '1 h' * (n % 100), 'x' FROM generate_series(1, 20000) AS n; ANALYZE {table}"
        )
        sql = statements(table)
        for name, values in {
            "load": "'a:1'",
            "load_many": "ARRAY['a:1', 'a:2']::bytea[]",
            "renew": "'a:1', 100",
            "replace": "'a:1', 'x', 100, NULL, 1, 2",
            "move": "'a:1', 'x', 100, NULL, 1, 2, 'b:1'",
            "touch": "'a:1', 100",
            "move_with_tombstone": "'a:1', 'x', 100, NULL, 1, 2, 'b:1', 20",
            "delete": "ARRAY['a:1', 'a:2']::bytea[]",
            "owned_keys": "'u7'",
            "scan": "'a:1', 'a:2', 500",
            "held": "ARRAY['a:1', 'a:2']::bytea[]",
            "purge_batch": "10",
            "clear_batch": "'a:1', 'a:2', 10",
        }.items():
            await plain.execute(f"PREPARE {name} AS {getattr(sql, name)}; SET plan_cache_mode = force_generic_plan")
            plan = "\n".join(row[0] for row in await plain.fetch(f"EXPLAIN EXECUTE {name}({values})"))
            assert "Index" in plan, (name, plan)
            assert f"Seq Scan on {table}" not in plan, (name, plan)
        # Above a cost of 100,000 the server compiles a statement before it runs it.
        keys = [b"a:%d" % number for number in range(3000)]
        plan = await plain.fetchval(f"EXPLAIN {sql.delete}", keys)
        assert float(plan.split("..")[1].split(" ")[0]) < 100_000, plan
