"""Sentinel and cluster: the contract with a failover in the middle, moving slots, and what a crash leaves."""

import asyncio
import signal
import time
from collections.abc import Generator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import RedisCluster, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from servers.redis_server import SentinelServer, Server, cluster, free_port, one_server, until, watched_pair
from tests.storage.redis_rig import SECOND, client_of, rig_of, storage_at, storage_on
from tests.storage.rigs import answered, made, record_at, version_of
from tests.tcp_proxy import proxy_to
from tests.turns import comes_true

from sessioncore import SessionConfig, SessionStore
from sessioncore._errors import StorageUnavailable, WritesRefused
from sessioncore.storage.redis import RedisStorage
from sessioncore.storage.redis.connection._pipelined import YOUNG
from sessioncore.testing import STORAGE_CHECKS, NotApplicable

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


def keys_on(node: int) -> Generator[str]:
    """Keys whose slot belongs to that node."""
    number = 0
    while True:
        key = f"key:{number}"
        if (0, 5461, 10923)[node] <= key_slot(key.encode()) < (5461, 10923, 16384)[node]:
            yield key
        number += 1


async def test_the_contract_holds_through_sentinel_with_a_failover_in_the_middle() -> None:
    with watched_pair() as (master, replica, sentinels):
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        async with aclosing(RedisStorage.from_url(f"redis+sentinel://{places}/main/0")) as storage:
            raw = client_of(master.port)
            half = len(STORAGE_CHECKS) // 2
            for number, check in enumerate(STORAGE_CHECKS):
                if number == half:
                    await storage.open()
                    await made(storage, "kept", b"kept", 1000)
                    assert master.do("WAIT", 1, 1000) == 1
                    await raw.aclose()
                    sentinels[0].signal(signal.SIGSTOP)  # as if it ran on the same machine
                    master.kill()
                    await answered(lambda: storage.create("probe", b"", 10), 15)
                    raw = client_of(replica.port)
                    assert (await record_at(storage, "kept")).data == b"kept"
                await raw.flushall()
                await storage.open()  # some checks close it
                with suppress(NotApplicable):
                    await check(rig_of(storage, raw))
            await raw.aclose()


@pytest.mark.proves("AT-61")
async def test_a_master_that_was_demoted_is_left_for_the_new_one() -> None:
    with watched_pair() as (master, replica, sentinels):
        sentinel_class: Any = Sentinel
        places = [("127.0.0.1", each.port) for each in sentinels]
        client = sentinel_class(places, sentinel_kwargs={"client_name": "asks"}).master_for("main")
        storage = RedisStorage(client)
        await made(storage, "before")
        once: dict[str, Any] = {"socket_timeout": 0.2, "retry": Retry(NoBackoff(), 0)}
        stopped = RedisStorage(sentinel_class(places[:1], sentinel_kwargs=once).master_for("main"), timeout=SECOND)
        sentinels[0].signal(signal.SIGSTOP)
        load = asyncio.ensure_future(stopped.load("none"))
        await asyncio.sleep(0.05)
        time.sleep(0.75)  # noqa: ASYNC251 - nothing runs, as when the process is stopped
        sentinels[0].signal(signal.SIGCONT)
        assert await load is None
        await stopped.aclose()
        sentinels[0].do("SENTINEL", "FAILOVER", "main")
        await asyncio.to_thread(until, lambda: replica.do("ROLE")[0] == b"master", 20)
        # Writes that the old master accepts before it is demoted are lost with it; no client can know this.
        master.do("REPLICAOF", "127.0.0.1", replica.port)  # as a sentinel does some seconds later
        # The storage is still connected to the old master. After one READONLY it connects to the new one.
        await answered(lambda: storage.create("probe", b"", 10), 15)
        assert replica.do("EXISTS", "probe") == 1
        assert master.port != replica.port
        await storage.aclose()
        await client.aclose()
        # No connection to a sentinel stays open: other event loops could not use it.
        assert "asks" not in [line["name"] for each in sentinels for line in each.do("CLIENT LIST")]


