"""A primary is killed, its standby promoted: nothing acknowledged is lost, after the first success no write fails.

`synchronous_standby_names` makes "acknowledged" mean "replicated", as the docs advise.
"""

import asyncio
import gc
import secrets
from collections.abc import Sequence
from typing import Any

import pytest
from servers.postgres_server import postgres_server
from tests.numbers import FULL
from tests.storage.postgres_rigs import connection, new_table
from tests.storage.tcp_proxy import tcp_proxy

from sessioncore._errors import StorageUnavailable
from sessioncore.storage import Stored
from sessioncore.storage.postgres import PostgresStorage

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]
SELDOM = pytest.mark.skipif(not FULL, reason="two servers of its own: in full mode only")


@pytest.fixture
def anyio_backend() -> str:
    """asyncpg knows asyncio only."""
    return "asyncio"


class Writers:
    """Eight visitors, who write as fast as they can; any error but StorageUnavailable ends the test."""

    def __init__(self, storage: PostgresStorage) -> None:
        self.storage = storage
        self.outcomes: list[bool] = []
        self.acknowledged: list[str] = []
        self.ended = False

    async def write(self) -> None:
        while not self.ended:
            key = secrets.token_hex()
            try:
                assert await self.storage.create(key, b"x", 1000) is not None
            except StorageUnavailable:
                self.outcomes.append(False)
                await asyncio.sleep(0.01)
            else:
                self.outcomes.append(True)
                self.acknowledged.append(key)


async def until(all_writers: Sequence[Writers], outcome: bool, times: int) -> None:
    """Wait until each storage has had so many outcomes of this kind more."""
    goals = [writers.outcomes.count(outcome) + times for writers in all_writers]
    async with asyncio.timeout(60):
        while any(w.outcomes.count(outcome) < goal for w, goal in zip(all_writers, goals, strict=True)):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


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
            all_writers = [Writers(PostgresStorage(source, table=table)) for source in (several, proxied)]
            async with asyncio.TaskGroup() as tasks:
                for writers in all_writers:
                    for _ in range(8):
                        tasks.create_task(writers.write())
                await until(all_writers, True, 50)
                await asyncio.to_thread(primary.kill)
                await until(all_writers, False, 16)
                begins = [len(writers.outcomes) for writers in all_writers]
                proxy.switch(standby.port)
                await asyncio.to_thread(standby.promote)
                await until(all_writers, True, 100)
                for writers in all_writers:
                    writers.ended = True
            for writers, begin in zip(all_writers, begins, strict=True):
                after = writers.outcomes[begin:]
                assert False not in after[after.index(True) :]
                loaded = [await writers.storage.load(key) for key in writers.acknowledged]
                assert all(isinstance(stored, Stored) for stored in loaded)
                await writers.storage.aclose()
    gc.collect()
    await asyncio.sleep(0)
    assert [context for context in logged if "never retrieved" in context["message"]] == []
