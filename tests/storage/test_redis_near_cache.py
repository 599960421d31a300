"""The near cache of RedisStorage on real servers: what it answers by itself, what it costs, and what empties it."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs
from redis.asyncio import RedisCluster
from servers.redis_server import Server, one_server
from tests.storage.redis_rig import Own, client_of, storage_at
from tests.storage.rigs import made, version_of
from tests.tcp_proxy import proxy_to
from tests.turns import comes_true
from tests.views import PlainView, Visitor

from sessioncore import ConfigError, Done, SessionConfig, SessionStore, StorageUnavailable, Stored
from sessioncore.storage import LATER, Load, Moved
from sessioncore.storage.redis import NearCache, NearCacheStats, RedisStorage

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

STRICT = NearCache(max_stale=timedelta(0))
PATIENT = NearCache(max_stale=timedelta(seconds=60))
Change = Callable[[RedisStorage, int], Coroutine[Any, Any, object]]


def at_once(storage: RedisStorage, key: str) -> bytes | None:
    """The data that a load returns without waiting, or None if it has to wait."""
    assert storage.answer_now is not None
    for asks_the_server in (Load(key, uncached=True), Load(key, 900)):
        assert storage.answer_now(asks_the_server) is LATER
    reply = storage.answer_now(Load(key))
    return reply.data if isinstance(reply, Stored) else None


async def load(storage: RedisStorage, key: str) -> bytes | None:
    reply = await storage.load(key)
    return reply.data if isinstance(reply, Stored) else None


@asynccontextmanager
async def caching(server: Server, settings: NearCache = PATIENT) -> AsyncGenerator[tuple[RedisStorage, int]]:
    """A storage with "k" in its cache, and the version of that record."""
    server.do("FLUSHALL")
    async with storage_at(server.port, near_cache=settings) as storage:
        version = await made(storage, "k")
        assert await load(storage, "k") == b"data"
        yield storage, version


def commands(server: Server) -> dict[str, int]:
    """How often the server was sent each of some commands since the last call of this function."""
    told = server.do("INFO", "commandstats")
    server.do("CONFIG", "RESETSTAT")
    return {name: told[f"cmdstat_{name}"]["calls"] for name in ("get", "ping", "evalsha") if f"cmdstat_{name}" in told}


async def test_a_hit_sends_nothing_and_makes_no_coroutine(server: Server, emptied: None) -> None:
    async with storage_at(server.port, near_cache=PATIENT) as storage:
        store = SessionStore(SessionConfig(storage=storage))
        visitor = Visitor(store)
        async with visitor.request() as session:
            session["n"] = 1
        async with visitor.request() as session:
            assert session["n"] == 1
        commands(server)
        for _ in range(10):
            exchange = store.exchange(PlainView([f"{visitor.name}={visitor.sid}".encode()]))
            assert type(exchange.load()) is Done
            assert exchange.session["n"] == 1
            assert type(exchange.commit(200)) is Done
            await exchange.finish()
        sid = visitor.sid or ""
        assert (await store.get_by_id(sid))["n"] == 1
        assert isinstance(await storage.load(f"session:{(await store.get_by_id(sid)).handle}"), Stored)
        assert commands(server) == {}
        assert (storage.near_cache_stats().hits, storage.near_cache_stats().misses) == (13, 1)


async def test_one_ping_proves_all_that_is_in_the_cache(server: Server) -> None:
    async with caching(server, STRICT) as (storage, _):
        await made(storage, "other")
        await load(storage, "other")
        commands(server)
        for _ in range(3):
            assert at_once(storage, "k") is None
            assert await asyncio.gather(*[load(storage, key) for key in ["k", "other"] * 50]) == [b"data"] * 100
        assert commands(server) == {"ping": 3}


@pytest.mark.proves("AT-130")
async def test_a_proof_holds_for_max_stale_and_no_longer(server: Server) -> None:
    async with caching(server, NearCache(max_stale=timedelta(seconds=0.2))) as (storage, _):
        read = asked = time.monotonic()
        while at_once(storage, "k") is not None:
            assert asked < read + 0.2
            asked = time.monotonic()
        commands(server)
        asked = time.monotonic()
        assert await load(storage, "k") == b"data"
        assert at_once(storage, "k") == b"data" or time.monotonic() >= asked + 0.2
        assert commands(server) == {"ping": 1}


CHANGES: dict[str, Change] = {
    "replace": lambda storage, version: storage.replace("k", b"new", 900, version=version),
    "lost replace": lambda storage, _: storage.replace("k", b"new", 900, version=1),
    "move": lambda storage, version: storage.move("k", "to", b"new", 900, version=version),
    "move to": lambda storage, version: storage.move("k", "to", b"new", 900, version=version, tombstone=60),
    "touch": lambda storage, _: storage.touch("k", 900),
    "renew": lambda storage, _: storage.load("k", renew=900),
    "delete": lambda storage, _: storage.delete("other", "k"),
    "clear": lambda storage, _: storage.clear("k"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_own_changes_are_seen_at_once(server: Server, change: str) -> None:
    async with caching(server) as (storage, version), storage_at(server.port) as other:
        calling = asyncio.ensure_future(CHANGES[change](storage, version))
        await asyncio.sleep(0)
        assert at_once(storage, "k") is None or change == "clear"  # which has to find the keys first
        answer = await calling
        assert change != "renew" or about(answer) == about(await other.load("k"))
        assert at_once(storage, "k") is None
        for key in ("k", "to"):
            assert about(await storage.load(key)) == about(await other.load(key))


@pytest.mark.proves("AT-125")
@pytest.mark.parametrize("change", CHANGES)
async def test_changes_by_others_are_seen_by_a_load(server: Server, change: str) -> None:
    async with caching(server, STRICT) as (storage, version), storage_at(server.port) as other:
        await CHANGES[change](other, version)
        assert about(await storage.load("k")) == about(await other.load("k"))
        assert about((await storage.load_many(["k"]))[0]) == about(await other.load("k"))


def about(reply: Any) -> Any:
    """A reply without the last digits of its ttl."""
    return structs.replace(reply, ttl=round(reply.ttl, -1)) if isinstance(reply, Stored) else reply


async def test_an_end_is_seen_under_a_key_that_it_did_not_name(server: Server) -> None:
    async with caching(server) as (storage, version):
        version_of(await storage.move("k", "new", b"data", 900, version=version, tombstone=60))
        assert await load(storage, "new") == b"data" == at_once(storage, "new")
        await storage.delete("k")
        assert at_once(storage, "new") is None
        assert await storage.load("new") is None


@pytest.mark.proves("AT-128")
async def test_what_is_no_live_record_is_not_kept(server: Server) -> None:
    async with caching(server) as (storage, version):
        version_of(await storage.move("k", "new", b"data", 900, version=version, tombstone=60))
        server.do("SET", "foreign", "x")
        await made(storage, "short", ttl=0.05)
        for key in ("absent", "k", "foreign", "short"):
            await storage.load(key)
        await asyncio.sleep(0.06)
        assert [at_once(storage, key) for key in ("absent", "k", "foreign", "short")] == [None] * 4
        assert await storage.load("k") == Moved("new")
        assert await storage.load("short") is None


@pytest.mark.proves("AT-125")
async def test_what_decides_asks_the_server(server: Server, emptied: None) -> None:
    async with storage_at(server.port, near_cache=PATIENT) as storage, storage_at(server.port) as elsewhere:
        store, other = SessionStore(SessionConfig(storage=storage)), SessionStore(SessionConfig(storage=elsewhere))
        visitor = Visitor(store)
        async with visitor.request() as session:
            await session.login("ada")
        async with visitor.request() as session, other.open(visitor.sid or "") as same:
            handle = session.handle
            same["n"] = 2
            await same.save()
            await session.reload()
            assert session["n"] == 2
            commands(server)
            await session.reload()
            assert commands(server) == {"get": 1}
        async with visitor.request():
            pass
        async with other.open(visitor.sid or "") as same:
            same.bind_owner("bob")
        assert handle is not None
        assert await store.sessions_of("ada") == []
        await store.get_by_id(visitor.sid or "")
        commands(server)
        assert not await store.revoke(handle, owner="ada")
        assert commands(server) == {"get": 1}
        assert await store.revoke(handle, owner="bob")


LOSSES: dict[str, Callable[[Server], object]] = {
    "CLIENT KILL": lambda server: server.do("CLIENT", "KILL", "TYPE", "normal"),
    "FLUSHALL": lambda server: server.do("FLUSHALL"),
    "kill -9": lambda server: server.kill(),
}


@pytest.mark.proves("AT-126")
@pytest.mark.parametrize("loss", LOSSES)
async def test_a_loss_empties_it(loss: str) -> None:
    with one_server() as server:
        async with caching(server) as (storage, _):
            LOSSES[loss](server)
            await comes_true(lambda: at_once(storage, "k") is None)
            assert storage.near_cache_stats().bytes == 0


async def test_a_server_that_takes_no_writes_any_more_empties_it() -> None:
    with one_server() as server:
        async with caching(server) as (storage, _):
            await made(storage, "other")
            server.do("REPLICAOF", "127.0.0.1", "1")
            with pytest.raises(StorageUnavailable):
                await storage.touch("other", 900)
            assert at_once(storage, "k") is None


@pytest.mark.proves("AT-126", "AT-130")
async def test_a_fresh_connection_beside_a_silent_one_empties_it(server: Server) -> None:
    server.do("FLUSHALL")
    seconds = timedelta(seconds=2)
    async with (
        proxy_to(server.port) as proxy,
        storage_at(proxy.port, near_cache=NearCache(max_stale=seconds / 4), timeout=seconds) as storage,
        storage_at(server.port) as other,
    ):
        version = await made(storage, "k")
        await load(storage, "k")
        proxy.half_open = proxy.connections
        version_of(await other.replace("k", b"new", 900, version=version))
        assert at_once(storage, "k") == b"data"
        await comes_true(lambda: at_once(storage, "k") is None)
        assert await load(storage, "k") == b"new"
        assert at_once(storage, "k") in {None, b"new"}
        assert proxy.connections == 2


async def test_it_is_off_by_default_and_refused_on_a_cluster(server: Server) -> None:
    async with storage_at(server.port) as storage:
        assert storage.answer_now is None
        await made(storage, "plain")
        commands(server)
        assert await load(storage, "plain") == b"data" == await load(storage, "plain")
        assert commands(server) == {"get": 2}
        assert storage.near_cache_stats() == NearCacheStats()
    with pytest.raises(ConfigError, match="cluster"):
        RedisStorage(RedisCluster(host="127.0.0.1", port=1), near_cache=PATIENT)
    with pytest.raises(ConfigError, match="max_stale"):
        RedisStorage.from_url(server.url, near_cache=timedelta(seconds=1))  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


@pytest.mark.proves("AT-126")
async def test_nothing_is_cached_if_changes_are_not_reported(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.do("ACL", "SETUSER", "plain", "on", ">secret", "~*", "+@all", "-client")
    clients: list[Any] = [client_of(server.port, Own), client_of(server.port, username="plain", password="secret")]
    for number, client in enumerate(clients):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            storage = RedisStorage(client, near_cache=PATIENT)
            await made(storage, f"untold:{number}")
            for _ in range(3):
                assert await load(storage, f"untold:{number}") == b"data"
                assert at_once(storage, f"untold:{number}") is None if storage.answer_now else True
            assert storage.answer_now is None or storage.answer_now(Load("untold")) is LATER
        assert sum("near_cache" in record.message for record in caplog.records) == 1
        await storage.aclose()
        await client.aclose()


@pytest.mark.proves("AT-129")
async def test_what_a_request_does_to_a_value_that_was_cached_others_do_not_see(server: Server) -> None:
    async with storage_at(server.port, near_cache=PATIENT) as storage:
        store = SessionStore(SessionConfig(storage=storage))
        view = PlainView([f"__Host-session_id={(await store.create({'items': ['a']})).id}".encode()])
        await store.get(view)
        first, second = await store.get(view), await store.get(view)
        first["items"].append("not saved")
        assert second["items"] == (await store.get(view))["items"] == ["a"]
        assert storage.near_cache_stats().hits == 3