@pytest.mark.proves("AT-61")
@pytest.mark.parametrize("endpoints", ["ip", "unknown-endpoint"])
async def test_a_slot_that_moves_is_followed_under_load(nodes: list[Server], endpoints: str) -> None:
    with endpoints_of(nodes, endpoints):
        url = f"redis+cluster://127.0.0.2:{free_port()},127.0.0.2:{nodes[0].port}"  # the first node is down
        async with aclosing(RedisStorage.from_url(url, client_name="follower")) as storage:
            key = next(keys_on(0))
            await storage.delete(key)
            at = await made(storage, key, b"0", owner="u")
            done, turns = False, 0

            async def count() -> None:
                nonlocal turns
                version = at
                while not done:
                    assert (await record_at(storage, key, renew=100)).data == b"%d" % turns
                    turns += 1
                    version = version_of(await storage.replace(key, b"%d" % turns, 100, version=version, owner="u"))

            async def some_turns() -> None:
                goal = turns + 4
                await comes_true(lambda: turns >= goal or task.done())

            task = asyncio.create_task(count())
            for source, target in ((0, 1), (1, 2), (2, 0)):
                begin_moving(key, nodes[source], nodes[target])
                await some_turns()  # while the key is still at its source
                nodes[source].do("MIGRATE", "127.0.0.1", nodes[target].port, key, 0, 1000)
                await some_turns()  # by ASK
                for node in (nodes[target], nodes[source], *nodes):
                    node.do("CLUSTER", "SETSLOT", key_slot(key.encode()), "NODE", id_of(nodes[target]))
            done = True
            await task
            assert turns > 20
            if endpoints == "unknown-endpoint":  # the storage uses the host of the URL, with each node's port
                lines = [line for node in nodes for line in node.do("CLIENT LIST")]
                ours = [line["laddr"].partition(":")[0] for line in lines if line["name"] == "follower"]
                assert len(ours) >= 3
                assert {*ours} == {"127.0.0.2"}


async def test_a_silent_master_is_left_once_the_sentinels_name_another_one(server: Server, tmp_path: Path) -> None:
    with one_server() as old, ExitStack() as stack:
        sentinel = SentinelServer(tmp_path)
        stack.callback(sentinel.kill)
        sentinel.do("SENTINEL", "MONITOR", "main", "127.0.0.1", old.port, 1)
        old.signal(signal.SIGSTOP)  # as when its machine has stopped
        async with (
            proxy_to(sentinel.port) as proxy,
            aclosing(RedisStorage.from_url(f"redis+sentinel://127.0.0.1:{proxy.port}/main")) as storage,
        ):
            load = asyncio.ensure_future(storage.load("none"))
            await comes_true(lambda: proxy.connections == 1 and not proxy.open_now)
            sentinel.do("SENTINEL", "REMOVE", "main")
            sentinel.do("SENTINEL", "MONITOR", "main", "127.0.0.1", server.port, 1)
            assert await load is None


@contextmanager
def endpoints_of(nodes: list[Server], kind: str) -> Generator[None]:
    """Let the nodes redirect clients to each other by names of this kind."""
    if not nodes[0].do("CONFIG", "GET", "cluster-preferred-endpoint-type"):
        if kind != "ip":
            pytest.skip("before 7.0 servers redirect by address only")
        yield
        return
    for node in nodes:
        node.do("CONFIG", "SET", "cluster-preferred-endpoint-type", kind)
    yield
    for node in nodes:
        node.do("CONFIG", "SET", "cluster-preferred-endpoint-type", "ip")


def id_of(node: Server) -> str:
    return str(node.do("CLUSTER", "MYID").decode())


def begin_moving(key: str, source: Server, target: Server) -> None:
    slot = key_slot(key.encode())
    target.do("CLUSTER", "SETSLOT", slot, "IMPORTING", id_of(source))
    source.do("CLUSTER", "SETSLOT", slot, "MIGRATING", id_of(target))


async def test_a_slot_on_its_way_to_a_node_that_has_none_yet_is_followed(nodes: list[Server]) -> None:
    key = next(keys_on(1))
    with one_server("--cluster-enabled", "yes") as fresh:
        fresh.do("CLUSTER", "MEET", "127.0.0.1", nodes[1].port)

        def met() -> bool:
            seen = [line for node in nodes for line in node.do("CLUSTER NODES").values()]
            known = [line for line in seen if "handshake" not in line["flags"]]
            return len(known) == 4 * len(nodes) and fresh.do("CLUSTER INFO")["cluster_state"] == "ok"

        await asyncio.to_thread(until, met)
        async with storage_on(nodes) as storage:
            await storage.delete(key)
            at = await made(storage, key)
            begin_moving(key, nodes[1], fresh)
            nodes[1].do("MIGRATE", "127.0.0.1", fresh.port, key, 0, 1000)
            assert version_of(await storage.replace(key, b"new", 100, version=at)) != at
        gone = id_of(fresh)
    for node in nodes:
        node.do("CLUSTER", "FORGET", gone)
    nodes[1].do("CLUSTER", "SETSLOT", key_slot(key.encode()), "STABLE")


