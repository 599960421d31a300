"""No read through a near cache is older than allowed, even if servers, connections and processes fail.

Four processes read and write the same records, and log this with times of the machine's monotonic
clock, which they share. A read is stale if it began more than `max_stale` after a newer write, or
an end of the record that it returned, had returned to its caller.
"""

import asyncio
import os
import random
import signal
import sys
from bisect import bisect_right
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import accumulate
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from msgspec import Struct
from servers.redis_server import Server, free_port, one_server
from tests.forks import forking
from tests.numbers import FULL
from tests.processes import ENVIRONMENT
from tests.storage.near_cache_worker import ENDED, ENTRY, HIT, KEYS, READ, WRITTEN
from tests.tcp_proxy import Proxy, proxy_to

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

MAX_STALE = [0.1, 0.0]  # of the processes, in turn
WORKER = Path(__file__).with_name("near_cache_worker.py")


@pytest.fixture(scope="module")
def durable() -> Generator[Server]:
    """A server that loses nothing when it is killed, and that can track only some of the records."""
    with one_server("--appendonly", "yes", "--appendfsync", "no", "--tracking-table-max-keys", "100") as server:
        yield server


class Verdict(Struct):
    """What the logs say."""

    reads: int = 0
    hits: int = 0
    stale: int = 0
    lost_updates: int = 0


