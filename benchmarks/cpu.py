"""CPU time per request over the bare application.

All contenders of a group run in one process, a few milliseconds each in turn,
round after round, so that a noisy neighbour, a clock that changes its pace or a
cold cache affects all of them. What is reported is the median over the rounds of
(contender - bare application), both of the same round.
"""

import asyncio
import gc
import statistics
import time
from dataclasses import dataclass

from benchmarks.drivers import Driver

__all__ = ["Figure", "compare"]


@dataclass
class Figure:
    """Microseconds of CPU per request over bare."""

    median: float
    low: float  # quartiles
    high: float
    rounds: list[float]

    def of(self, other: "Figure") -> float:
        """This cost as a part of another's of the same rounds: the median over the rounds.

        When a neighbour slows the machine down for a while, it slows down both.
        """
        return statistics.median(own / theirs for own, theirs in zip(self.rounds, other.rounds, strict=True))

    def __str__(self) -> str:
        digits = 2 if abs(self.median) < 10 else 1
        return f"{self.median:.{digits}f}"


async def compare(
    drivers: list[Driver], bare: Driver, workload: str, *, rounds: int, seconds: float, width: int = 1
) -> dict[Driver, Figure]:
    """Measure each driver at `workload`; `seconds` of CPU is about what each spends in one round.

    `width`: how many requests are under way at a time.
    """
    everyone = [bare, *drivers]
    counts = {driver: await _calibrate(driver, workload, seconds, width) for driver in everyone}
    spent: dict[Driver, list[float]] = {driver: [] for driver in everyone}
    gc.collect()
    gc.freeze()
    for number in range(rounds):
        turn = number % len(everyone)
        for driver in everyone[turn:] + everyone[:turn]:
            spent[driver].append(await _cost(driver, workload, counts[driver], width))
    gc.unfreeze()
    return {driver: _over(spent[driver], spent[bare]) for driver in drivers}


def _over(own: list[float], bare: list[float]) -> Figure:
    rounds = [(a - b) * 1e6 for a, b in zip(own, bare, strict=True)]
    low, median, high = statistics.quantiles(rounds, n=4)
    return Figure(median, low, high, rounds)


async def _calibrate(driver: Driver, workload: str, seconds: float, width: int) -> int:
    """Warm up; return how many requests take about `seconds`."""
    # Not counted: the first requests open connections and prepare scripts, and would be taken for slow ones.
    await _cost(driver, workload, max(width, 50), width)
    count = width
    while True:
        cost = await _cost(driver, workload, count, width)
        if cost * count > seconds / 4:
            return max(width, round(seconds / cost / width) * width)
        count *= 4


async def cookies_for(driver: Driver, workload: str, count: int) -> list[bytes]:
    """Return the cookies of a round's requests: none, those of one visitor, or those of a new visitor each."""
    if workload in {"untouched", "first", "look"}:
        return [b""] * count
    if workload == "login":
        return [await driver.visitor() for _ in range(count)]
    return [await driver.visitor("/fill-large" if workload == "large" else "/fill")] * count


async def _cost(driver: Driver, workload: str, count: int, width: int) -> float:
    """Seconds of this process's CPU for one request."""
    cookies = await cookies_for(driver, workload, count)
    path = f"/{workload}"
    if width == 1:
        start = time.process_time()
        await driver.burst(path, cookies)
        return (time.process_time() - start) / count
    share = count // width
    start = time.process_time()
    await asyncio.gather(*(driver.burst(path, cookies[n * share : (n + 1) * share]) for n in range(width)))
    return (time.process_time() - start) / (share * width)