async def test_a_move_that_cannot_end_the_old_record_leaves_it_and_a_short_lived_new_one(nodes: list[Server]) -> None:
    old, new = next(keys_on(0)), next(keys_on(1))
    async with storage_at(nodes[1].port, "redis+cluster", socket_timeout=0.3) as storage:
        await storage.delete(old, new)
        at = await made(storage, old, b"before")
        nodes[0].do("CONFIG", "SET", "maxmemory", 1)
        try:
            with pytest.raises(StorageUnavailable, match="OOM"):
                await storage.move(old, new, b"after", 1000, version=at)
        finally:
            nodes[0].do("CONFIG", "SET", "maxmemory", 0)
        assert ((await record_at(storage, old)).data, await storage.load(new)) == (b"before", None)
        await storage.delete(new)
        nodes[0].signal(signal.SIGSTOP)
        try:
            with pytest.raises(StorageUnavailable):
                await storage.move(old, new, b"after", 1000, version=at)
        finally:
            nodes[0].signal(signal.SIGCONT)
        assert 0 < nodes[1].do("PTTL", new) <= 60_000


async def test_on_a_cluster_a_cancelled_move_is_whole(nodes: list[Server]) -> None:
    async with storage_on(nodes) as storage:
        olds, news = keys_on(0), keys_on(2)
        for turn in range(60):
            old, new = f"{next(olds)}:o", f"{next(news)}:n"
            await storage.delete(old, new)
            at = await made(storage, old, b"before", owner="u")
            task = asyncio.create_task(storage.move(old, new, b"after", 1000, version=at, owner="u"))
            for _ in range(turn % 12):
                await asyncio.sleep(0)
            task.cancel()
            while turn % 2 and not task.done():  # as impatient servers do
                await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task])
            left = [key for key in (old, new) if await storage.load(key) is not None]
            assert len(left) == 1
            assert sorted(await storage.owned_keys("u")) == left
            assert (await record_at(storage, left[0])).ttl > 900
            await storage.delete(*left)
        records: Any = storage._loops.here().records  # pyright: ignore[reportPrivateUsage]
        assert not records._under_way
        at = await made(storage, last := f"{next(olds)}:o")
        moving = asyncio.create_task(storage.move(last, f"{next(news)}:n", b"after", 1000, version=at))
        await asyncio.sleep(0)
    assert isinstance(await moving, int), "closing waits for what has begun"


async def test_on_a_cluster_a_deletion_waits_for_replicas_too(nodes: list[Server]) -> None:
    # These nodes have no replica: a deletion is done, and then raises because no replica has confirmed it.
    async with storage_on(nodes, wait_replicas=1, wait_timeout=timedelta(milliseconds=20)) as storage:
        keys = [next(keys_on(node)) for node in range(3)]
        await storage.create(keys[0], b"", 100)
        with pytest.raises(StorageUnavailable, match="0 of 1"):
            await storage.delete(*keys)
        assert await storage.load(keys[0]) is None


async def test_a_cluster_node_that_is_away_costs_its_slots_only_until_another_one_has_them() -> None:
    with cluster() as own:
        for node in own:
            node.do("CONFIG", "SET", "cluster-require-full-coverage", "no")
        async with storage_on(own, require_full_coverage=False) as storage:
            here, there = next(keys_on(0)), next(keys_on(2))
            await made(storage, here)
            own[2].kill()
            with pytest.raises(StorageUnavailable):
                await storage.create(there, b"", 100)
            assert await storage.load(here) is not None
            with pytest.raises(StorageUnavailable, match=rf"\(at 127\.0\.0\.1:{own[2].port}\)$"):
                await SessionStore(SessionConfig(storage=storage)).check()
            await asyncio.to_thread(own[2].start)
            await answered(lambda: storage.create(there, b"", 10), 15)
            own[2].kill()
            for node in own[:2]:
                node.do("CLUSTER", "DELSLOTS", *range(10923, 16384))
            own[1].do("CLUSTER", "ADDSLOTS", *range(10923, 16384))  # as when a replica takes over
            await answered(lambda: storage.create(there, b"", 10), 15)


