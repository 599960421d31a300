"""A value that this storage did not write is never a session, is never overwritten, and is reported."""

from typing import Any

import pytest
from redis.asyncio import RedisCluster
from servers.redis_server import Server
from tests.storage.redis_rig import Own, client_of, made, storage_at

from sessioncore import EventKind, SessionConfig, SessionEvent, SessionNotFound, SessionStore
from sessioncore._errors import StorageError
from sessioncore.storage import Stored, Unreadable
from sessioncore.storage.redis import RedisStorage

pytestmark = [pytest.mark.anyio, pytest.mark.redis, pytest.mark.usefixtures("emptied")]

GARBAGE = (b"x", b"S\x01short", b"S\x02" + bytes(40), b"a text of some length that is not ours")


@pytest.mark.proves("AT-58")
@pytest.mark.parametrize("life", [(), ("EX", 700)], ids=["for ever", "for a while"])
@pytest.mark.parametrize("value", [b"", *GARBAGE])
async def test_a_foreign_value_is_unreadable_and_stays(server: Server, value: bytes, life: tuple[Any, ...]) -> None:
    async with storage_at(server.port) as storage:
        server.do("SET", "k", value, *life)
        for renew in (None, 500.0, None):
            assert await storage.load("k", renew=renew) == Unreadable()
        assert await storage.replace("k", b"new", 10, version=0) == Unreadable()
        assert await storage.move("k", "k2", b"new", 10, version=0) == Unreadable()
        assert await storage.load("k2") is None
        at = await made(storage, "k3")
        with pytest.raises(StorageError, match="taken"):
            await storage.move("k3", "k", b"new", 10, version=at)
        assert await storage.create("k", b"new", 10) is None
        assert await storage.touch("k", 10) is False
        assert await storage.delete("k", "k3") == 1
        assert (server.do("GET", "k"), server.do("TTL", "k") > 600) == (value, bool(life))


@pytest.mark.proves("AT-63")
@pytest.mark.parametrize("renew", [None, 500.0])
async def test_a_key_of_another_type_is_unreadable_and_stays(server: Server, renew: float | None) -> None:
    server.do("RPUSH", "k", "an", "item")
    async with storage_at(server.port) as storage:
        assert await storage.load("k", renew=renew) == Unreadable()
        assert await storage.replace("k", b"new", 10, version=0, owner="u") == Unreadable()
        assert await storage.move("k", "k2", b"new", 10, version=0, owner="u") == Unreadable()
        assert await storage.load("k2") is None
        assert server.do("LRANGE", "k", 0, -1) == [b"an", b"item"]
        assert server.do("TTL", "k") == -1


async def test_a_record_without_an_expiry_is_unreadable_and_stays(server: Server) -> None:
    async with storage_at(server.port) as storage:
        at = await made(storage, "k", b"data")
        server.do("PERSIST", "k")
        before = server.do("GET", "k")
        for renew in (None, 500.0):
            assert await storage.load("k", renew=renew) == Unreadable()
        for version in (0, at + 1, at):
            assert await storage.replace("k", b"new", 10, version=version) == Unreadable()
            assert await storage.move("k", "k2", b"new", 10, version=version) == Unreadable()
        assert await storage.create("k", b"new", 10) is None
        assert (server.do("GET", "k"), server.do("TTL", "k")) == (before, -1)
        assert await storage.load("k2") is None
        assert await storage.delete("k") == 1


async def test_an_index_of_another_type_ends_no_session(server: Server) -> None:
    async with storage_at(server.port) as storage:
        at = await made(storage, "k", b"data", owner="u")
        server.do("SET", "u:sessioncore-index", "foreign")
        stored = await storage.load("k", renew=500)
        assert isinstance(stored, Stored)
        assert (stored.data, stored.version) == (b"data", at)


async def test_a_client_with_its_own_commands_does_the_same(server: Server) -> None:
    client = client_of(server.port, Own)
    storage = RedisStorage(client)
    server.do("RPUSH", "k", "item")
    assert await storage.load("k") == Unreadable()
    assert await storage.load("k", renew=500) == Unreadable()
    await storage.aclose()
    await client.aclose()


async def test_a_cluster_does_the_same(nodes: list[Server]) -> None:
    storage = RedisStorage.from_url(f"redis+cluster://127.0.0.1:{nodes[0].port}")
    client = client_of(nodes[0].port, RedisCluster)
    await client.set("garbage", b"x")
    await client.rpush("list", "item")
    at = await made(storage, "record")
    await client.persist("record")
    for key in ("garbage", "list"):
        for renew in (None, 500):
            assert await storage.load(key, renew=renew) == Unreadable()
        assert await storage.replace(key, b"new", 10, version=0, owner="u") == Unreadable()
        for new_key in ("b", "c", "d", f"{{{key}}}"):  # in other slots, and in the same one
            assert await storage.move(key, new_key, b"new", 10, version=0, owner="u") == Unreadable()
            assert await storage.load(new_key) is None
        assert await client.ttl(key) == -1
    assert await storage.load("record") == Unreadable()
    before = await client.get("record")
    assert await storage.replace("record", b"new", 10, version=at) == Unreadable()
    for new_key in ("b", "c", "d", "{record}"):
        assert await storage.move("record", new_key, b"new", 10, version=at) == Unreadable()
        assert await client.exists(new_key) == 0
    assert (await client.get("record"), await client.ttl("record")) == (before, -1)
    await storage.aclose()
    await client.aclose()


@pytest.mark.proves("AT-58", "AT-63")
async def test_a_store_tells_corrupt_and_gives_no_session(server: Server) -> None:
    events: list[SessionEvent] = []
    storage = RedisStorage.from_url(server.url)
    config = SessionConfig(storage=storage, on_event=events.append)
    async with SessionStore(config) as store:
        session = await store.create({"a": 1})
        assert session.id is not None
        [key] = server.do("KEYS", "session:*")
        for spoil in (("PERSIST", key), ("SET", key, "garbage"), ("DEL", key), ("LPUSH", key, "x")):
            server.do(*spoil)
            events.clear()
            with pytest.raises(SessionNotFound):
                await store.get_by_id(session.id)
            kinds = [event.kind for event in events]
            assert kinds == [EventKind.UNKNOWN if spoil[0] == "DEL" else EventKind.CORRUPT], spoil
        assert server.do("TYPE", key) == b"list"
