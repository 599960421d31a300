"""What does the near cache save? Reads through it beside reads from memory and from Redis, in the same run.

    python -m benchmarks.bench_near_cache [--rounds 15]

CPU per request over the bare application; a thousand loads a second on a hundred keys; requests per second over HTTP
(uvicorn, wrk); the last two again with a millisecond to Redis and back. And the hit rates of several kinds of visits.
"""

import argparse
import asyncio
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import Any, cast

from benchmarks.contenders import sessioncore_asgi
from benchmarks.cpu import compare
from benchmarks.drivers import AsgiDriver, bare_driver, drive
from benchmarks.families.asgi import app as raw_app
from benchmarks.over_http import measure_http
from benchmarks.places import Place, Places, one_cpu, open_places
from benchmarks.workloads import handlers
from redis.asyncio import Redis
from servers.redis_server import free_port

from sessioncore import SessionConfig, SessionStore
from sessioncore.storage import LATER, Load
from sessioncore.storage.redis import NearCache, RedisStorage
from sessioncore_asgi import SessionMiddleware

STORAGES = ("memory", "redis-near", "redis")
DELAY = 0.0005  # seconds, each way
HOT_KEYS = 100


async def cpu(places: Places, rounds: int) -> None:
    async with AsyncExitStack() as stack:
        bare = await stack.enter_async_context(bare_driver("asgi"))
        drivers = {
            name: await stack.enter_async_context(drive(sessioncore_asgi, places.place(name))) for name in STORAGES
        }
        found = await compare(list(drivers.values()), bare, "read", rounds=rounds, seconds=0.02)
    for name, driver in drivers.items():
        ratio = found[driver].of(found[drivers["memory"]])
        print(f"  {name:<12}{found[driver]!s:>8} us of CPU over bare  x{ratio:.2f} of memory")


async def hot_keys(url: str, seconds: float = 5.0) -> None:
    """A thousand loads a second, evenly; how many had to wait, and how long the loads took."""
    client: Any = Redis.from_url(url)
    for settings in (NearCache(), None):
        storage = RedisStorage.from_url(url, near_cache=settings)
        for number in range(HOT_KEYS):
            await storage.create(f"hot:{number}", b"x" * 300, 1000)
            await storage.load(f"hot:{number}")
        answer_now: Any = storage.answer_now
        before, begun = await pings(client), time.perf_counter()
        taken, waited = [], 0
        for turn in range(int(seconds * 1000)):
            await asyncio.sleep(max(0.0, begun + turn / 1000 - time.perf_counter()))
            start, key = time.perf_counter(), f"hot:{turn % HOT_KEYS}"
            if answer_now is None or answer_now(Load(key)) is LATER:
                waited += 1
                await storage.load(key)
            taken.append(time.perf_counter() - start)
        lasted, sent = time.perf_counter() - begun, await pings(client) - before
        print(
            f"  {'near cache' if settings else 'no cache':<12}{len(taken) / lasted:,.0f} loads/s, "
            f"{100 - 100 * waited / len(taken):.2f} % without waiting, {sent / lasted:.2f} PINGs/s, "
            f"p50 {statistics.median(taken) * 1e6:.1f} us"
        )
        await storage.clear("hot:")
        await storage.aclose()
    await client.aclose()


async def pings(client: Any) -> int:
    counts = await client.info("commandstats")
    return cast("int", counts.get("cmdstat_ping", {}).get("calls", 0))


class At(Places):
    """The same places, with Redis at another URL."""

    url = ""

    def place(self, name: str, url: str = "") -> Place:
        return super().place(name, self.url if name.startswith("redis") else url)


def http(places: Places, url: str) -> None:
    at = At(places.redis_port, places.dsn, places.folder)
    at.url = url
    found = measure_http(at, [("uvicorn", "sessioncore_asgi", name) for name in STORAGES], 3, 2)
    for (_, _, name), load in found.items():
        memory = next(iter(found.values())).per_second
        rate = statistics.median(own / base for own, base in zip(load.per_second, memory, strict=True))
        print(
            f"  {name:<12}{load.figure('per_second'):>8,.0f}/s  x{rate:.2f} of memory  "
            f"p50 {load.figure('p50'):.2f} ms  {load.figure('cpu'):.0f} us of CPU"
        )


def relay(port: int, target: int) -> None:
    """Pass bytes on, `DELAY` seconds later."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target)
        with suppress(ConnectionError):
            await asyncio.gather(pass_on(reader, back), pass_on(there, writer))

    async def pass_on(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            asyncio.get_running_loop().call_later(DELAY, to.write, data)
        to.close()

    async def main() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
            await server.serve_forever()

    asyncio.run(main())


# -- the ways in which visitors come: the pause between two requests of one visitor

FASTER = 100  # than in reality, the touch_interval of a minute included
VISITORS = 50


def pages(dice: random.Random) -> float:
    """Eight requests at about the same time, then half a minute of reading."""
    return dice.expovariate(1 / 0.05) if dice.random() < 7 / 8 else dice.expovariate(1 / 30)


TRAFFIC: dict[str, Callable[[random.Random], float]] = {
    "pages of 8 requests": pages,
    "1 request/s": lambda dice: dice.expovariate(1),
    "1 request/min": lambda dice: dice.expovariate(1 / 60),
}


async def hit_rates(url: str, seconds: float = 10.0) -> None:
    """Visitors who read, on one process or on any of four, here four storages."""
    for name, pause in TRAFFIC.items():
        for processes in (1, 4):
            storages = [RedisStorage.from_url(url, near_cache=NearCache()) for _ in range(processes)]
            times = {"touch_interval": timedelta(seconds=60 / FASTER), "idle_timeout": timedelta(seconds=1800 / FASTER)}
            apps = [
                SessionMiddleware(raw_app(reading()), SessionStore(SessionConfig(storage=storage, **times)))
                for storage in storages
            ]
            drivers = [AsgiDriver(app) for app in apps]
            end = time.monotonic() + seconds

            async def visit(
                number: int, drivers: list[AsgiDriver] = drivers, end: float = end, pause: Any = pause
            ) -> None:
                dice = random.Random(number)
                cookie = (await drivers[0].request("/fill")).cookie
                while (left := end - time.monotonic()) > 0:
                    await asyncio.sleep(min(left, pause(dice) / FASTER))
                    await dice.choice(drivers).request("/read", cookie)

            await asyncio.gather(*map(visit, range(VISITORS)))
            stats = [storage.near_cache_stats() for storage in storages]
            hits, misses = sum(one.hits for one in stats), sum(one.misses for one in stats)
            print(f"  {name:<20} {processes} process(es): {100 * hits / (hits + misses):5.1f} % hits")
            for storage in storages:
                await storage.aclose()


def reading() -> dict[str, Any]:
    return handlers(session_of=lambda scope: scope["session"])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15)
    chosen = options.parse_args()
    with open_places(postgres=False) as places:
        port = free_port()
        process = multiprocessing.Process(target=relay, args=(port, places.redis_port), daemon=True)
        process.start()
        with one_cpu():
            asyncio.run(cpu(places, chosen.rounds))
        asyncio.run(hit_rates(places.place("redis").url))
        for text, at in (("loopback", places.redis_port), ("a millisecond away", port)):
            print(f"{text}:")
            asyncio.run(hot_keys(f"redis://127.0.0.1:{at}/0"))
            http(places, f"redis://127.0.0.1:{at}/0")
        process.terminate()


if __name__ == "__main__":
    main()