class Run:
    """Processes at work, some of them through a proxy, and the accidents that happen to them."""

    def __init__(self, server: Server, folder: Path, number: int, fault: str, stack: AsyncExitStack) -> None:
        self.server, self.folder, self.number, self.fault = server, folder, number, fault
        self.stack = stack
        self.proxies: list[Proxy | None] = []
        self.processes: list[int] = []
        self.own_log = folder / "accidents-0"

    async def start(self) -> None:
        pipe = asyncio.subprocess.PIPE
        with forking("sessioncore.storage.redis"):
            self.parent = await asyncio.create_subprocess_exec(
                sys.executable, str(WORKER), env=ENVIRONMENT, stdin=pipe, stdout=pipe
            )
        self.stack.push_async_callback(self.parent.communicate, b"")
        for number in range(self.number):
            proxied = number < (self.number + 1) // 2
            self.proxies.append(await self.stack.enter_async_context(proxy_to(self.server.port)) if proxied else None)
            self.processes.append(await self.spawn(number))

    async def spawn(self, number: int) -> int:
        proxy = self.proxies[number]
        port = self.server.port if proxy is None else proxy.port
        log = self.log_of(number)
        stale = log.name.partition("-")[2]
        return await self.tell(f"redis://127.0.0.1:{port}/0 {log} {stale} {number} {self.number} {self.fault}")

    async def tell(self, line: str) -> int:
        """Have a process started or killed; return its id."""
        into, out = self.parent.stdin, self.parent.stdout
        assert into is not None
        assert out is not None
        into.write(f"{line}\n".encode())
        return int(await out.readline())

    def log_of(self, number: int) -> Path:
        return self.folder / f"{number}-{MAX_STALE[number % len(MAX_STALE)]}"

    def entries(self) -> list[int]:
        """How many entries each process has logged."""
        logs = map(self.log_of, range(self.number))
        return [log.stat().st_size // ENTRY.size if log.exists() else 0 for log in logs]

    async def progress(self, most: int = 1000) -> None:
        """Wait until each process has logged `most` more entries."""
        goals = [count + most for count in self.entries()]
        async with asyncio.timeout(60):
            while any(count < goal for count, goal in zip(self.entries(), goals, strict=True)):
                assert self.parent.returncode is None
                await asyncio.sleep(0.05)

    async def finish(self) -> Verdict:
        await self.parent.communicate(b"")
        assert self.parent.returncode == 0
        return judged(self.folder)

    # -- accidents

    async def kill_a_process(self) -> None:
        number = random.randrange(self.number)
        await self.tell(f"kill {self.processes[number]}")
        self.processes[number] = await self.spawn(number)

    async def kill_the_server(self) -> None:
        self.server.kill()
        self.server.start()

    async def lose_packets(self) -> None:
        """Nothing passes for half a second, and afterwards on new connections only."""
        proxies = [proxy for proxy in self.proxies if proxy is not None]
        for proxy in proxies:
            proxy.swallow = True
        await asyncio.sleep(0.5)
        for proxy in proxies:
            proxy.swallow, proxy.half_open = False, proxy.connections

    async def freeze_the_server(self) -> None:
        await frozen(self.server.pid, random.choice([0.2, 0.6, 1.2]))

    async def freeze_a_process(self) -> None:
        await frozen(random.choice(self.processes), 0.3)

    async def flush(self) -> None:
        began = monotonic()
        self.server.do("FLUSHALL")
        with self.own_log.open("ab") as log:
            for key in range(len(KEYS)):
                log.write(ENTRY.pack(ENDED, key, began, monotonic(), 0, 0))

    async def close_connections(self) -> None:
        self.server.do("CLIENT", "KILL", "TYPE", "normal")

    async def demote(self) -> None:
        self.server.do("REPLICAOF", "127.0.0.1", free_port())
        await asyncio.sleep(0.2)
        self.server.do("REPLICAOF", "NO", "ONE")


async def frozen(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


ACCIDENTS: list[Callable[[Run], Awaitable[None]]] = [
    Run.kill_a_process, Run.kill_the_server, Run.lose_packets, Run.freeze_the_server, Run.freeze_a_process,
    Run.flush, Run.close_connections, Run.demote,
]  # fmt: skip


def accidents() -> Iterator[Callable[[Run], Awaitable[None]]]:
    """All accidents in random order, again and again."""
    while True:
        yield from random.sample(ACCIDENTS, len(ACCIDENTS))


@asynccontextmanager
async def running(server: Server, folder: Path, number: int, fault: str = "none") -> AsyncGenerator[Run]:
    server.do("FLUSHALL")
    async with AsyncExitStack() as stack:
        run = Run(server, folder, number, fault, stack)
        await run.start()
        await run.progress()
        yield run


def judged(folder: Path) -> Verdict:
    """Compare every read with the writes that had returned before it began."""
    verdict = Verdict()
    reads: list[tuple[int, float, tuple[int, int]]] = []  # key, time up to which it must know all changes, result
    changes: dict[int, list[Any]] = {key: [] for key in range(len(KEYS))}
    for path in folder.iterdir():
        max_stale = float(path.name.partition("-")[2])
        log = path.read_bytes()
        for entry in ENTRY.iter_unpack(log[: len(log) // ENTRY.size * ENTRY.size]):  # the last one may be incomplete
            what, key, began, _, life, count = entry
            if what in {READ, HIT}:
                verdict.hits += what == HIT
                reads.append((key, began - max_stale, (life, count)))
            else:
                changes[key].append(entry)
    for some in changes.values():
        written = [entry[4:] for entry in some if entry[0] == WRITTEN]
        verdict.lost_updates += len(written) - len(set(written))
    floors = {key: floors_of(some) for key, some in changes.items()}
    for key, known_by, found in reads:
        times, least = floors[key]
        known = bisect_right(times, known_by)
        verdict.stale += known > 0 and found < least[known - 1]
    verdict.reads = len(reads)
    return verdict


def floors_of(changes: list[Any]) -> tuple[list[float], list[tuple[int, int]]]:
    """Return times, and for each of them the oldest record that a read after it may return."""
    created = sorted((returned, life) for what, _, _, returned, life, count in changes if what == WRITTEN and not count)
    steps: list[tuple[float, tuple[int, int]]] = []
    for what, _, began, returned, life, count in changes:
        if what == WRITTEN:
            steps.append((returned, (life, count)))
        else:  # it ended every life that had begun by then
            before = [of for at, of in created if at < began]
            steps.append((returned, (max(before, default=0) + 1, 0)))
    steps.sort()
    return [at for at, _ in steps], list(accumulate((floor for _, floor in steps), max))


@pytest.mark.proves("P2", "P4", "AT-125")
async def test_no_read_is_stale_and_no_update_lost_whatever_happens(durable: Server, tmp_path: Path) -> None:
    wanted = 1_000_000 if FULL else 60_000  # log entries, about as many as one round of accidents yields
    async with running(durable, tmp_path, 4) as run:
        for number, accident in enumerate(accidents(), 1):
            await accident(run)
            await run.progress()
            if number >= len(ACCIDENTS) and sum(run.entries()) >= wanted:
                break
        verdict = await run.finish()
    assert (verdict.stale, verdict.lost_updates) == (0, 0)
    assert verdict.reads > 0.8 * wanted
    assert verdict.hits > 0.1 * wanted


@pytest.mark.parametrize(
    ("fault", "accident"),
    # A frozen process reads replies together with the invalidations that came after them.
    [("marker", Run.freeze_a_process), ("proof", Run.lose_packets)],
    ids=["marker", "proof"],
)
async def test_a_cache_with_a_fault_is_caught(
    durable: Server, tmp_path: Path, fault: str, accident: Callable[[Run], Awaitable[None]]
) -> None:
    async with running(durable, tmp_path, 2, fault) as run:
        for _ in range(100):  # the fault shows only if a change arrives at the wrong moment
            await accident(run)
            await run.progress(100)
            if judged(tmp_path).stale > 0:
                break
        verdict = await run.finish()
    assert verdict.stale > 0
    assert verdict.lost_updates == 0  # because each write is a compare-and-set
