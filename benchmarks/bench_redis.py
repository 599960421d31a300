"""How fast are loads from Redis, against redis-py's own GET in the same run?

    python -m benchmarks.bench_redis [--seconds 1.5] [--uvloop]
    python -m benchmarks.bench_redis --many 1000000

Starts a redis-server on a free port and loads one record of 1 KiB, one by one and 64 at a time.
Look at the ratio: both sides share the machine, the server and the interpreter. Rounds
alternate between the two, and the best of each is compared, so that a neighbour's noise hits both.
With `--many`, a server with a thousand sessions stands beside one with that many, a tenth of them with
an owner, ten to each: a load and a listing must cost much the same on both.
"""

import argparse
import asyncio
import base64
import hashlib
import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from redis.asyncio import Redis
from servers.redis_server import one_server

from sessioncore.storage.redis import RedisStorage

ROUNDS = 5


async def rate(call: Callable[[], Awaitable[Any]], width: int, seconds: float) -> tuple[float, float]:
    """Calls per second and microseconds of this process's CPU per call, with `width` callers at a time."""
    count, cpu, start = 0, time.process_time(), time.perf_counter()
    end = start + seconds

    async def caller() -> None:
        nonlocal count
        while time.perf_counter() < end:
            await call()
            count += 1

    await asyncio.gather(*(caller() for _ in range(width)))
    return count / (time.perf_counter() - start), (time.process_time() - cpu) / count * 1e6


async def compare(port: int, seconds: float) -> None:
    client: Any = Redis(port=port)
    storage = RedisStorage(client)
    data = os.urandom(1024)
    await client.set("plain", data, ex=1000)
    await storage.create("record", data, 1000)
    sides: dict[str, Callable[[], Awaitable[Any]]] = {
        "redis.asyncio.Redis.get": lambda: client.get("plain"),
        "RedisStorage.load": lambda: storage.load("record"),
        "RedisStorage.load(renew=)": lambda: storage.load("record", renew=1000),
    }
    for width in (1, 64):
        best = dict.fromkeys(sides, (0.0, 0.0))
        for _ in range(ROUNDS):
            for name, call in sides.items():
                best[name] = max(best[name], await rate(call, width, seconds / ROUNDS))
        base = best["redis.asyncio.Redis.get"][0]
        print(f"\n{width} at a time, 1 KiB")
        for name, (per_second, cpu) in best.items():
            print(f"  {name:<28}{per_second:>10,.0f}/s  {cpu:6.1f} us CPU  x{per_second / base:5.2f}")
    connections = await client.client_list()
    print(f"\nconnections at the end: {len(connections)}, one of them the storage's")
    await storage.aclose()
    await client.aclose()


async def grow(storage: RedisStorage, first: int, last: int) -> None:
    """Create sessions of 300 bytes, a few thousand at a time."""

    async def create(number: int) -> None:
        owner = f"session:user-{number // 100}" if number % 10 == 0 else None
        await storage.create(key_of(number), b"x" * 300, 86_400, owner=owner)

    for start in range(first, last, 5000):
        await asyncio.gather(*(create(number) for number in range(start, min(last, start + 5000))))


def key_of(number: int) -> str:
    return "session:" + base64.urlsafe_b64encode(hashlib.sha256(b"%d" % number).digest()).decode().rstrip("=")


async def costs_at(storage: RedisStorage, number: int, seconds: float) -> tuple[float, float]:
    """Microseconds per load and per listing, at random."""
    dice = random.Random(1)

    async def load() -> None:
        await storage.load(key_of(dice.randrange(number)))

    async def owned() -> None:
        await storage.owned_keys(f"session:user-{dice.randrange(number // 100)}")

    return 1e6 / (await rate(load, 1, seconds))[0], 1e6 / (await rate(owned, 1, seconds))[0]


async def filled(port: int, number: int) -> RedisStorage:
    storage = RedisStorage.from_url(f"redis://127.0.0.1:{port}/0")
    async with Redis(port=port) as plain:
        client: Any = plain
        empty = (await client.info("memory"))["used_memory"]
        start = time.perf_counter()
        await grow(storage, 0, number)
        spent = time.perf_counter() - start
        used = (await client.info("memory"))["used_memory"] - empty
    print(f"{number:>9,} sessions, made in {spent:.1f} s: {used / number:,.0f} bytes each, 300 of them data")
    return storage


async def scale(few_port: int, many_port: int, many: int, seconds: float) -> None:
    few_storage, many_storage = await filled(few_port, 1000), await filled(many_port, many)
    few_best = many_best = (1e9, 1e9)
    for _ in range(ROUNDS):
        few = await costs_at(few_storage, 1000, seconds / ROUNDS)
        lot = await costs_at(many_storage, many, seconds / ROUNDS)
        few_best = min(few[0], few_best[0]), min(few[1], few_best[1])
        many_best = min(lot[0], many_best[0]), min(lot[1], many_best[1])
    for name, small, large in zip(("load", "listing of ten"), few_best, many_best, strict=True):
        print(f"{name:>16}: {small:.1f} us among 1,000, {large:.1f} us among {many:,}: x{large / small:.2f}")
    for name, call in (
        ("purge", many_storage.purge_expired),
        ("clear", lambda: many_storage.clear("session:")),
    ):
        start = time.perf_counter()
        print(f"{name:>16}: {await call():,} in {time.perf_counter() - start:.1f} s")
    await few_storage.aclose()
    await many_storage.aclose()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=1.5, help="for each line")
    options.add_argument("--uvloop", action="store_true", help="run on uvloop")
    options.add_argument("--many", type=int, help="compare a thousand sessions with this many")
    chosen = options.parse_args()
    loop = uvloop.new_event_loop if chosen.uvloop else None
    with one_server() as server, one_server() as other, asyncio.Runner(loop_factory=loop) as runner:
        if chosen.many:
            runner.run(scale(server.port, other.port, chosen.many, chosen.seconds))
        else:
            runner.run(compare(server.port, chosen.seconds))


if __name__ == "__main__":
    main()
