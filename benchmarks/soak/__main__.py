"""Run the soak: `python -m benchmarks.soak [--minutes 10] [--plot docs/images/soak]`.

Three server processes, one for each adapter, share one Redis and have a near cache. Visitors write, log in and out,
open sockets and streams; every few seconds Redis stands still for a moment or for longer than a call may take, or it is
killed and started again, or its connections are cut, or it forgets its scripts. Memory, descriptors, connections and
keys must be as flat at the end as in the middle, and no update is lost: this Redis writes each to its disk at once.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
from benchmarks.soak.plot import draw
from benchmarks.soak.visitors import Tally, Visitor
from msgspec import Struct
from servers.redis_server import Server, free_port, one_server

ADAPTERS = ("asgi", "litestar", "aiohttp")
VISITORS = 40
PERIOD = 2.0  # seconds between two samples
# By how much the mean of the last quarter may exceed that of the second one: memory in MiB, the others in numbers.
TOLERANCE = {"memory": 8.0, "descriptors": 10.0, "connections": 6.0, "keys": 60.0}


class Sample(Struct):
    """The figures at one moment."""

    seconds: float
    memory: list[float]  # MiB of each server process
    descriptors: list[int]
    connections: int
    keys: int


def sample(began: float, processes: list[subprocess.Popen[bytes]], server: Server) -> Sample:
    memory, descriptors = [], []
    for process in processes:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        memory.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
        descriptors.append(len([*Path(f"/proc/{process.pid}/fd").iterdir()]))
    info = server.do("INFO", "clients")
    return Sample(
        time.monotonic() - began, memory, descriptors, int(info["connected_clients"]), int(server.do("DBSIZE"))
    )


async def trouble(server: Server) -> None:
    """Cause a fault in Redis every few seconds."""
    while True:
        await anyio.sleep(random.uniform(5, 15))
        with anyio.CancelScope(shield=True):  # a fault that has begun is also ended
            match random.choice(["cut", "kill", "stop", "stop", "scripts"]):
                case "cut":
                    await anyio.to_thread.run_sync(server.do, "CLIENT", "KILL", "TYPE", "normal")
                case "kill":
                    await anyio.to_thread.run_sync(server.kill)
                    await anyio.sleep(random.uniform(0, 3))
                    await anyio.to_thread.run_sync(server.start)
                case "stop":
                    server.signal(signal.SIGSTOP)
                    await anyio.sleep(random.choice([0.2, 3, 7]) * random.random())
                    server.signal(signal.SIGCONT)
                case _:
                    await anyio.to_thread.run_sync(server.do, "SCRIPT", "FLUSH")


async def soak(minutes: float) -> tuple[list[Sample], Tally]:
    tally, samples = Tally(), list[Sample]()
    with one_server("--appendonly", "yes", "--appendfsync", "always") as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        ports = [free_port() for _ in ADAPTERS]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        processes = [
            subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-m", "benchmarks.soak.app", adapter, url, str(port)], env=environment
            )
            for adapter, port in zip(ADAPTERS, ports, strict=True)
        ]
        try:
            await anyio.sleep(3)
            began = time.monotonic()
            async with anyio.create_task_group() as tasks:
                for _ in range(VISITORS):
                    tasks.start_soon(Visitor(ports, tally).live)
                tasks.start_soon(trouble, server)
                while time.monotonic() - began < minutes * 60:
                    await anyio.sleep(PERIOD)
                    try:
                        with anyio.fail_after(10):
                            samples.append(
                                await anyio.to_thread.run_sync(sample, began, processes, server, abandon_on_cancel=True)
                            )
                    except Exception as exc:  # noqa: BLE001 - this soak has cut the connection
                        sys.stderr.write(f"no sample: {type(exc).__name__}\n")
                tasks.cancel_scope.cancel()
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(20)
    return samples, tally


def growth(samples: list[Sample]) -> dict[str, float]:
    """Return by how much the mean of the last quarter exceeds that of the second one."""
    quarter = len(samples) // 4
    middle, last = samples[quarter : 2 * quarter], samples[3 * quarter :]

    def mean(some: list[Sample], name: str) -> float:
        values = [getattr(each, name) for each in some]
        return sum(sum(value) if isinstance(value, list) else value for value in values) / len(values)

    return {name: mean(last, name) - mean(middle, name) for name in TOLERANCE}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    samples, tally = anyio.run(soak, options.minutes)
    grown = growth(samples)
    if options.plot is not None:
        draw(samples, ADAPTERS, options.plot)
    print(f"{tally.answered} answers, {tally.failed} failures, {tally.sockets} sockets of which {tally.ended} ended")
    print(f"growth from the second to the last quarter: { {name: round(value, 1) for name, value in grown.items()} }")
    print(f"{len(tally.lost)} lost updates", *tally.lost[:10], sep="\n")
    return int(bool(tally.lost) or any(grown[name] > most for name, most in TOLERANCE.items()))


if __name__ == "__main__":
    sys.exit(main())