async def test_a_silent_cluster_node_is_left_once_another_one_has_its_slots() -> None:
    with cluster() as own:
        for node in own:
            node.do("CONFIG", "SET", "cluster-require-full-coverage", "no")
        async with storage_on(own) as storage:
            there = next(keys_on(2))
            await storage.load(there)
            own[2].signal(signal.SIGSTOP)
            load = asyncio.ensure_future(storage.load(there))
            for node in own[:2]:
                node.do("CLUSTER", "DELSLOTS", *range(10923, 16384))
            own[1].do("CLUSTER", "ADDSLOTS", *range(10923, 16384))
            assert await load is None
            own[2].signal(signal.SIGCONT)


async def test_a_node_that_stands_still_does_not_keep_the_others_from_serving() -> None:
    with cluster() as own:
        for node in own:
            node.do("CONFIG", "SET", "cluster-require-full-coverage", "no")
        async with client_of(own[2].port, RedisCluster) as client:  # the first that redis-py asks for the map
            storage = RedisStorage(client, timeout=SECOND / 2)
            here, there = next(keys_on(0)), next(keys_on(2))
            await made(storage, here)
            own[2].signal(signal.SIGSTOP)
            for _ in range(4):
                with pytest.raises(StorageUnavailable):
                    await storage.create(there, b"", 100)
                assert await storage.load(here) is not None
            await storage.aclose()
            own[2].signal(signal.SIGCONT)
            patient = RedisStorage(client, timeout=4 * SECOND)
            store = SessionStore(SessionConfig(storage=patient, storage_timeout=SECOND / 2))
            session = await answered(store.create, 15)
            for node in own:
                node.signal(signal.SIGSTOP)
            for call in (store.create, session.destroy):  # they have several steps, which go on after the timeout
                began = time.monotonic()
                with pytest.raises(StorageUnavailable):
                    await call()
                assert time.monotonic() - began < 2
            for node in own:
                node.signal(signal.SIGCONT)
            await patient.aclose()


# -- a single server behind a proxy, or a name, that begins to lead to another server


@pytest.mark.parametrize("age", ["young", "old"])
async def test_a_demoted_single_server_costs_no_write_once_the_way_leads_to_the_new_one(age: str) -> None:
    with one_server() as old, one_server() as new:
        async with proxy_to(old.port) as proxy, storage_at(proxy.port) as storage:
            version = await made(storage, "kept")
            new.do("REPLICAOF", "127.0.0.1", old.port)
            await asyncio.to_thread(until, lambda: new.do("EXISTS", "kept") == 1)
            new.do("REPLICAOF", "NO", "ONE")
            if age == "young":
                proxy.reset()
                await storage.load("kept")
            else:
                await asyncio.sleep(YOUNG)
            before = proxy.connections
            proxy.switch(new.port)
            old.do("REPLICAOF", "127.0.0.1", new.port)

            async def write(number: int) -> None:
                kind = number % 4
                if kind == 0:
                    assert await storage.create(f"k{number}", b"", 100) is not None
                elif kind == 1:
                    assert await storage.create(f"k{number}", b"", 100, owner="ada") is not None
                elif kind == 2:
                    assert await storage.touch("kept", 100)
                else:
                    assert await storage.load("kept", renew=100) is not None

            if age == "young":
                with pytest.raises(WritesRefused, match="READONLY"):
                    await write(0)
                await asyncio.sleep(YOUNG)
            await asyncio.gather(*(write(number) for number in range(1, 41)))
            assert isinstance(await storage.replace("kept", b"2", 100, version=version), int)
            assert new.do("DBSIZE") >= 20
            assert proxy.connections == before + 1


async def test_a_write_that_was_done_just_before_the_demotion_is_not_sent_again(server: Server, emptied: None) -> None:
    async with storage_at(server.port) as storage:
        await storage.load("a")
        await asyncio.sleep(YOUNG)
        write = storage._loops.here().transport.write  # pyright: ignore[reportPrivateUsage] - both go out together
        refused = (b"EVAL", b"return redis.error_reply('READONLY says a replica')", 0)
        await asyncio.gather(write(b"n", (b"INCR", b"n")), write(b"n", refused))
    assert server.do("GET", "n") == b"1"


async def test_a_server_that_stays_a_replica_is_asked_for_few_new_connections() -> None:
    with one_server() as master, one_server() as replica:
        replica.do("REPLICAOF", "127.0.0.1", master.port)
        async with proxy_to(replica.port) as proxy, storage_at(proxy.port) as storage:
            began = time.monotonic()
            while time.monotonic() - began < 2:
                with pytest.raises(WritesRefused, match="this server is a replica"):
                    await storage.create("a", b"", 100)
                assert await storage.load("a") is None  # reads still work
                await asyncio.sleep(0.005)
            assert proxy.connections <= 2 + 2 / YOUNG
