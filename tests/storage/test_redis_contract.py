"""The storage contract on real servers: one server, a cluster of three, an application's client, a near cache."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from servers.redis_server import Server
from tests.storage.redis_rig import Own, client_of, rig_of, storage_on
from tests.storage.rigs import made

from sessioncore.storage import Watches
from sessioncore.storage.redis import NearCache, RedisStorage
from sessioncore.testing import STORAGE_CHECKS, Check

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

# How far behind a near cache may be.
STALE = {"strict cache": timedelta(0), "patient cache": timedelta(seconds=60)}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for all tests that share a client."""
    return "asyncio"


@pytest.fixture(scope="module", params=["one server", "cluster", "own client", *STALE])
async def client(request: pytest.FixtureRequest, server: Server, running_nodes: list[Server]) -> AsyncGenerator[Any]:
    kind: Any = {"cluster": RedisCluster, "own client": Own}.get(request.param, Redis)
    port = running_nodes[0].port if kind is RedisCluster else server.port
    async with client_of(port, kind) as client:
        yield client


@pytest.fixture(scope="module")
async def shared(client: Any) -> AsyncGenerator[RedisStorage]:
    async with aclosing(RedisStorage(client)) as storage:
        yield storage


@pytest.mark.proves("P2", "P3", "P4", "AT-64", "ASVS 15.4.2")
@pytest.mark.parametrize("check", STORAGE_CHECKS)
async def test_the_contract_holds(
    client: Any, shared: RedisStorage, check: Check, request: pytest.FixtureRequest
) -> None:
    kind = request.node.callspec.params["client"]
    request.getfixturevalue("nodes" if kind == "cluster" else "emptied")
    if kind not in STALE and Watches not in check.needs:
        await shared.open()  # some checks close it
        await check(rig_of(shared, client))
        return
    cache = NearCache(max_stale=STALE[kind]) if kind in STALE else None
    async with aclosing(RedisStorage(client, near_cache=cache)) as storage:  # which nobody else watches
        await storage.open()
        await check(rig_of(storage, client))


async def test_a_move_between_nodes_takes_longer_than_the_ttl_and_is_done(nodes: list[Server]) -> None:
    async with storage_on(nodes) as storage:

        async def move(number: int) -> object:
            version = await made(storage, f"old-{number}")
            return await storage.move(f"old-{number}", f"new-{number}", b"", 0.001, version=version)

        moved = await asyncio.gather(*[move(number) for number in range(300)])  # many, so that each takes long
        assert {type(version) for version in moved} == {int}
