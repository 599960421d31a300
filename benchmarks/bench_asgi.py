"""Sessions in memory on ASGI, beside each other: CPU per request over the bare application.

    python -m benchmarks.bench_asgi [--rounds 25]

sessioncore, starsessions, Starlette's signed cookie and the hand-written floor, in one process
and in turn. Look at the ratios.
"""

import argparse
import asyncio

from benchmarks.contenders import floor, sessioncore_asgi, starlette_cookie, starsessions_
from benchmarks.cpu import compare
from benchmarks.drivers import bare_driver, drive
from benchmarks.places import Place

WORK = ("untouched", "first", "read", "update")


async def run(rounds: int) -> None:
    contenders = [sessioncore_asgi, starsessions_, starlette_cookie, floor]
    memory = [drive(c, Place("memory" if "memory" in c.STORAGES else "cookie")) for c in contenders]
    none = bare_driver("asgi")
    for driver in (none, *memory):
        await driver.__aenter__()
    names = [driver.label for driver in memory]
    print(f"{'us CPU over bare':<20}" + "".join(f"{name:>30}" for name in names))
    for workload in WORK:
        found = await compare(memory, none, workload, rounds=rounds, seconds=0.02)
        ours = found[memory[0]]
        cells = [f"{figure} ({ours.of(figure):.2f})" for figure in found.values()]
        print(f"{workload:<20}" + "".join(f"{cell:>30}" for cell in cells))
    print("in parentheses: sessioncore's cost as a part of this one's")
    for driver in (none, *memory):
        await driver.__aexit__()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=25)
    asyncio.run(run(options.parse_args().rounds))


if __name__ == "__main__":
    main()
