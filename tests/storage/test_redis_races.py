"""Many callers at the same time: cancellations, parallel writers from two processes, and any order of calls."""

import asyncio
import gc
import json
import random

import pytest
from servers.redis_server import Server
from tests.numbers import FULL, scaled
from tests.storage.history import KEYS, Model
from tests.storage.redis_rig import storage_at, storage_on
from tests.storage.rigs import made, record_at
from tests.tcp_proxy import proxy_to

from sessioncore.storage import Stored
from sessioncore.storage.redis.records._format import MARK, unpack

pytestmark = [pytest.mark.anyio, pytest.mark.redis, pytest.mark.usefixtures("emptied")]


@pytest.mark.proves("AT-103")
async def test_ten_thousand_cancelled_requests_mix_up_no_replies(server: Server) -> None:
    dice = random.Random(42)
    users = 50
    async with proxy_to(server.port) as proxy, storage_at(proxy.port) as storage:
        for user in range(users):
            await made(storage, f"k{user}", json.dumps([user, 0]).encode(), owner=f"u{user}")
        answered = 0

        async def request(user: int) -> None:
            nonlocal answered
            stored = await record_at(storage, f"k{user}", renew=1000 if dice.random() < 0.2 else None)
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

        # Tasks are cancelled at any moment of a wave, however fast the machine is: the wave before was timed.
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


async def test_a_caller_that_waits_for_a_place_gets_one_though_others_give_up(server: Server) -> None:
    dice = random.Random(7)
    async with storage_at(server.port) as storage:
        await made(storage, "k", b"x" * 2000)
        for _ in range(3 if FULL else 1):
            tasks = [asyncio.create_task(storage.load("k")) for _ in range(9000)]
            for task in dice.sample(tasks, 6000):
                asyncio.get_running_loop().call_later(dice.random() * 0.1, task.cancel)
            async with asyncio.timeout(20):
                await asyncio.wait(tasks)
            loaded = [task.result() for task in tasks if not task.cancelled()]
            assert len(loaded) >= 3000
            assert all(stored is not None for stored in loaded)


async def test_a_refusal_after_its_caller_has_given_up_is_not_logged(servers: list[Server]) -> None:
    logged: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
    async with storage_on(servers) as storage:
        at = await made(storage, "given up")
        await made(storage, "taken")
        move = asyncio.create_task(storage.move("given up", "taken", b"", 9, version=at))
        await asyncio.sleep(0)
        move.cancel()
        with pytest.raises(asyncio.CancelledError):
            await move
    del move
    gc.collect()
    assert logged == []


@pytest.mark.proves("P2", "AT-39")
async def test_a_thousand_logout_races_bring_nothing_back(servers: list[Server]) -> None:
    async with storage_on(servers) as one, storage_on(servers) as two:
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


@pytest.mark.proves("AT-57", "AT-120")
@pytest.mark.parametrize("seed", range(scaled(20)))
async def test_any_order_of_calls_agrees_with_the_model_and_each_key_ends(seed: int, servers: list[Server]) -> None:
    async with storage_on(servers) as storage:
        model = Model(storage, random.Random(seed))
        for number in range(250):
            await model.step()
            if number % 10 == 0:
                await model.compare()
                check_ends(servers)
        await storage.delete(*KEYS)
        # An index may stay until it expires; nothing else may.
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
        # Only entries that the record confirms count: on a cluster a write that was refused may leave an entry.
        owner = index.removesuffix(b":sessioncore-index")
        records = {member: values.get(member, b"") for member in members}
        theirs = [key for key, value in records.items() if value[:2] == MARK and unpack(value)[1] == owner]
        longest = max((ends[member] for member in theirs), default=0)
        assert ends[index] >= longest - 50
