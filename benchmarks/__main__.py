"""Measure sessioncore beside its peers: `python -m benchmarks [--quick]`.

Prints Markdown tables and writes them, with plots, to `--out`. `--docs` also
puts them into docs/. Everything runs on this machine: servers are started on
free ports, in temp folders, and stopped. A run takes under ten minutes, a quick
one under two; a machine that has nothing else to do gives narrower quartiles.
"""

import argparse
import asyncio
import itertools
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from benchmarks.contenders import everybody
from benchmarks.cpu import compare
from benchmarks.drivers import bare_driver, drive
from benchmarks.imports import import_times
from benchmarks.over_http import CASES, QUICK_CASES, measure_http
from benchmarks.places import Places, one_cpu, open_places
from benchmarks.plots import draw
from benchmarks.promises import check_promises
from benchmarks.results import Results
from benchmarks.scaling import scale
from benchmarks.tables import render
from benchmarks.traffic import count_traffic
from benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- figures: written by python -m benchmarks --docs -->", "<!-- end of figures -->"


@dataclass(frozen=True)
class Effort:
    """How much a run measures."""

    rounds: int
    seconds: float  # of CPU, for each contender in each round
    http: list[tuple[str, str, str]]
    http_rounds: int
    http_seconds: float
    imports: int
    scaling: list[tuple[str, str, tuple[int, ...]]]


FULL = Effort(31, 0.02, CASES, 8, 1, 7, [
    ("sessioncore_asgi", "memory", (1_000, 10_000, 100_000, 1_000_000)),
    ("starsessions_", "memory", (1_000, 10_000, 100_000, 1_000_000)),
    ("litestar_server", "memory", (1_000, 10_000, 100_000)),
    ("sessioncore_asgi", "sqlite", (1_000, 10_000)),
    ("sessioncore_asgi", "redis", (1_000, 10_000, 100_000)),
    ("sessioncore_asgi", "postgres", (1_000, 10_000)),
])  # fmt: skip
QUICK = Effort(9, 0.005, QUICK_CASES, 1, 1, 3, [
    ("sessioncore_asgi", "memory", (10_000, 100_000)),
    ("starsessions_", "memory", (10_000, 100_000)),
])  # fmt: skip


class Run:
    """One run: each section fills its part of `results`."""

    places: Places  # while sections run

    def __init__(self, effort: Effort) -> None:
        self.effort = effort
        self.contenders, left_out = everybody()
        self.results = Results(left_out=left_out)

    def pairs(self, *, floor: bool = True) -> list[tuple[ModuleType, str]]:
        """Return every contender with each of its storages that is available here."""
        return [
            (contender, storage)
            for contender in self.contenders
            for storage in contender.STORAGES
            if self.places.offers(storage) and (floor or "floor" not in contender.NAME)
        ]

    async def cpu(self) -> None:
        # The stand-in for Redis 8 answers so slowly that the client's CPU time says nothing.
        pairs = [pair for pair in self.pairs() if pair[1] != "redis-8"]
        for family in dict.fromkeys(contender.FAMILY for contender, _ in pairs):
            async with AsyncExitStack() as stack:
                bare = await stack.enter_async_context(bare_driver(family))
                drivers = {
                    (contender.NAME, storage): await stack.enter_async_context(
                        drive(contender, self.places.place(storage))
                    )
                    for contender, storage in pairs
                    if family == contender.FAMILY
                }
                amount = {"rounds": self.effort.rounds, "seconds": self.effort.seconds}
                for workload in WORKLOADS:
                    # Browsers drop cookies above 4 KiB, so no cookie holds 110 KiB.
                    able = [d for who, d in drivers.items() if workload != "large" or who[1] != "cookie"]
                    found = await compare(able, bare, workload, **amount)
                    names = {driver: who for who, driver in drivers.items()}
                    figures = {names[driver]: found[driver] for driver in able}
                    self.results.cpu.setdefault(workload, {}).update(figures)
                crowd = {who: driver for who, driver in drivers.items() if who[1] == "redis"}
                found = await compare(list(crowd.values()), bare, "read", width=32, **amount)
                self.results.crowded.update({who: found[driver] for who, driver in crowd.items()})
                self.places.flush_redis()

    async def wire(self) -> None:
        for contender, storage in self.pairs():
            self.results.traffic[contender.NAME, storage] = await count_traffic(contender, storage, self.places)

    async def promises(self) -> None:
        for contender, storage in self.pairs(floor=False):
            self.results.promises[contender.NAME, storage] = await check_promises(contender, storage, self.places)

    async def http(self) -> None:
        effort = self.effort
        self.results.http = measure_http(self.places, effort.http, effort.http_rounds, effort.http_seconds)

    async def scaling(self) -> None:
        names = {module.__name__.rpartition(".")[2]: module.NAME for module in self.contenders}
        for contender, storage, counts in self.effort.scaling:
            found = {count: scale(contender, storage, count, self.places) for count in counts}
            self.results.scaling[names[contender], storage] = found

    async def imports(self) -> None:
        self.results.imports = import_times(self.effort.imports)


SECTIONS: dict[str, Callable[[Run], object]] = {
    "cpu": Run.cpu, "scaling": Run.scaling,
    "wire": Run.wire, "promises": Run.promises, "http": Run.http, "imports": Run.imports,
}  # fmt: skip
PINNED = ("cpu", "scaling")  # a load generator and what it loads would only be in each other's way on one CPU


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="two minutes: fewer rounds, servers and sessions")
    options.add_argument("--only", choices=SECTIONS, action="append", help="one section; may be repeated")
    options.add_argument("--any-cpu", action="store_true", help="leave CPU times to where the scheduler puts servers")
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "out", help="where tables and plots go")
    options.add_argument("--docs", action="store_true", help="put tables and plots into docs/ as well")
    chosen = options.parse_args()
    begin = time.monotonic()
    run = Run(QUICK if chosen.quick else FULL)
    wanted = [name for name in SECTIONS if name in (chosen.only or SECTIONS)]
    for pinned, names in itertools.groupby(wanted, PINNED.__contains__):
        with one_cpu() if pinned and not chosen.any_cpu else nullcontext(), open_places() as run.places:
            for name in names:
                start = time.monotonic()
                asyncio.run(SECTIONS[name](run))  # type: ignore[arg-type]
                print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    text = render(run.results)
    print(text)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "results.md").write_text(text)
    files = draw(run.results, chosen.out)
    if chosen.docs:
        _into_docs(text, run.results)
    print(f"{time.monotonic() - begin:.0f} s; plots: {', '.join(file.name for file in files)} in {chosen.out}")


def _into_docs(text: str, results: Results) -> None:
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}")
    draw(results, ROOT / "docs" / "images")


if __name__ == "__main__":
    main()
