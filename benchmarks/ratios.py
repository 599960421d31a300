"""sessioncore's cost as a multiple of the hand-written floor's, as JSON: `python -m benchmarks.ratios`.

For the test that guards against gross slowdowns; it takes about a second. A ratio
within one process says the same on a fast machine and on a slow one.
"""

import asyncio
import json

from benchmarks.contenders import floor, sessioncore_asgi
from benchmarks.cpu import compare
from benchmarks.drivers import bare_driver, drive
from benchmarks.places import Place

WORK = ("untouched", "first", "read", "update")


async def ratios(rounds: int = 15, seconds: float = 0.004) -> dict[str, float]:
    """Return the ratio for each workload, in memory on ASGI."""
    found: dict[str, float] = {}
    ours, least = drive(sessioncore_asgi, Place("memory")), drive(floor, Place("memory"))
    async with bare_driver("asgi") as none, ours, least:
        for workload in WORK:
            figures = await compare([ours, least], none, workload, rounds=rounds, seconds=seconds)
            found[workload] = figures[ours].of(figures[least])
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ratios())))
