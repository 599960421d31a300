"""`store.start()` and `check()` on real servers: what is logged, what stops the start, and what a check leaves."""

from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import pytest
from servers.postgres_server import PostgresServer
from servers.redis_server import Server, pair
from tests.storage.postgres_rigs import connection, new_table
from tests.storage.redis_rig import storage_at
from tests.tcp_proxy import proxy_to

from sessioncore import SessionConfig, SessionStore, Storage, StorageError, StorageUnavailable
from sessioncore.storage import PROBE_SUFFIX, WritesRefused
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.storage.redis import RedisStorage
from sessioncore.testing import FailingStorage

pytestmark = pytest.mark.anyio


def store_on(storage: Storage) -> SessionStore:
    return SessionStore(SessionConfig(storage=storage))


@asynccontextmanager
async def redis_store(server: Server, user: str = "", port: int | None = None) -> AsyncGenerator[SessionStore]:
    async with aclosing(RedisStorage.from_url(f"redis://{user}127.0.0.1:{port or server.port}/0")) as storage:
        yield store_on(storage)


@pytest.mark.redis
async def test_start_costs_at_most_twelve_trips_and_leaves_nothing(server: Server) -> None:
    server.do("FLUSHALL")
    server.do("SCRIPT", "FLUSH")
    async with proxy_to(server.port) as proxy, redis_store(server, port=proxy.port) as store:
        await store.start()
        first = proxy.trips - await trips_of_a_connection(server)
        assert first <= 12, "also with a server that knows no script yet"
        before = proxy.trips
        await store.start()
        assert proxy.trips - before <= 7
    assert server.do("DBSIZE") == 0


async def trips_of_a_connection(server: Server) -> int:
    """How many trips redis-py takes to connect: some of them depend on its version."""
    async with proxy_to(server.port) as proxy, storage_at(proxy.port) as storage:
        await storage.load("missing")
    return proxy.trips - 1


@pytest.mark.redis
async def test_a_replica_is_logged_and_the_start_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with pair() as (_, replica):
        async with redis_store(replica) as store:
            await store.start()
            assert "this server is a replica" in caplog.text
            with pytest.raises(WritesRefused, match="READONLY"):
                await store.check()


@pytest.mark.redis
@pytest.mark.parametrize(("setting", "said"), [("maxmemory", "OOM"), ("min-replicas-to-write", "NOREPLICAS")])
async def test_a_full_server_or_missing_replicas_are_logged(
    server: Server, caplog: pytest.LogCaptureFixture, setting: str, said: str
) -> None:
    server.do("CONFIG", "SET", setting, 1)
    try:
        async with redis_store(server) as store:
            await store.start()
            assert said in caplog.text
    finally:
        server.do("CONFIG", "SET", setting, 0)


@pytest.mark.redis
@pytest.mark.parametrize(
    ("keys", "lacks", "said"),
    [
        ("~session:*", "zadd", r"the ACL user lacks the right \+zadd\b"),
        ("~shop:*", "flushall", "the ACL user may not access a key"),
    ],
)
async def test_a_missing_right_stops_the_start(server: Server, keys: str, lacks: str, said: str) -> None:
    server.do("ACL", "SETUSER", "web", "reset", "on", ">word", keys, "+@all", f"-{lacks}")
    async with redis_store(server, "web:word@") as store:
        with pytest.raises(StorageError, match=said) as caught:
            await store.start()
        assert not isinstance(caught.value, StorageUnavailable)


@pytest.mark.redis
async def test_a_process_that_is_killed_in_the_middle_leaves_what_ends_within_a_minute(server: Server) -> None:
    server.do("FLUSHALL")
    for calls in range(1, 6):
        storage = RedisStorage.from_url(server.url)
        await _cut_after(storage, calls)
        await storage.aclose()
    keys: list[bytes] = server.do("KEYS", "*")
    assert len(keys) >= 8, "records and the indexes of their owners"
    assert all(PROBE_SUFFIX.encode() in key for key in keys)
    assert all(0 < server.do("PTTL", key) <= 60_000 for key in keys)


async def _cut_after(storage: Storage, calls: int) -> None:
    """Start a check, and cancel it after this many calls, as `kill -9` would end it."""

    class Cutting(FailingStorage):
        async def _through(self, name: str, call: Any) -> Any:
            result = await super()._through(name, call)
            if len(self.calls) > calls:
                scope.cancel()
                await anyio.sleep_forever()
            return result

    with anyio.CancelScope() as scope:
        await store_on(Cutting(storage)).check()
    assert scope.cancelled_caught


@pytest.mark.postgres
async def test_start_leaves_no_row(postgres: PostgresServer) -> None:
    table = new_table()
    async with store_on(PostgresStorage(postgres.dsn(), table=table)), connection(postgres.dsn()) as plain:
        assert await plain.fetchval(f"SELECT count(*) FROM {table}") == 0


@pytest.mark.postgres
@pytest.mark.parametrize("create_table", [True, False])
async def test_a_read_only_server_is_logged_and_the_start_goes_on(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture, create_table: bool
) -> None:
    table = new_table()
    if not create_table:
        async with connection(postgres.dsn()) as plain:
            await plain.execute(PostgresStorage.schema_sql(table))
    dsn = f"{postgres.dsn()}?default_transaction_read_only=on"
    async with store_on(PostgresStorage(dsn, table=table, create_table=create_table)) as store:
        assert "the server takes no writes: it is a standby" in caplog.text
        with pytest.raises(WritesRefused):
            await store.create({"n": 1})
        if not create_table:
            assert await store.sessions_of("ada") == [], "reads work"
