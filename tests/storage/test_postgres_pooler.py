"""PostgreSQL behind a pooler: whichever server connection a call gets, its own statement runs, or none."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

import pytest
from servers.postgres_server import PostgresServer, pgbouncer, pgbouncer_prepares
from tests.forks import forking
from tests.storage.postgres_rigs import connection, driver, in_another_process, new_table, opened, proxied, table_of
from tests.storage.rigs import made, record_at, version_of

from sessioncore._errors import StorageError, StorageUnavailable
from sessioncore.storage import Stored
from sessioncore.storage.postgres import PostgresStorage

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@pytest.mark.parametrize(("mode", "pool_size"), [("transaction", 2), ("session", 40)])
async def test_two_processes_behind_a_pooler_run_each_its_own_statements(
    postgres: PostgresServer, mode: str, pool_size: int
) -> None:
    table = new_table()
    with pgbouncer(postgres, mode=mode, pool_size=pool_size) as dsn:
        async with opened(postgres.dsn(), table=table), connection(postgres.dsn()) as plain:
            with forking("tests.storage.history", "tests.storage.postgres_rigs"):
                answers = await asyncio.gather(
                    *(in_another_process("pooler_worker.py", "mix", order, dsn, table) for order in ("one", "two"))
                )
            left = f"SELECT convert_from(key, 'UTF8') || '=' || encode(data, 'hex') FROM {table} WHERE moved_to IS NULL"
            rows = await plain.fetch(left)
    assert sorted("".join(answers).splitlines()) == sorted(row[0] for row in rows)
    assert rows


async def test_the_error_has_the_message_of_a_pooler_that_ends_a_connection(postgres: PostgresServer) -> None:
    with pgbouncer(postgres, mode="statement") as dsn:
        storage = PostgresStorage(dsn, prepared_statements=False)
        with pytest.raises(StorageUnavailable, match=r"statement pooling mode; look at the .*pooler"):
            await storage.open()
        await storage.aclose()


@pytest.mark.parametrize("prepared", [False, True])
async def test_a_sync_ends_each_series_of_messages(postgres: PostgresServer, prepared: bool) -> None:
    """Odyssey waits for it: without one, it keeps the server connection, even after a COMMIT."""
    async with proxied(postgres, prepared_statements=prepared, max_connections=1) as (storage, proxy):
        proxy.copies = []
        await storage.create("a", b"x", 100)
        await storage.load("a")
    stream, kinds = b"".join(proxy.copies), ""
    while stream:
        kinds, stream = kinds + chr(stream[0]), stream[1 + int.from_bytes(stream[1:5]) :]
    assert kinds.count("BES") >= 2  # Bind, Execute, Sync
    assert "HQ" not in kinds  # a simple query, such as COMMIT, after a Flush


async def test_a_statement_has_the_same_name_in_every_process(postgres: PostgresServer) -> None:
    async with opened(postgres.dsn()) as storage:
        forwards, backwards = [
            await in_another_process("pooler_worker.py", "name", order, postgres.dsn(), table_of(storage))
            for order in ("forwards", "backwards")
        ]
    assert sorted(forwards.splitlines()) == sorted(backwards.splitlines())
    assert len(forwards.splitlines()) >= 6


async def test_a_statement_that_another_process_has_prepared_is_no_obstacle(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sessioncore.storage.postgres")
    table = new_table()
    with pgbouncer(postgres, pool_size=1) as dsn:
        async with opened(dsn, table=table) as one, opened(dsn, table=table) as other:
            assert await one.create("a", b"x", 100, owner="u") is not None
            assert await one.load("a") is not None
            for _ in range(2):
                assert await other.create("a", b"y", 100) is None
                assert (await record_at(other, "a")).data == b"x"
                assert await other.owned_keys("u") == ["a"]
    told = ["pooler" in record.message for record in caplog.records]
    assert told == ([] if pgbouncer_prepares() else [True])


async def test_a_connection_that_has_forgotten_its_statements_serves_on(postgres: PostgresServer) -> None:
    async def forget(connection: Any) -> None:
        await connection.execute("DISCARD ALL")

    async with (
        driver.create_pool(postgres.dsn(), min_size=1, max_size=1, reset=forget) as pool,
        opened(pool) as storage,
    ):
        at = await storage.create("a", b"x", 100)
        for _ in range(3):
            assert at is not None
            replaced = await storage.replace("a", b"x", 100, version=at)
            assert isinstance(replaced, int)
            at = replaced
        assert await storage.delete("a", "b") == 1


@pytest.mark.parametrize("prepared", [True, False])
async def test_a_connection_serves_on_when_a_column_has_got_another_type(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture, *, prepared: bool
) -> None:
    caplog.set_level(logging.INFO, "sessioncore")
    async with (
        opened(postgres.dsn(), max_connections=1, prepared_statements=prepared) as storage,
        connection(postgres.dsn()) as plain,
    ):
        alter = f"ALTER TABLE {table_of(storage)} ALTER"
        await plain.execute(f"CREATE DOMAIN {table_of(storage)}_blob AS bytea")
        at = await made(storage, "a", b"x", 100)
        for change in (
            f"data TYPE {table_of(storage)}_blob",
            "version TYPE numeric",
            "version TYPE text",
            "version TYPE bigint USING version::bigint",
        ):
            await plain.execute(f"{alter} {change}")
            with suppress(StorageError):  # the text is not accepted
                await storage.create("b", b"x", 100)
            with suppress(StorageUnavailable):  # without names, it is in the reply that the new type shows
                assert await storage.load("a") is not None
        assert version_of(await storage.replace("a", b"y", 100, version=at))
        assert await storage.create("c", b"x", 100)
    assert not caplog.records  # nothing of a pooler


async def test_a_given_pool_that_numbers_its_statements_is_none_of_ours(postgres: PostgresServer) -> None:
    """The pool has asyncpg's own statement cache, as it has by default; two such pools represent two processes."""
    table = new_table()
    with pgbouncer(postgres, pool_size=2) as dsn:
        async with (
            driver.create_pool(dsn, min_size=4, max_size=4) as one,
            driver.create_pool(dsn, min_size=4, max_size=4) as other,
            opened(one, table=table) as first,
            opened(other, table=table) as second,
        ):
            await asyncio.gather(
                *(use(first, f"1-{n}", 20) for n in range(4)), *(use(second, f"2-{n}", 20) for n in range(4))
            )


async def test_a_pooler_that_swaps_connections_mixes_up_no_unprepared_statements(postgres: PostgresServer) -> None:
    with pgbouncer(postgres, pool_size=1) as dsn:
        async with (
            opened(dsn, prepared_statements=False, max_connections=8) as one,
            opened(dsn, prepared_statements=False, max_connections=8) as other,
        ):
            await asyncio.gather(*(use(storage, f"{n}", 10) for storage in (one, other) for n in range(4)))


async def use(storage: PostgresStorage, key: str, turns: int) -> None:
    for turn in range(turns):
        at = await made(storage, key, b"x", 100, owner=key)
        moved = version_of(await storage.move(key, f"{key}:{turn}", b"y", 100, version=at, owner=key))
        assert await storage.load(f"{key}:{turn}", renew=100.0) == Stored(b"y", moved, 100.0)
        assert await storage.owned_keys(key) == [f"{key}:{turn}"]
        assert await storage.delete(f"{key}:{turn}", key) == 1
