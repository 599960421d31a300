"""Another server takes over: connections to the old one are not used again, and `check` says what is wrong."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import anyio
import pytest
from servers.postgres_server import PostgresServer, postgres_server
from tests.numbers import FULL
from tests.storage.postgres_rigs import (
    Writers,
    alter_system,
    connection,
    driver,
    new_table,
    opened,
    proxied,
    table_of,
    writing,
)
from tests.tcp_proxy import Proxy, proxy_to

from sessioncore._errors import StorageUnavailable
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.storage.postgres._connecting import hosts_of

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


async def stop_writes(primary: Any, standby: Any) -> None:
    """Make the primary read-only, and wait until the standby has all that it wrote."""
    await alter_system(primary, "default_transaction_read_only", "on")
    written = await primary.fetchval("SELECT pg_current_wal_lsn()")
    while await standby.fetchval("SELECT pg_last_wal_replay_lsn()") < written:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def take_over(all_writers: list[Writers], proxy: Proxy, standby: PostgresServer, times: int) -> None:
    """Promote the standby; after the first write that succeeds, none fails."""
    begins = [len(writers.outcomes) for writers in all_writers]
    proxy.switch(standby.port)
    await asyncio.to_thread(standby.promote)
    await asyncio.gather(*(writers.until(True, times) for writers in all_writers))
    for writers, begin in zip(all_writers, begins, strict=True):
        after = writers.outcomes[begin:]
        assert False not in after[after.index(True) :]


async def read_behind(standby: PostgresServer, table: str, primary: PostgresServer) -> None:
    """Nothing is read from a standby, which lags behind; once the way leads to the primary, that is found and read."""
    async with proxied(standby, table=table, create_table=False) as (storage, proxy):
        for read in (
                lambda: storage.load("a"), lambda: storage.load_many(["a"]), lambda: storage.owned_keys("u"),
                lambda: anext(storage.scan("a")), lambda: storage.watch(["a"], print), storage.confirm,
            ):  # fmt: skip
            with pytest.raises(StorageUnavailable, match="it is a standby"):
                await read()
        proxy.switch(primary.port)
        found: list[str] = []
        async with asyncio.timeout(20):
            while not found:
                with suppress(StorageUnavailable):  # it looks for another server once a second
                    found = await storage.owned_keys("u")


OTHERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE usename = 'tester' AND backend_type = 'client backend'"
    " AND pid <> pg_backend_pid()"
)


def test_a_host_that_takes_writes_is_chosen_among_several(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(dsn: str) -> list[tuple[Any, ...]]:
        return [tuple(host.values()) for host in hosts_of(dsn)]

    for dsn in ("postgresql://ada:a,b@one/shop", "postgresql:///?host=one", "postgresql://ada@[::1]/shop"):
        assert hosts_of(dsn) == [{}]
    two = [("one", 5432, "read-write"), ("two", 5433, "read-write")]
    for dsn in ("ada@one,two:5433/shop", "/shop?host=one,two&port=5432,5433", "/?host=one,two:5433"):
        assert told(f"postgresql://{dsn}") == two
    assert told("postgresql://[::1]:1,[::2],%2Ftmp:3/?target_session_attrs=any") == [
        ("::1", 1, "any"), ("::2", 5432, "any"), ("/tmp", 3, "any"),
    ]  # fmt: skip
    for dsn in ("a,b/?target_session_attrs=prefer-standby", "/?host=a,b&port=1,2,3", "a:x,b/"):
        assert hosts_of(f"postgresql://{dsn}") == [{}]
    monkeypatch.setenv("PGHOST", "one,two")
    monkeypatch.setenv("PGPORT", "5432,5433")
    assert told("postgresql://ada@/shop") == two
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "any")
    assert told("postgresql:///?host=/tmp,one") == [("/tmp", 5432, "any"), ("one", 5433, "any")]


async def test_a_host_that_is_off_is_passed_over(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers nothing, not even that it is off: so the next one is tried meanwhile, and later it is the first."""
    async with proxy_to(postgres.port) as proxy:
        dsn = f"postgresql://tester@127.0.0.1:{proxy.port},127.0.0.1:{postgres.port}/postgres"
        proxy.swallow = True
        async with opened(dsn, timeout=timedelta(seconds=5)) as storage:
            monkeypatch.setattr("sessioncore.storage._first_success._MOMENT", 60)
            await asyncio.gather(*(storage.load("a") for _ in range(5)))
            assert proxy.connections == 1


