"""What goes over the wire: how many round trips, on how many connections, and which commands."""

import asyncio
import threading
from collections.abc import Awaitable, Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from servers.redis_server import Server
from tests.storage.redis_rig import client_of, storage_at, storage_on, walk
from tests.storage.rigs import made, record_at, version_of
from tests.tcp_proxy import Proxy, proxy_to

from sessioncore import SessionConfig, SessionStore
from sessioncore.storage import Moved, Stored
from sessioncore.storage.redis import RedisStorage
from sessioncore.storage.redis.client import _cluster_map

pytestmark = [pytest.mark.anyio, pytest.mark.redis, pytest.mark.usefixtures("emptied")]

T = TypeVar("T")


class Counted:
    """How many packets a block of calls took."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._before = proxy.trips

    def __call__(self) -> int:
        before, self._before = self._before, self._proxy.trips
        return self._before - before


async def test_each_call_is_one_round_trip(server: Server) -> None:
    async def one_trip(call: Awaitable[T]) -> T:
        answer = await call
        assert trips() == 1
        return answer

    async with proxy_to(server.port) as proxy, storage_at(proxy.port) as storage:
        await walk(storage)  # connects, and loads the scripts into the server
        trips = Counted(proxy)
        await one_trip(storage.load("missing"))
        at = await one_trip(made(storage, "k", b"x" * 1024, owner="u"))
        assert isinstance(await one_trip(storage.load("k")), Stored)
        assert isinstance(await one_trip(storage.load("k", renew=500)), Stored)
        at = version_of(await one_trip(storage.replace("k", b"y" * 1024, 1000, version=at, owner="w")))
        assert isinstance(await one_trip(storage.replace("k", b"z", 1000, version=at + 1)), Stored)
        version_of(await one_trip(storage.move("k", "new", b"y", 1000, version=at, owner="w")))
        assert await one_trip(storage.touch("new", 1000))
        stored = await one_trip(record_at(storage, "new"))
        at = version_of(await one_trip(storage.move("new", "newer", b"z", 1000, version=stored.version, tombstone=9)))
        version_of(await one_trip(storage.move("newer", "newest", b"z", 1000, version=at, owner="w", tombstone=9)))
        for renew in (None, 500):
            assert await one_trip(storage.load("new", renew=renew)) == Moved("newer")
        assert await one_trip(storage.owned_keys("w")) == ["newest"]
        assert await one_trip(storage.delete("new", "k")) == 1
        assert proxy.connections == 1


@pytest.mark.proves("AT-108")
async def test_sixty_four_loads_share_a_few_round_trips(server: Server) -> None:
    async with proxy_to(server.port) as proxy, storage_at(proxy.port) as storage:
        for number in range(64):
            await made(storage, f"k{number}", b"%d" % number)
        trips = Counted(proxy)
        loaded = await asyncio.gather(*(storage.load(f"k{number}") for number in range(64)))
        assert trips() <= 8
        assert [stored.data for stored in loaded if isinstance(stored, Stored)] == [b"%d" % n for n in range(64)]


@pytest.mark.proves("AT-108")
async def test_five_hundred_callers_wait_their_turn_on_one_connection(server: Server) -> None:
    patient = timedelta(seconds=60)  # long, because a busy machine may need some seconds
    async with proxy_to(server.port) as proxy, storage_at(proxy.port, timeout=patient) as storage:
        # The connection is not open yet: these calls open it.
        loaded = await asyncio.gather(*(storage.load(f"k{number}") for number in range(500)))
        assert loaded == [None] * 500
        made_ = await asyncio.gather(*(storage.create(f"k{number}", b"x" * 5000, 10) for number in range(5000)))
        assert None not in made_
        assert proxy.most_open == 1


@contextmanager
def overheard(server: Server) -> Generator[list[str]]:
    """The commands that clients send to the server during the block; the list is complete after it."""
    said: list[str] = []
    listening = threading.Event()

    def listen() -> None:
        import redis  # noqa: PLC0415 - the blocking client, in its own thread

        client: Any = redis.Redis(port=server.port)
        with client, client.monitor() as monitor:
            listening.set()
            for command in monitor.listen():
                said.append(str(command["command"]))
                if "ECHO over" in said[-1]:
                    return

    ear = threading.Thread(target=listen)
    ear.start()
    listening.wait(5)
    yield said
    server.do("ECHO", "over")
    ear.join(5)


@pytest.mark.proves("P6", "AT-136")
async def test_redis_is_never_told_an_id(server: Server) -> None:
    """So no ID can be in MONITOR, in a snapshot, in an append-only file or on a replica."""
    with overheard(server) as said:
        async with SessionStore(SessionConfig(storage=RedisStorage.from_url(server.url))) as store:
            session = await store.create({"k": "v"}, owner="u")
            ids, handle = [session.id], session.handle
            async with store.open(ids[0]) as again:
                again["k"] = "w"
                await again.login("u")
                ids.append(again.id)
            assert await store.sessions_of("u")
            assert await store.delete(ids[0])  # follows the tombstone to the session's new key
    assert f"session:{handle}" in "".join(said)
    assert not [line for line in said if any(sid in line for sid in ids)]


@pytest.mark.proves("AT-55", "AT-56")
async def test_neither_keys_nor_flush_nor_a_scan_beyond_the_prefix_is_sent(server: Server) -> None:
    with overheard(server) as said:
        async with storage_at(server.port) as storage:
            await walk(storage)
    words = {line.split(" ", 1)[0].upper() for line in said}
    assert {"EVALSHA", "SET", "SCAN"} <= words
    assert not words & {"KEYS", "FLUSHDB", "FLUSHALL"}
    scans = [line for line in said if line.startswith("SCAN ")]
    assert all("MATCH walk:*" in line or "MATCH *:sessioncore-index" in line for line in scans)


@pytest.mark.proves("AT-119")
async def test_clearing_and_purging_go_in_bounded_batches(server: Server) -> None:
    async with proxy_to(server.port) as proxy, storage_at(proxy.port) as storage, client_of(server.port) as raw:
        await asyncio.gather(*(storage.create(f"app:{number}", b"", 100) for number in range(3000)))
        await raw.set("app:hash", "a foreign value", ex=100)
        await raw.hset("app:other", "field", "a foreign key of another type")
        trips = Counted(proxy)
        assert await storage.clear("app:") == 3000
        assert trips() >= 6
        assert await raw.get("app:hash") == b"a foreign value"
        assert await raw.exists("app:other")
        # Entries of records that have ended, as an eviction leaves them.
        await raw.zadd("app:u:sessioncore-index", {f"app:{number}": 1 + number for number in range(1200)})
        assert await storage.purge_expired() == 1200
        assert not await raw.exists("app:u:sessioncore-index")


async def test_the_map_of_a_cluster_is_fetched_once(nodes: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cluster_map, "_PAUSE", 0.0)
    for node in nodes:
        node.do("CONFIG", "RESETSTAT")
    async with storage_on(nodes) as storage:
        for number in range(20):
            await storage.load(f"k{number}")
    told = [node.do("INFO", "commandstats") for node in nodes]
    assert sum(each["calls"] for stats in told for name, each in stats.items() if "cluster" in name) == 1
