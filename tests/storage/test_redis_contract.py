"""The storage contract on real servers: one, a cluster of three, and over a client that is not redis-py's."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from servers.redis_server import Server
from tests.storage.redis_rig import Own, client_of, made, rig_of

from sessioncore.storage.redis import RedisStorage
from sessioncore.testing import STORAGE_CHECKS, Check

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


@pytest.mark.proves("P2", "P3", "P4", "AT-64", "ASVS 15.4.2")
@pytest.mark.parametrize("check", STORAGE_CHECKS)
@pytest.mark.parametrize("kind", [Redis, RedisCluster, Own])
async def test_the_contract_holds(kind: Any, check: Check, server: Server, nodes: list[Server]) -> None:
    server.do("FLUSHALL")
    port = nodes[0].port if kind is RedisCluster else server.port
    async with client_of(port, kind) as client, aclosing(RedisStorage(client)) as storage:
        await storage.open()
        await check(rig_of(storage, client))


async def test_a_move_between_nodes_takes_longer_than_the_ttl_and_is_done(nodes: list[Server]) -> None:
    async with client_of(nodes[0].port, RedisCluster) as client:
        storage = RedisStorage(client)

        async def move(number: int) -> object:
            version = await made(storage, f"old-{number}")
            return await storage.move(f"old-{number}", f"new-{number}", b"", 0.001, version=version)

        moved = await asyncio.gather(*[move(number) for number in range(300)])  # many, so that each takes its time
        assert {type(version) for version in moved} == {int}
        await storage.aclose()
