"""The storage contract on a real server: through redis-py's plain client, and over a fallback client."""

from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from redis.asyncio import Redis
from tests.redis_server import Server, one_server

from sessioncore.storage.redis import RedisStorage
from sessioncore.testing import STORAGE_CHECKS, Check, Rig

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with one_server() as server:
        yield server


def client_of(server: Server, kind: Any = Redis) -> Any:
    return kind(port=server.port)


def rig_of(storage: RedisStorage, client: Any) -> Rig:
    async def remaining(key: str) -> float | None:
        left: int = await client.pttl(key)
        return None if left == -2 else left / 1000

    return Rig(storage, 0.05, anyio.sleep, remaining)


def name_of(check: Check) -> str:
    return str(getattr(check, "__name__", check))


@pytest.mark.parametrize("check", STORAGE_CHECKS, ids=name_of)
async def test_the_contract_holds_on_one_server(check: Check, server: Server) -> None:
    async with client_of(server) as client:
        await client.flushall()
        storage = RedisStorage(client)
        await storage.open()
        try:
            await check(rig_of(storage, client))
        finally:
            await storage.aclose()


class Wrapped(Redis):
    """A client with a command of its own: it is called, not gone around."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        inner: Any = super()
        return await inner.execute_command(*args, **options)


@pytest.mark.parametrize("check", STORAGE_CHECKS, ids=name_of)
async def test_the_contract_holds_over_a_client_of_somebody_else(check: Check, server: Server) -> None:
    async with client_of(server, Wrapped) as client:
        await client.flushall()
        storage = RedisStorage(client)
        await storage.open()
        await check(rig_of(storage, client))
        await storage.aclose()
