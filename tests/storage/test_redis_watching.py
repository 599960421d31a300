"""Every change of a watched record is reported before a confirmation returns, even if the connection is lost.

A loss may be reported at any time. So these tests require only that it is reported, and that keys which are
watched again afterwards are reported again.
"""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.crc import key_slot
from servers.redis_server import Server, one_server, pair, watched_pair
from tests.numbers import scaled
from tests.storage.redis_rig import Own, client_of, storage_at, storage_on
from tests.storage.rigs import answered, made
from tests.storage.test_redis_acl import rules
from tests.storage.test_redis_failover import begin_moving, id_of, keys_on
from tests.tcp_proxy import Proxy, proxy_to

from sessioncore._errors import StorageUnavailable, WritesRefused
from sessioncore.storage import Stored
from sessioncore.storage.redis import RedisStorage

pytestmark = [pytest.mark.anyio, pytest.mark.redis]
SHORT = timedelta(seconds=2)  # long enough that a busy machine does not look like a loss


class Reports:
    """What a storage has reported."""

    def __init__(self, storage: RedisStorage) -> None:
        self.storage = storage
        self.keys: list[str] = []
        self._one = asyncio.Event()

    def changed(self, key: str) -> None:
        self.keys.append(key)
        self._one.set()

    async def watch(self, *keys: str) -> list[Any]:
        self.keys.clear()
        self._one.clear()
        return await self.storage.watch(keys, self.changed)

    async def confirmed(self) -> list[str]:
        await self.storage.confirm()
        return sorted(self.keys)

    async def one(self) -> None:
        await asyncio.wait_for(self._one.wait(), 10)

    async def assert_reported_again(self, change: Callable[[str], Awaitable[object]]) -> None:
        """Check after a loss that a key which is watched on the new connection is reported when it changes."""
        await answered(self.storage.check)
        await self.storage.delete("again")
        await made(self.storage, "again")
        await self.watch("again")
        assert await self.confirmed() == []
        await change("again")
        assert await self.confirmed() == ["again"]


# -- others' changes

Change = Callable[[RedisStorage, Any, str, int], Awaitable[object]]
CHANGES: dict[str, Change] = {
    "UNLINK": lambda _, raw, key, __: raw.unlink(key),
    "SET": lambda _, raw, key, __: raw.set(key, b"something else", px=1000),
    "PEXPIRE": lambda _, raw, key, __: raw.pexpire(key, 5000),
    "delete": lambda other, _, key, __: other.delete(key),
    "replace": lambda other, _, key, at: other.replace(key, b"new", 1000, version=at),
    "replace with an owner": lambda other, _, key, at: other.replace(key, b"new", 1000, version=at, owner="u"),
    "move": lambda other, _, key, at: other.move(key, f"to {key}", b"new", 1000, version=at),
    "move with a tombstone": lambda other, _, key, at: other.move(key, f"to {key}", b"", 1, version=at, tombstone=9),
}


@pytest.mark.parametrize("kind", [Redis, RedisCluster])
async def test_changes_by_another_client_are_reported_before_a_confirmation_returns(
    kind: Any, server: Server, nodes: list[Server]
) -> None:
    server.do("FLUSHALL")
    port = server.port if kind is Redis else nodes[0].port
    async with client_of(port, kind) as client, client_of(port, kind) as raw:
        storage, other = RedisStorage(client), RedisStorage(raw)
        over = asyncio.Event()

        async def load_on() -> None:
            while not over.is_set():
                await storage.load("other")

        async def change(key: str, change: Change, times: int) -> None:
            reports = Reports(storage)
            for number in range(times):
                name = f"{key} {number}"
                at = await made(other, name)
                [found] = await reports.watch(name)
                assert isinstance(found, Stored)
                assert found.version == at
                await change(other, raw, name, at)
                assert await reports.confirmed() == [name], f"{key}: change {number} was not reported"

        busy = [asyncio.ensure_future(load_on()) for _ in range(4)]
        times = scaled(8000) // len(CHANGES) // (1 if kind is Redis else 4)
        await asyncio.gather(*(change(key, each, times) for key, each in CHANGES.items()))
        over.set()
        await asyncio.gather(*busy)
        await storage.aclose()
        await other.aclose()


# -- lost connections

Loss = Callable[[Server, Proxy, Reports], Awaitable[object]]


async def kill(server: Server, _: Proxy, __: Reports) -> None:
    server.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def flush(server: Server, _: Proxy, __: Reports) -> None:
    server.do("FLUSHALL")


async def restart(server: Server, _: Proxy, __: Reports) -> None:
    server.kill()
    await asyncio.to_thread(server.start)


async def stop(server: Server, _: Proxy, reports: Reports) -> None:
    server.signal(signal.SIGSTOP)
    try:
        with pytest.raises(StorageUnavailable):
            await reports.storage.confirm()
    finally:
        server.signal(signal.SIGCONT)


async def half_open(_: Server, proxy: Proxy, reports: Reports) -> None:
    proxy.half_open = proxy.connections
    with pytest.raises(StorageUnavailable):
        await reports.storage.confirm()