async def test_connections_that_went_silent_cost_few_calls(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the server's machine was replaced, or a firewall has forgotten them: new connections work."""
    monkeypatch.setattr("sessioncore.storage.postgres._driver._RELEASE_TIMEOUT", 0.1)
    async with proxied(postgres) as (storage, proxy):
        await asyncio.gather(*(storage.load("a") for _ in range(50)))
        assert proxy.connections == 10
        proxy.half_open = proxy.connections
        failed = -1
        with anyio.fail_after(30):
            answered = False
            while not answered:
                failed += 1
                with anyio.move_on_after(0.5):  # as the core cancels a call after `storage_timeout`
                    answered = await storage.load("a") is None
        assert failed < 5  # usually two


@pytest.fixture
async def primary(postgres: PostgresServer) -> AsyncGenerator[PostgresServer]:
    """The server of all tests, which is made to take writes again afterwards."""
    yield postgres
    async with connection(postgres.dsn()) as plain:
        await alter_system(plain, "default_transaction_read_only", "off")


async def test_after_a_switch_over_no_write_fails_once_a_new_connection_could_write(primary: PostgresServer) -> None:
    """The old primary stays up, read-only. The storages have several hosts, a proxy, and a given pool behind it."""
    table = new_table()
    with postgres_server(primary, standby=True, fsync="off") as standby:
        several = f"postgresql://tester@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres"
        async with proxy_to(primary.port) as proxy, connection(primary.dsn()) as old, connection(standby.dsn()) as new:
            proxied = f"postgresql://tester@127.0.0.1:{proxy.port}/postgres"
            async with driver.create_pool(proxied, min_size=10, max_size=10) as pool:
                storages = [PostgresStorage(source, table=table) for source in (several, proxied, pool)]
                async with writing(*storages) as all_writers:
                    await asyncio.gather(*(writers.until(True) for writers in all_writers))
                    assert await old.fetchval(OTHERS) >= 24
                    await stop_writes(old, new)
                    await asyncio.gather(*(writers.until(False) for writers in all_writers))
                    for storage in storages:
                        with pytest.raises(StorageUnavailable, match="takes no writes"):
                            await storage.check()
                    await read_behind(standby, table, primary)
                    await take_over(all_writers, proxy, standby, 100)
                # A connection that was idle meanwhile is replaced at its next use: so use all ten at the same time.
                await asyncio.gather(*(storage.load("a") for storage in storages for _ in range(10)))
                async with asyncio.timeout(20):
                    while await old.fetchval(OTHERS):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                for storage in storages:
                    await storage.check()
                    await storage.aclose()


async def test_a_connection_that_its_driver_aborted_gives_its_place_in_the_pool_back(postgres: PostgresServer) -> None:
    """asyncpg before 0.32 lost the place for ever, so 0.32 is the lowest version that is supported."""
    async with driver.create_pool(postgres.dsn(), min_size=0, max_size=1) as pool:
        lent = await pool.acquire()
        lent._con._protocol.abort()  # as it does when the server leaves while a statement is being cancelled
        await asyncio.sleep(0)
        await pool.release(lent)
        async with opened(pool) as storage, asyncio.timeout(20):
            assert await storage.create("a", b"x", 100) is not None


async def test_a_server_that_stays_read_only_is_asked_for_few_new_connections(postgres: PostgresServer) -> None:
    table = new_table()
    async with connection(postgres.dsn()) as plain:
        await plain.execute(PostgresStorage.schema_sql(table))
        read_only = "?default_transaction_read_only=on"
        async with proxied(postgres, query=read_only, table=table, create_table=False) as (storage, proxy):
            for writers in (1, 8):
                began, before = time.monotonic(), proxy.connections

                async def write() -> None:
                    for _ in range(100):
                        with pytest.raises(StorageUnavailable, match="takes no writes"):
                            await storage.create("a", b"x", 100)

                await asyncio.gather(*(write() for _ in range(writers)))
                # Once a second all connections are replaced, to look for a server that takes writes.
                assert proxy.connections - before <= 2 * writers * (2 + time.monotonic() - began)


async def test_a_connection_that_the_server_has_ended_is_lent_to_nobody_else(postgres: PostgresServer) -> None:
    """The storage learns of the end only by an error, because a proxy keeps its connection open."""
    async with (
        proxied(postgres, query="?application_name=ended", max_connections=1) as (storage, proxy),
        connection(postgres.dsn()) as plain,
    ):
        proxy.hides_ends = True
        await storage.create("a", b"x", 100)
        ours = "FROM pg_stat_activity WHERE application_name = 'ended'"
        async with plain.transaction():
            await plain.execute(f"SELECT FROM {table_of(storage)} WHERE key = 'a' FOR UPDATE")
            stuck = asyncio.create_task(storage.touch("a", 100))
            while not await plain.fetchval(f"SELECT count(*) {ours} AND wait_event_type = 'Lock'"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await plain.execute(f"SELECT pg_terminate_backend(pid) {ours}")
            with pytest.raises(StorageUnavailable):
                await stuck
            assert await storage.load("a") is not None


@pytest.mark.skipif(not FULL, reason="two servers of its own: in full mode only")
async def test_a_killed_primary_costs_errors_until_the_standby_is_promoted_and_nothing_else() -> None:
    """`synchronous_standby_names` makes "acknowledged" mean "replicated", as the docs advise."""
    logged: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    table = new_table()
    with postgres_server(fsync="off") as primary, postgres_server(primary, standby=True, fsync="off") as standby:
        async with proxy_to(primary.port) as proxy, connection(primary.dsn()) as plain:
            await plain.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            await plain.execute("SELECT pg_reload_conf()")
            while await plain.fetchval("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") != 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            several = f"postgresql://tester@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/postgres"
            proxied = f"postgresql://tester@127.0.0.1:{proxy.port}/postgres"
            storages = [PostgresStorage(source, table=table) for source in (several, proxied)]
            async with writing(*storages) as all_writers:
                await asyncio.gather(*(writers.until(True, 50) for writers in all_writers))
                await asyncio.to_thread(primary.kill)
                await asyncio.gather(*(writers.until(False, 16) for writers in all_writers))
                await take_over(all_writers, proxy, standby, 100)
            for writers in all_writers:
                await writers.assert_kept()
                await writers.storage.aclose()
    gc.collect()
    await asyncio.sleep(0)
    assert [context for context in logged if "never retrieved" in context["message"]] == []
