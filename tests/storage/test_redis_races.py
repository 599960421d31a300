"""Many callers at once: cancellations, parallel writers from two processes, and any order of calls."""

import asyncio
import json
import random
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import RedisCluster
from servers.redis_server import Server
from tests.numbers import scaled
from tests.redis_proxy import proxy_to
from tests.storage.redis_rig import client_of, made, storage_at, version_of

from sessioncore.storage import Moved, Stored, Written
from sessioncore.storage.redis import RedisStorage

pytestmark = [pytest.mark.anyio, pytest.mark.redis, pytest.mark.usefixtures("emptied")]


async def test_ten_thousand_cancelled_requests_mix_nobody_up(server: Server) -> None:
    dice = random.Random(42)
    users = 50
    async with proxy_to(server.port) as proxy, storage_at(proxy.port) as storage:
        for user in range(users):
            await made(storage, f"k{user}", json.dumps([user, 0]).encode(), owner=f"u{user}")
        answered = 0

        async def request(user: int) -> None:
            nonlocal answered
            stored = await storage.load(f"k{user}", renew=1000 if dice.random() < 0.2 else None)
            assert isinstance(stored, Stored)
            name, count = json.loads(stored.data)
            assert name == user
            if dice.random() < 0.3:
                data = json.dumps([user, count + 1]).encode()
                result = await storage.replace(f"k{user}", data, 1000, version=stored.version, owner=f"u{user}")
                if isinstance(result, Stored):
                    assert json.loads(result.data)[0] == user
            if dice.random() < 0.1:
                assert await storage.owned_keys(f"u{user}") == [f"k{user}"]
            answered += 1

        # Cancellations fall anywhere in a wave however fast the machine is: the wave before says how long one takes.
        loop, took, cancelled, waves = asyncio.get_running_loop(), 0.01, 0, scaled(100)
        for _ in range(waves):
            began = loop.time()
            tasks = [asyncio.create_task(request(dice.randrange(users))) for _ in range(150)]
            for task in tasks[:100]:
                loop.call_later(dice.random() * took, task.cancel)
            await asyncio.wait(tasks)
            took = loop.time() - began
            for task in tasks:
                assert task.cancelled() or task.exception() is None
            assert not any(task.cancelled() for task in tasks[100:])
            cancelled += sum(task.cancelled() for task in tasks)
        assert cancelled > 10 * waves
        assert answered >= 50 * waves
        assert proxy.most_open == 1
        assert proxy.connections == 1


async def test_whoever_waits_for_a_place_gets_one_though_others_give_up(server: Server) -> None:
    dice = random.Random(7)
    async with storage_at(server.port) as storage:
        await made(storage, "k", b"x" * 2000)
        for _ in range(3):
            tasks = [asyncio.create_task(storage.load("k")) for _ in range(9000)]
            for task in dice.sample(tasks, 6000):
                asyncio.get_running_loop().call_later(dice.random() * 0.1, task.cancel)
            async with asyncio.timeout(20):
                await asyncio.wait(tasks)
            loaded = [task.result() for task in tasks if not task.cancelled()]
            assert len(loaded) >= 3000
            assert all(stored is not None for stored in loaded)


WRITER = """
import asyncio, sys
from sessioncore.storage.redis import RedisStorage

async def main(port, times):
    storage = RedisStorage.from_url(f"redis://127.0.0.1:{port}/0")
    async def add():
        stored = await storage.load("counter")
        while True:
            data = b"%d" % (int(stored.data) + 1)
            result = await storage.replace("counter", data, 1000, version=stored.version)
            if isinstance(result, int):
                return
            stored = result
    await asyncio.gather(*(add() for _ in range(times)))
    await storage.aclose()

asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
"""


async def test_two_processes_lose_no_increment(server: Server) -> None:
    async with storage_at(server.port) as storage:
        await made(storage, "counter", b"0")
        paths = ":".join(path for path in sys.path if path)
        writers = [
            await asyncio.create_subprocess_exec(
                sys.executable, "-c", WRITER, str(server.port), "50", env={"PYTHONPATH": paths}
            )
            for _ in range(2)
        ]
        assert [await writer.wait() for writer in writers] == [0, 0]
        stored = await storage.load("counter")
        assert isinstance(stored, Stored)
        assert stored.data == b"100"