async def replace(_: Server, proxy: Proxy, reports: Reports) -> None:
    """The connection goes silent while a write waits, so it stays open when a fresh one takes over."""
    proxy.half_open = proxy.connections
    write = asyncio.ensure_future(reports.storage.create("lost", b"", 10))
    try:
        await reports.storage.load("other")
        assert not write.done()
        assert reports.keys, "the fresh connection reports all keys before it is used"
    finally:
        await asyncio.wait([write])
        assert isinstance(write.exception(), StorageUnavailable)


@pytest.mark.parametrize("loss", [kill, flush, restart, stop, half_open, replace])
async def test_after_a_lost_connection_every_key_is_reported_and_watched_anew(loss: Loss) -> None:
    with one_server() as server:
        async with proxy_to(server.port) as proxy, storage_at(proxy.port, timeout=SHORT) as storage:
            await made(storage, "a")
            reports = Reports(storage)
            await reports.watch("a", "b")
            await loss(server, proxy, reports)
            await reports.one()  # without a confirmation
            assert sorted(reports.keys) == ["a", "b"]
            async with client_of(server.port) as raw:
                await reports.assert_reported_again(raw.unlink)


async def test_what_a_read_that_was_repeated_found_is_watched_where_it_was_answered(server: Server) -> None:
    async with proxy_to(server.port) as proxy, storage_at(proxy.port, timeout=SHORT) as storage:
        await storage.delete("a")
        await made(storage, "a")
        reports = Reports(storage)
        await reports.watch("first")
        proxy.half_open = proxy.connections
        assert isinstance((await reports.watch("a"))[0], Stored)  # by another connection
        await reports.watch("a")
        server.do("UNLINK", "a")
        assert await reports.confirmed() == ["a"]


async def test_keys_that_the_server_forgets_are_reported() -> None:
    with one_server("--tracking-table-max-keys", "100") as server:
        async with storage_at(server.port) as storage:
            reports = Reports(storage)
            keys = [f"k{number}" for number in range(300)]
            await asyncio.gather(*(made(storage, key) for key in keys))
            await reports.watch(*keys)
            while len(await reports.confirmed()) < 200:  # noqa: ASYNC110 - it forgets some at a time
                await asyncio.sleep(0.01)
            assert len(set(reports.keys)) == len(reports.keys)
            for key in keys:
                server.do("UNLINK", key)
            assert await reports.confirmed() == sorted(keys)


