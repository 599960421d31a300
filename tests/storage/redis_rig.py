"""What the tests of RedisStorage share."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
from redis.asyncio import Redis
from servers.redis_server import Server
from tests.storage.rigs import made, version_of

from sessioncore.storage.redis import RedisStorage
from sessioncore.storage.redis.records._format import MARK
from sessioncore.testing import Rig

SECOND = timedelta(seconds=1)


class Own(Redis):
    """An application's own client class, which replaces execute_command."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        inner: Any = super()
        return await inner.execute_command(*args, **options)


def rig_of(storage: RedisStorage, client: Any) -> Rig:
    """A rig on a real server, whose clock a test cannot move."""

    async def remaining(key: str) -> float | None:
        left: int = await client.pttl(key)
        is_record = left != -2 and await client.getrange(key, 0, 0) == MARK[:1]
        return left / 1000 if is_record else None

    async def make_unreadable(key: str) -> None:
        """Remove the expiry of `key`, or put a list there if it has none."""
        if not await client.persist(key):
            await client.delete(key)
            await client.rpush(key, "an item")

    return Rig(storage, 0.05, anyio.sleep, remaining, make_unreadable)


def client_of(port: int, kind: Any = Redis, **options: Any) -> Any:
    """An untyped client; it asks for RESP3, because redis-py's default protocol depends on its version."""
    return kind(host="127.0.0.1", port=port, **{"protocol": 3} | options)


async def walk(storage: RedisStorage) -> None:
    """Create, change and end a record, and make every other call once."""
    at = await made(storage, "walk:a", b"1", 100, owner="walk:u")
    assert await storage.load("walk:a", renew=50) is not None
    at = version_of(await storage.replace("walk:a", b"2", 100, version=at, owner="walk:u"))
    version_of(await storage.move("walk:a", "walk:b", b"3", 100, version=at, owner="walk:w"))
    assert await storage.touch("walk:b", 100)
    assert await storage.owned_keys("walk:w") == ["walk:b"]
    assert await storage.delete("walk:b") == 1
    assert await storage.clear("walk:") == 0
    await storage.purge_expired()
    await storage.check()


@asynccontextmanager
async def storage_at(port: int, scheme: str = "redis", **options: Any) -> AsyncGenerator[RedisStorage]:
    """A storage with a client of its own, closed at the end."""
    async with aclosing(RedisStorage.from_url(f"{scheme}://127.0.0.1:{port}", **options)) as storage:
        yield storage


def storage_on(servers: list[Server], **options: Any) -> AbstractAsyncContextManager[RedisStorage]:
    """A storage on one server, or on a cluster."""
    return storage_at(servers[0].port, "redis" if len(servers) == 1 else "redis+cluster", **options)
