"""A missing right, or an index of another type, on a cluster: a call that fails undoes what it can."""

from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from redis import RedisCluster
from redis.crc import key_slot
from servers.redis_server import Server
from tests.storage.rigs import made
from tests.storage.test_redis_acl import every_call, rules

from sessioncore._errors import StorageError
from sessioncore.storage.redis import RedisStorage

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

ADA = "session:owner:ada"
INDEX = f"{ADA}:sessioncore-index"
OLD, NEW = "session:old", "session:new"


@pytest.fixture
def admin(nodes: list[Server]) -> Generator[Any]:
    for node in nodes:
        node.do("ACL", "SETUSER", "web", "reset", *rules(), "+cluster|slots", "+command", "+asking", ">word")
    client: Any = RedisCluster(host="127.0.0.1", port=nodes[0].port)
    yield client
    client.close()


@pytest.fixture
async def storage(nodes: list[Server], admin: Any) -> AsyncGenerator[RedisStorage]:
    assert admin is not None
    storage = RedisStorage.from_url(f"redis+cluster://web:word@127.0.0.1:{nodes[0].port}")
    yield storage
    await storage.aclose()


async def test_a_cluster_needs_its_map_too(admin: Any, storage: RedisStorage) -> None:
    await every_call(storage, admin.execute_command)


@contextmanager
def without(nodes: list[Server], right: str) -> Generator[None]:
    for node in nodes:
        node.do("ACL", "SETUSER", "web", f"-{right}")
    yield
    for node in nodes:
        node.do("ACL", "SETUSER", "web", f"+{right}")


async def test_a_record_ends_though_its_index_cannot_be_written(
    nodes: list[Server], admin: Any, storage: RedisStorage
) -> None:
    await made(storage, OLD, owner=ADA)
    with without(nodes, "zrem"):
        assert await storage.delete(OLD) == 1
    assert await storage.owned_keys(ADA) == []
    await made(storage, OLD, owner=ADA)
    admin.delete(INDEX)
    admin.rpush(INDEX, "x")
    assert await storage.delete(OLD) == 1
    assert not admin.exists(OLD)


@pytest.mark.parametrize("spoiled", ["zadd", "time", "zremrangebyscore", "type"])
async def test_a_record_is_not_prolonged_or_changed_where_its_index_cannot_be(
    nodes: list[Server], admin: Any, storage: RedisStorage, spoiled: str
) -> None:
    at = await made(storage, OLD, ttl=500, owner=ADA)
    before, taken = admin.get(OLD), f"{NEW}-taken"
    await made(storage, taken)
    if spoiled == "type":
        admin.delete(INDEX)
        admin.set(INDEX, "x")
    with without(nodes, "select" if spoiled == "type" else spoiled):
        for call in (
            storage.touch(OLD, 900),
            storage.replace(OLD, b"new", 900, version=at, owner=ADA),
            storage.move(OLD, NEW, b"new", 900, version=at, owner=ADA),
            storage.move(OLD, taken, b"new", 900, version=at, owner=ADA),
            storage.create("session:another", b"new", 900, owner=ADA),
        ):
            with pytest.raises(StorageError):
                await call
        if spoiled == "type":
            assert await storage.load(OLD, renew=900) is not None
        else:
            with pytest.raises(StorageError):
                await storage.load(OLD, renew=900)
    assert admin.get(OLD) == before
    assert 490_000 < admin.pttl(OLD) <= 500_000
    assert admin.exists(taken) > admin.exists(NEW)
    assert not admin.exists("session:another")
    assert spoiled == "type" or await storage.owned_keys(ADA) == [OLD]


async def test_without_a_look_at_records_no_move_leaves_a_new_one_and_no_list_leaves_one_out(
    nodes: list[Server], admin: Any, storage: RedisStorage
) -> None:
    """Otherwise revoking all sessions of an owner would report success, and one of them would live on."""
    assert key_slot(OLD.encode()) != key_slot(NEW.encode())
    at = await made(storage, OLD, ttl=500, owner=ADA)
    before = admin.get(OLD)
    with without(nodes, "getrange"):
        with pytest.raises(StorageError, match="lacks the right"):
            await storage.move(OLD, NEW, b"new", 900, version=at, owner=ADA)
        with pytest.raises(StorageError, match="lacks the right"):
            await storage.owned_keys(ADA)
    assert admin.get(OLD) == before
    assert not admin.exists(NEW)
    assert await storage.owned_keys(ADA) == [OLD]
    admin.zadd(INDEX, {"session:list": 2**50})
    admin.rpush("session:list", "an item")
    assert await storage.owned_keys(ADA) == [OLD]


async def test_a_move_whose_old_record_has_ended_is_settled_whatever_is_refused(
    nodes: list[Server], admin: Any, storage: RedisStorage
) -> None:
    at = await made(storage, OLD, ttl=500)
    with without(nodes, "pexpire"):
        assert isinstance(await storage.move(OLD, NEW, b"new", 900, version=at), int)
    assert await storage.load(OLD) is None
    assert 890_000 < admin.pttl(NEW) <= 900_000