async def test_a_key_that_is_often_reported_in_vain_is_not_tracked_until_the_next_confirmation(
    emptied: None, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A server whose tracking table is full reports keys as fast as they are read."""

    def tracked() -> int:
        return int(server.do("INFO", "stats")["tracking_total_keys"])

    async with storage_at(server.port) as storage:
        await made(storage, "a")
        reports = Reports(storage)
        for _ in range(2):
            await reports.watch("a")
            async with asyncio.timeout(20):
                while tracked():
                    server.do("PEXPIRE", "a", 100_000)
                    await reports.one()
                    await reports.watch("a")
            assert reports.keys == []
            server.do("UNLINK", "a")
            assert await reports.confirmed() == ["a"]
            await made(storage, "a")
        assert caplog.text.count("tracking-table-max-keys") == 1


async def test_a_replica_that_refuses_a_write_is_no_longer_believed() -> None:
    with pair() as (_, replica):
        async with storage_at(replica.port) as storage:
            reports = Reports(storage)
            await reports.watch("a")
            with pytest.raises(WritesRefused):
                await storage.create("b", b"", 10)
            assert reports.keys == ["a"]


async def test_after_a_failover_every_key_is_reported_and_watched_on_the_new_master() -> None:
    with watched_pair() as (master, replica, sentinels):
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        storage = RedisStorage.from_url(f"redis+sentinel://{places}/main/0")
        reports = Reports(storage)
        await reports.watch("a")
        master.kill()
        await reports.one()
        await answered(lambda: storage.create("probe", b"", 10), 15)
        async with client_of(replica.port) as raw:
            await reports.assert_reported_again(raw.unlink)
        await storage.aclose()


# -- what it costs


def stats(server: Server, name: str) -> int:
    command: dict[str, Any] = server.do("INFO", "commandstats").get(f"cmdstat_{name}", {})
    return int(command.get("calls", 0))


async def test_nothing_is_tracked_before_something_is_watched_and_confirmations_share_a_ping(server: Server) -> None:
    async with storage_at(server.port) as storage:
        await storage.open()
        server.do("FLUSHALL")
        await made(storage, "a")
        await storage.load("a")
        assert server.do("INFO", "clients")["tracking_clients"] == 0
        reports = Reports(storage)
        await reports.watch("a")
        assert server.do("INFO", "clients")["tracking_clients"] == 1
        await storage.load("other")
        server.do("SET", "other", "b")
        assert server.do("INFO", "stats")["tracking_total_keys"] == 1, "a plain load is not tracked"
        before, reads = stats(server, "ping"), stats(server, "get")
        await asyncio.gather(*(storage.confirm() for _ in range(50)))
        assert (stats(server, "ping") - before, stats(server, "get") - reads) == (1, 0)
        first = asyncio.ensure_future(storage.confirm())
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.gather(first, storage.confirm())
        assert stats(server, "ping") - before == 3, "a later confirmation must not share a PING that was sent before it"
        server.do("UNLINK", "a")
        await reports.one()  # without a confirmation


# -- servers that do not push


@asynccontextmanager
async def silent_storage(kind: str, server: Server) -> AsyncGenerator[RedisStorage]:
    if kind == "a client's own connections":
        async with client_of(server.port, Own) as client:
            yield RedisStorage(client)
    elif kind == "RESP2":
        async with storage_at(server.port, protocol=2) as storage:
            yield storage
    else:
        allowed = [rule for rule in rules() if rule != f"+client|{kind}"]
        server.do("ACL", "SETUSER", "web", "reset", *allowed, "~*", ">word")
        storage = RedisStorage.from_url(f"redis://web:word@127.0.0.1:{server.port}/0")
        yield storage
        await storage.aclose()


@pytest.mark.parametrize("kind", ["a client's own connections", "RESP2", "tracking", "caching"])
async def test_where_changes_are_not_pushed_a_confirmation_finds_them(
    kind: str, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.do("FLUSHALL")
    async with silent_storage(kind, server) as storage:
        for _ in range(2):
            await storage.open()
        [warned] = [text for record in caplog.records if "alive()" in (text := record.getMessage())]
        assert ("+client|tracking" in warned) is (kind in {"tracking", "caching"})
        assert ("protocol=3" in warned) is (kind == "RESP2")
        reports = Reports(storage)
        for _ in range(2):  # the second time the storage knows that the server does not push
            await storage.delete("a", "b", "c")
            await made(storage, "a")
            await made(storage, "b")
            found = await reports.watch("a", "b", "c")
            assert [type(each) for each in found] == [Stored, Stored, type(None)]
            assert await reports.confirmed() == []
            server.do("UNLINK", "a")
            server.do("PEXPIRE", "b", 100_000)
            await made(storage, "c")
            assert await reports.confirmed() == ["a", "c"]
            storage.unwatch("b", reports.changed)


# -- clusters


def give(keys: list[str], source: Server, target: Server, nodes: list[Server]) -> None:
    """Give the slots of these keys, which are empty, to another node."""
    for key in keys:
        begin_moving(key, source, target)
        for node in (target, source, *nodes):
            node.do("CLUSTER", "SETSLOT", key_slot(key.encode()), "NODE", id_of(target))


async def test_a_moved_slot_is_watched_on_its_new_master(nodes: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, three = nodes
    some = keys_on(0)
    key, other = next(some), next(some)
    monkeypatch.setattr("sessioncore.storage.redis.client._cluster_map._PAUSE", 0)
    async with storage_on(nodes) as storage, client_of(one.port, RedisCluster) as raw:
        await made(storage, key)
        reports = Reports(storage)
        await reports.watch(key)
        begin_moving(key, one, two)
        one.do("MIGRATE", "127.0.0.1", two.port, key, 0, 1000)
        assert await reports.confirmed() == [key]
        [found] = await reports.watch(key)  # by ASK
        assert isinstance(found, Stored)
        for node in (two, one, three):
            node.do("CLUSTER", "SETSLOT", key_slot(key.encode()), "NODE", id_of(two))
        two.do("UNLINK", key)
        assert await reports.confirmed() == [key]
        assert await reports.watch(key, other) == [None, None]
        assert await reports.confirmed() == []
        await raw.set(key, b"", px=100_000)
        assert await reports.confirmed() == [key]

        await reports.watch(key)
        two.do("UNLINK", key)
        assert await reports.confirmed() == [key]
        await reports.watch(key, other)
        give([other], one, two, nodes)
        give([key], two, one, nodes)
        await storage.load(key)  # it is redirected, so the storage learns of both moves
        assert sorted(reports.keys) == sorted([key, other])

        await reports.watch(key, other)
        monkeypatch.setattr("sessioncore.storage.redis.client._cluster_map._PAUSE", 1000)  # no new map so soon
        give([other], two, one, nodes)
        await storage.load(other)
        assert reports.keys == [other]


async def test_the_loss_of_a_node_is_reported_for_its_keys_only(nodes: list[Server]) -> None:
    here, there = next(keys_on(0)), next(keys_on(2))
    async with storage_on(nodes, socket_timeout=0.5) as storage:
        reports = Reports(storage)
        await reports.watch(here, there)
        nodes[2].do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await reports.one()
        assert reports.keys == [there]
        nodes[0].do("SET", here, "x", "PX", 1000)
        assert await reports.confirmed() == sorted([here, there])
        os.kill(nodes[2].pid, signal.SIGSTOP)
        try:
            await reports.watch(here)
            await storage.confirm()  # the stopped node has no watched key
        finally:
            os.kill(nodes[2].pid, signal.SIGCONT)
