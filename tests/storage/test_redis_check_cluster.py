"""`check` on a cluster: each master is probed, at most twelve trips each, and the one at fault is named."""

from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from itertools import islice
from typing import Any

import pytest
from redis.asyncio import RedisCluster
from servers.redis_server import Server
from tests.storage.rigs import record_at
from tests.storage.test_redis_acl import rules
from tests.storage.test_redis_failover import keys_on
from tests.tcp_proxy import Proxy, proxy_to

from sessioncore import SessionConfig, SessionStore, StorageError, StorageUnavailable
from sessioncore.storage import WritesRefused
from sessioncore.storage.redis import RedisStorage
from sessioncore.storage.redis.records._format import MARK

pytestmark = [pytest.mark.anyio, pytest.mark.redis]
ON_CLUSTERS = "+cluster|slots", "+command", "+asking"
PATIENCE = timedelta(minutes=1)  # a probe of three masters on a busy machine


@pytest.fixture
def masters(nodes: list[Server]) -> Generator[list[Server]]:
    for node in nodes:
        node.do("ACL", "SETUSER", "web", "reset", *rules(), *ON_CLUSTERS, ">word")
    yield nodes
    for node in nodes:
        node.do("CONFIG", "SET", "maxmemory", 0)
        node.do("CONFIG", "SET", "min-replicas-to-write", 0)


@asynccontextmanager
async def store_at(nodes: list[Server], prefix: str = "session:") -> AsyncGenerator[SessionStore]:
    storage = RedisStorage.from_url(f"redis+cluster://web:word@127.0.0.1:{nodes[0].port}")
    yield SessionStore(SessionConfig(storage=storage, key_prefix=prefix, storage_timeout=PATIENCE))
    await storage.aclose()


def writes_of(node: Server) -> int:
    stats: dict[str, Any] = node.do("INFO", "commandstats")
    return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("set", "zadd", "unlink"))


@pytest.mark.parametrize(("prefix", "probed"), [("session:", 3), ("session:{shop}:", 1)], ids=["each", "of a hash tag"])
async def test_each_master_that_keys_may_be_on_is_probed_and_nothing_is_left(
    masters: list[Server], prefix: str, probed: int
) -> None:
    async with store_at(masters, prefix) as store:
        before = [writes_of(node) for node in masters]
        await store.check()
        writes = [writes_of(node) - then for node, then in zip(masters, before, strict=True)]
        assert (sum(number >= 3 for number in writes), sum(number > 0 for number in writes)) == (probed, probed)
    assert [key for node in masters for key in node.do("KEYS", "*")] == []


@asynccontextmanager
async def proxied(nodes: list[Server]) -> AsyncGenerator[tuple[SessionStore, list[Proxy]]]:
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(proxy_to(node.port)) for node in nodes]
        ports = {node.port: proxy.port for node, proxy in zip(nodes, proxies, strict=True)}
        client: Any = RedisCluster(
            host="127.0.0.1",
            port=nodes[0].port,
            address_remap=lambda address: (address[0], ports.get(address[1], address[1])),
        )
        storage = RedisStorage(client)
        yield SessionStore(SessionConfig(storage=storage, storage_timeout=PATIENCE)), proxies
        await storage.aclose()
        await client.aclose()


async def test_a_probe_takes_at_most_twelve_trips(masters: list[Server]) -> None:
    async with proxied(masters) as (store, proxies):
        await store.check()  # connects, and loads the scripts into the servers
        before = [proxy.waits for proxy in proxies]
        await store.check()
        waits = [proxy.waits - then - 1 for proxy, then in zip(proxies, before, strict=True)]  # 1: PING
        assert max(waits) <= 12, waits


BROKEN: dict[str, tuple[tuple[str | int, ...], type[StorageError], str]] = {
    "a right": (("ACL", "SETUSER", "web", "-zadd"), StorageError, r"lacks the right \+zadd"),
    "its keys": (("ACL", "SETUSER", "web", "resetkeys", "~shop:*"), StorageError, "may not access a key"),
    "room": (("CONFIG", "SET", "maxmemory", 1), WritesRefused, "OOM"),
    "replicas": (("CONFIG", "SET", "min-replicas-to-write", 1), WritesRefused, "NOREPLICAS"),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_broken_master_is_named(masters: list[Server], broken: str, caplog: pytest.LogCaptureFixture) -> None:
    command, error, said = BROKEN[broken]
    for node in masters:
        node.do(*command)
        async with store_at(masters) as store:
            with pytest.raises(StorageError, match=rf"{said}.*\(at 127\.0\.0\.1:{node.port}\)$") as caught:
                await store.check()
            assert type(caught.value) is error or error is StorageError
            if error is WritesRefused:
                await store.start()
                assert f"(at 127.0.0.1:{node.port})" in caplog.text
        node.do("ACL", "SETUSER", "web", *rules())
        node.do("CONFIG", "SET", "maxmemory", 0)
        node.do("CONFIG", "SET", "min-replicas-to-write", 0)


async def test_a_master_that_is_set_up_wrong_counts_more_than_one_that_is_full(masters: list[Server]) -> None:
    masters[0].do("CONFIG", "SET", "maxmemory", 1)
    masters[2].do("ACL", "SETUSER", "web", "-zadd")
    async with store_at(masters) as store:
        with pytest.raises(StorageError, match=r"lacks the right \+zadd") as caught:
            await store.start()
        assert not isinstance(caught.value, StorageUnavailable)


@pytest.mark.parametrize("call", ["touch", "renew", "replace"])
async def test_a_move_whose_reply_was_lost_is_settled_by_the_next_call(masters: list[Server], call: str) -> None:
    async with proxied(masters) as (store, proxies):
        storage, old, new = store.storage, [*islice(keys_on(0), 2)], [*islice(keys_on(1), 2)]
        versions = [await storage.create(key, b"data", 900) or 0 for key in old]
        assert isinstance(await storage.move(old[0], new[0], b"data", 900, version=versions[0]), int)
        proxies[0].cut_after = 0  # cuts the reply to the call that decides
        with pytest.raises(StorageUnavailable):
            await storage.move(old[1], new[1], b"data", 900, version=versions[1])
        moved = await record_at(storage, new[1])
        if call == "touch":
            assert await storage.touch(new[1], 900)
        elif call == "renew":
            assert await storage.load(new[1], renew=900) is not None
        else:
            assert isinstance(await storage.replace(new[1], b"data", 900, version=moved.version), int)
        assert masters[1].do("PTTL", new[1]) > 60_000
        assert masters[1].do("GET", new[1])[:2] == MARK
