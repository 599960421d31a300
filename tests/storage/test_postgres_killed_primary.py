"""A primary is killed, its standby promoted: nothing acknowledged is lost, after the first success no write fails.

`synchronous_standby_names` makes "acknowledged" mean "replicated", as the docs advise.
"""

import asyncio
import gc
from typing import Any

import pytest
from servers.postgres_server import postgres_server
from tests.numbers import FULL
from tests.storage.postgres_rigs import connection, new_table
from tests.storage.tcp_proxy import tcp_proxy
from tests.storage.test_postgres_failover import writing

from sessioncore.storage import Stored
from sessioncore.storage.postgres import PostgresStorage

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]
SELDOM = pytest.mark.skipif(not FULL, reason="two servers of its own: in full mode only")


@SELDOM
async def test_a_killed_primary_costs_errors_until_the_standby_is_promoted_and_nothing_else() -> None:
    logged: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    table = new_table()
    with (
        postgres_server(fsync="off") as primary,
        postgres_server(primary, standby=True, fsync="off") as standby,
    ):
        async with tcp_proxy(primary.port) as proxy, connection(primary.dsn()) as plain:
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
                begins = [len(writers.outcomes) for writers in all_writers]
                proxy.switch(standby.port)
                await asyncio.to_thread(standby.promote)
                await asyncio.gather(*(writers.until(True, 100) for writers in all_writers))
            for writers, begin in zip(all_writers, begins, strict=True):
                after = writers.outcomes[begin:]
                assert False not in after[after.index(True) :]
                loaded = [await writers.storage.load(key) for key in writers.acknowledged]
                assert all(isinstance(stored, Stored) for stored in loaded)
                await writers.storage.aclose()
    gc.collect()
    await asyncio.sleep(0)
    assert [context for context in logged if "never retrieved" in context["message"]] == []
