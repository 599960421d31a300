"""The storage contract on real servers: one, a cluster of three, and over a client that is not redis-py's."""

import asyncio

import pytest
from redis.asyncio import RedisCluster
from servers.redis_server import Server
from tests.storage.redis_rig import Own, client_of, made, rig_of

from sessioncore.storage.redis import RedisStorage
from sessioncore.testing import STORAGE_CHECKS, Check

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


def name_of(check: Check) -> str:
    return str(getattr(check, "__name__", check))


@pytest.mark.proves("P2", "P3", "P4", "ASVS 15.4.2")
@pytest.mark.parametrize("check", STORAGE_CHECKS, ids=name_of)
async def test_the_contract_holds_on_one_server(check: Check, server: Server) -> None:
    async with client_of(server.port) as client:
        await client.flushall()
        storage = RedisStorage(client)
        await storage.open()
        try:
            await check(rig_of(storage, client))
        finally:
            await storage.aclose()


@pytest.mark.proves("P2", "P3", "P4", "AT-64")
@pytest.mark.parametrize("check", STORAGE_CHECKS, ids=name_of)
async def test_the_contract_holds_on_a_cluster(check: Check, nodes: list[Server]) -> None:
    async with client_of(nodes[0].port, RedisCluster) as client:
        storage = RedisStorage(client)
        await storage.open()
        try:
            await check(rig_of(storage, client))
        finally:
            await storage.aclose()


async def test_a_move_between_nodes_takes_longer_than_the_ttl_and_is_done(nodes: list[Server]) -> None:
    async with client_of(nodes[0].port, RedisCluster) as client:
        storage = RedisStorage(client)

        async def move(number: int) -> object:
            version = await made(storage, f"old-{number}")
            return await storage.move(f"old-{number}", f"new-{number}", b"", 0.001, version=version)

        moved = await asyncio.gather(*[move(number) for number in range(300)])  # many, so that each takes its time
        assert {type(version) for version in moved} == {int}
        await storage.aclose()


@pytest.mark.parametrize("check", STORAGE_CHECKS, ids=name_of)
async def test_the_contract_holds_over_a_client_with_its_own_commands(check: Check, server: Server) -> None:
    async with client_of(server.port, Own) as client:
        await client.flushall()
        storage = RedisStorage(client)
        await storage.open()
        await check(rig_of(storage, client))
        await storage.aclose()
