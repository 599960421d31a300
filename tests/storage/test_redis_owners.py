"""Owners on real servers: using a session mends a lost index, and thousands of sessions end in a few trips."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from servers.redis_server import Server
from tests.live.test_alive import regenerate, write
from tests.storage.redis_rig import client_of, storage_at
from tests.storage.rigs import made
from tests.tcp_proxy import proxy_to

from sessioncore import Session, SessionConfig, SessionStore
from sessioncore.storage.redis import RedisStorage

pytestmark = [pytest.mark.anyio, pytest.mark.redis, pytest.mark.usefixtures("emptied")]


async def read(session: Session) -> None:
    """Use a session without a change: its idle clock is due, so it is renewed."""
    await session.save()


@pytest.mark.parametrize("use", [read, write, regenerate])
async def test_a_lost_index_is_mended_by_the_sessions_own_next_use(
    use: Callable[[Session], Awaitable[None]], servers: list[Server]
) -> None:
    async with client_of(servers[0].port, RedisCluster if len(servers) > 1 else Redis) as client:
        store = SessionStore(SessionConfig(storage=RedisStorage(client)))
        async with store:
            session = await store.create({"n": 1}, owner="ada")
            assert session.id is not None
            await client.expire(f"session:{session.handle}", 600)  # as if it was used twenty minutes ago
            assert await client.delete("session:ada:sessioncore-index") == 1  # as an eviction does
            assert await store.revoke_all("ada") == 0
            await use(await store.get_by_id(session.id))
            assert await store.revoke_all("ada") == 1
            await store.reset()


async def test_an_index_keeps_no_entry_of_a_record_that_has_left_it(servers: list[Server]) -> None:
    async with client_of(servers[0].port, RedisCluster if len(servers) > 1 else Redis) as client:
        storage, indexes = RedisStorage(client), [f"{owner}:sessioncore-index" for owner in "uv"]
        version = await made(storage, "a", owner="u")
        writes: list[Any] = [partial(storage.move, "a"), storage.replace]
        for index, write in enumerate(writes):
            version = await write("b", b"", 100, version=version, owner="uv"[index])
            assert [await client.zrange(each, 0, -1) for each in indexes] == [[b"b"] * (n == index) for n in range(2)]
        await storage.aclose()


async def test_some_hundred_sessions_end_in_one_trip_and_concurrent_calls_share_trips(server: Server) -> None:
    async with proxy_to(server.port) as proxy, storage_at(proxy.port) as storage:
        keys = [f"k{number}" for number in range(3000)]
        await asyncio.gather(*(made(storage, key, owner="u") for key in keys))
        await storage.delete("none")
        batches = [keys[start : start + 300] for start in range(0, 3000, 300)]
        before = proxy.waits
        assert await storage.delete(*batches.pop()) == 300
        assert proxy.waits == before + 1
        assert await asyncio.gather(*(storage.delete(*some) for some in batches)) == [300] * 9
        assert proxy.waits <= before + 4
        assert await storage.owned_keys("u") == []


@pytest.mark.proves("AT-59", "AT-124")
async def test_more_sessions_of_one_owner_than_fit_in_a_batch_are_listed_and_healed(server: Server) -> None:
    async with storage_at(server.port) as storage:
        keys = [f"k{n}" for n in range(1234)]
        await asyncio.gather(*(storage.create(key, b"", 100, owner="u") for key in keys))
        server.do("DEL", *keys[:100])  # as an eviction does, which leaves the index unchanged
        server.do("RPUSH", keys[0], "of another program")
        assert sorted(await storage.owned_keys("u")) == sorted(keys[100:])
        assert server.do("ZCARD", "u:sessioncore-index") == 1134
        assert await storage.delete(*keys) == 1134
        assert server.do("EXISTS", "u:sessioncore-index") == 0
