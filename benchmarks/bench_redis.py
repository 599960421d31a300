"""How fast are loads from Redis, against redis-py's own GET in the same run?

    python -m benchmarks.bench_redis [--seconds 1.5]

Starts a redis-server on a free port and loads one record of 1 KiB, one by one and 64 at a time.
The ratio is what to look at: both sides share the machine, the server and the interpreter. Rounds
alternate between the two, and the best of each is compared, so that a neighbour's noise hits both.
"""

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from redis.asyncio import Redis
from tests.redis_server import one_server

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


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=1.5, help="for each line")
    options.add_argument("--uvloop", action="store_true", help="run on uvloop")
    chosen = options.parse_args()
    loop = uvloop.new_event_loop if chosen.uvloop else None
    with one_server() as server, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(compare(server.port, chosen.seconds))


if __name__ == "__main__":
    main()