@asynccontextmanager
async def on_one_server(port: int) -> AsyncGenerator[RedisStorage]:
    async with storage_at(port) as storage:
        yield storage


@asynccontextmanager
async def on_a_cluster(port: int) -> AsyncGenerator[RedisStorage]:
    async with client_of(port, RedisCluster) as client:
        storage = RedisStorage(client)
        yield storage
        await storage.aclose()


@pytest.mark.parametrize("kind", ["one server", "cluster"])
async def test_a_thousand_logout_races_bring_nothing_back(kind: str, server: Server, nodes: list[Server]) -> None:
    make = on_one_server(server.port) if kind == "one server" else on_a_cluster(nodes[0].port)
    again = on_one_server(server.port) if kind == "one server" else on_a_cluster(nodes[0].port)
    async with make as one, again as two:
        for turn in range(scaled(1000)):
            key, new = f"k{turn}", f"n{turn}"
            at = await made(one, key, owner="u")
            writes = (
                lambda at=at, key=key: two.replace(key, b"late", 100, version=at, owner="u"),
                lambda key=key: two.touch(key, 100),
                lambda key=key: two.load(key, renew=100),
                lambda at=at, key=key, new=new: two.move(key, new, b"late", 100, version=at, owner="u", tombstone=9),
            )
            write = asyncio.create_task(writes[turn % 4]())
            for _ in range(turn // 4 % 5):  # on a cluster a move takes several trips
                await one.load("none")
            await one.delete(key)
            assert not isinstance(await one.load(new), Stored)
            await write
            for each in (key, new):
                assert not isinstance(await one.load(each), Stored)
        assert await one.owned_keys("u") == []


class Model:
    """What a correct storage would hold: key -> data, version, owner."""

    def __init__(self, storage: RedisStorage, seed: int) -> None:
        self.storage = storage
        self.dice = random.Random(seed)
        self.records: dict[str, tuple[bytes, int, str | None]] = {}
        self.moved: dict[str, str] = {}
        self.versions: set[tuple[str, int]] = set()
        self.fresh = 0

    def key(self) -> str:
        return f"app:k{self.dice.randrange(12)}"

    def owner(self) -> str | None:
        return self.dice.choice([None, "app:u", "app:v", "app:w"])

    def keep(self, key: str, data: bytes, version: int, owner: str | None) -> None:
        assert (key, version) not in self.versions, "a version came back"
        self.versions.add((key, version))
        self.records[key] = (data, version, owner)

    async def create(self) -> None:
        key, owner, data = self.key(), self.owner(), self.dice.randbytes(20)
        made_ = await self.storage.create(key, data, 500, owner=owner)
        assert (made_ is None) == (key in self.records or key in self.moved)
        if made_ is not None:
            self.keep(key, data, made_, owner)

    async def replace(self) -> None:
        key, owner, data = self.key(), self.owner(), self.dice.randbytes(20)
        known = self.records.get(key, (b"", 7, None))
        stale = self.dice.random() < 0.3
        result = await self.storage.replace(key, data, 700, version=known[1] ^ 1 if stale else known[1], owner=owner)
        self.judge(result, key, key, data, owner, stale=stale)

    async def move(self) -> None:
        key, owner, data = self.key(), self.owner(), self.dice.randbytes(20)
        self.fresh += 1
        new = self.dice.choice([f"app:n{self.fresh}", *{self.key()} - set(self.records) - set(self.moved) - {key}])
        known = self.records.get(key, (b"", 7, None))
        stale = self.dice.random() < 0.3
        at, tombstone = known[1] ^ 1 if stale else known[1], self.dice.choice([0.0, 400.0])
        result = await self.storage.move(key, new, data, 600, version=at, owner=owner, tombstone=tombstone)
        self.judge(result, key, new, data, owner, stale=stale)
        if isinstance(result, int) and tombstone:
            self.moved[key] = new

    def judge(
        self,
        result: Written,
        key: str,
        new: str,
        data: bytes,
        owner: str | None,
        *,
        stale: bool,
    ) -> None:
        if key in self.moved:
            assert result == Moved(self.moved[key])
        elif key not in self.records:
            assert result is None
        elif stale:
            assert isinstance(result, Stored)
            assert (result.data, result.version) == self.records[key][:2]
        else:
            del self.records[key]
            self.keep(new, data, version_of(result), owner)

    async def touch(self) -> None:
        key = self.key()
        assert await self.storage.touch(key, 800) == (key in self.records)

    async def load(self) -> None:
        key = self.dice.choice([self.key(), *self.records, *self.moved])
        stored = await self.storage.load(key, renew=self.dice.choice([None, 900.0]))
        if key in self.moved:
            assert stored == Moved(self.moved[key])
            return
        assert ((stored.data, stored.version) if isinstance(stored, Stored) else None) == (
            self.records[key][:2] if key in self.records else None
        )

    async def delete(self) -> None:
        keys = {self.key(), self.dice.choice([self.key(), *self.records, *self.moved])}
        reached = set(keys)
        while further := {self.moved[key] for key in reached if key in self.moved} - reached:
            reached |= further
        assert await self.storage.delete(*keys) == len(reached & set(self.records))
        for key in reached:
            self.records.pop(key, None)
            self.moved.pop(key, None)

    async def list(self) -> None:
        for owner in ("app:u", "app:v", "app:w"):
            theirs = sorted(key for key, record in self.records.items() if record[2] == owner)
            assert sorted(await self.storage.owned_keys(owner)) == theirs

    async def purge(self) -> None:
        await self.storage.purge_expired()

    async def clear(self) -> None:
        assert await self.storage.clear("app:") == len(self.records)
        self.records.clear()
        self.moved.clear()

    async def step(self) -> None:
        steps: list[Callable[[], Any]] = [self.create, self.replace, self.move, self.touch, self.load, self.delete]
        step = self.dice.choices([*steps, self.list, self.purge, self.clear], [30, 20, 12, 8, 15, 8, 10, 2, 1])[0]
        await step()


@pytest.mark.parametrize("seed", range(scaled(20)))
@pytest.mark.parametrize("kind", ["one server", "cluster"])
async def test_any_order_of_calls_agrees_with_a_dict_and_no_key_is_without_end(
    kind: str, seed: int, server: Server, nodes: list[Server]
) -> None:
    servers = [server] if kind == "one server" else nodes
    opened = on_one_server(server.port) if kind == "one server" else on_a_cluster(nodes[0].port)
    async with opened as storage:
        model = Model(storage, seed)
        for number in range(250):
            await model.step()
            if number % 10 == 0:
                check_ends(servers)
        await model.list()
        await model.clear()
        # An index that lags may stay for its time; nothing else does.
        check_ends(servers)
        left = [key for each in servers for key in each.do("KEYS", "*")]
        assert all(key.endswith(b":sessioncore-index") for key in left)


def check_ends(servers: list[Server]) -> None:
    """Every key has a ttl; an index lives as long as what it lists, or longer."""
    ends: dict[bytes, int] = {}
    indexes: dict[bytes, list[bytes]] = {}
    values: dict[bytes, bytes] = {}
    for each in servers:
        for key in each.do("KEYS", "*"):
            ends[key] = each.do("PTTL", key)
            if key.endswith(b":sessioncore-index"):
                indexes[key] = each.do("ZRANGE", key, 0, -1)
            else:
                values[key] = each.do("GET", key)
    assert all(0 < end <= 910_000 for end in ends.values())
    for index, members in indexes.items():
        # Only what the record itself confirms: on a cluster an entry may be left of a write that was refused.
        owner = index.removesuffix(b":sessioncore-index")
        theirs = [member for member in members if values.get(member, b"")[14:].startswith(owner)]
        longest = max((ends[member] for member in theirs), default=0)
        assert ends[index] >= longest - 50
