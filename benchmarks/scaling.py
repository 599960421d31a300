"""Memory per session, and what a request costs among many sessions.

Each count runs in a process of its own: `python -m benchmarks.scaling CONTENDER STORAGE COUNT URL`
makes that many sessions of 1 KiB through the application, as visitors would,
then reads and writes some of them at random, and prints one line of JSON.
"""

import asyncio
import gc
import importlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from benchmarks.drivers import bare_driver, drive
from benchmarks.places import Place, Places
from benchmarks.workloads import SMALL

__all__ = ["ENCODED", "scale"]

ENCODED = len(msgspec.msgpack.encode(SMALL))  # bytes of the session's data, at its tightest
SAMPLE = 500
ROUNDS = 12
PAUSE = 0.1  # seconds between rounds, so that not all of them fall into a neighbour's busy moment
ROOT = Path(__file__).parent.parent


def scale(contender: str, storage: str, count: int, places: Places) -> dict[str, float]:
    """Run one count in a fresh process."""
    if storage == "redis":
        places.flush_redis()
    command = [sys.executable, "-m", "benchmarks.scaling", contender, storage, str(count), places.place(storage).url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


async def _run(contender: str, place: Place, count: int) -> dict[str, float]:
    module: Any = importlib.import_module(f"benchmarks.contenders.{contender}")
    async with bare_driver(module.FAMILY) as none, drive(module, place) as driver:
        for _ in range(50):
            await driver.visitor()
        gc.collect()
        before = _resident()
        every = max(1, count // SAMPLE)
        kept = [await driver.visitor()] * SAMPLE  # room for the cookies is taken before the count begins
        width = 1 if place.name in {"memory", "cookie"} else 32

        async def fill(lane: int) -> None:
            for number in range(lane, count, width):
                if number % every == 0:
                    kept[number // every % SAMPLE] = await driver.visitor()
                else:
                    await driver.burst("/fill", [b""])

        await asyncio.gather(*(fill(lane) for lane in range(width)))
        gc.collect()
        size = (_resident() - before) / count
        costs: dict[str, list[float]] = {"read": [], "update": []}
        random.Random(1).shuffle(kept)
        for _ in range(ROUNDS):
            for path, cost in costs.items():
                own = await _spend(driver, path, kept)
                cost.append(own - await _spend(none, path, kept))
            await asyncio.sleep(PAUSE)
        return {"bytes": size, **{path: sorted(cost)[ROUNDS // 4] * 1e6 for path, cost in costs.items()}}


async def _spend(driver: Any, path: str, cookies: list[bytes]) -> float:
    start = time.process_time()
    await driver.burst(f"/{path}", cookies)
    return (time.process_time() - start) / len(cookies)


def _resident() -> int:
    """Bytes of this process that are its own."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no Private_Dirty in /proc/self/smaps_rollup")


def main() -> None:
    contender, storage, count, url = sys.argv[1:]
    print(json.dumps(asyncio.run(_run(contender, Place(storage, url, Path()), int(count)))))


if __name__ == "__main__":
    main()
