"""Real servers, real sockets: 32 connections of wrk against one server process.

On two cores the load generator takes one and the server shares the other with
whatever storage there is, so requests per second say what a small machine does;
the server's own CPU per request, read from /proc, says what the library costs.
Runs are interleaved in rounds, like the others.
"""

import http.client
import json
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.drivers import REQUEST_HEADERS, cookie_line
from benchmarks.places import Places
from servers.redis_server import free_port

__all__ = ["CASES", "QUICK_CASES", "Load", "measure_http"]

CONNECTIONS = 32
TICKS = 100  # per second: /proc counts CPU time in these
ROOT = Path(__file__).parent.parent

# server, contender, storage
CASES = [
    ("uvicorn", "bare:asgi", "none"),
    ("uvicorn", "floor", "memory"),
    ("uvicorn", "sessioncore_asgi", "memory"),
    ("uvicorn", "starlette_cookie", "cookie"),
    ("uvicorn", "starsessions_", "memory"),
    ("uvicorn", "floor", "redis"),
    ("uvicorn", "sessioncore_asgi", "redis"),
    ("uvicorn", "starsessions_", "redis"),
    ("granian", "bare:asgi", "none"),
    ("granian", "sessioncore_asgi", "memory"),
    ("granian", "starlette_cookie", "cookie"),
    ("granian", "starsessions_", "memory"),
    ("aiohttp", "bare:aiohttp", "none"),
    ("aiohttp", "sessioncore_aiohttp", "memory"),
    ("aiohttp", "sessioncore_aiohttp", "redis"),
    ("aiohttp", "aiohttp_session_", "redis"),
]
QUICK_CASES = CASES[:8]


@dataclass
class Load:
    """What one server did with reads under load; a list item per round."""

    per_second: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)  # microseconds of the server, per request
    p50: list[float] = field(default_factory=list)  # milliseconds
    p99: list[float] = field(default_factory=list)

    def figure(self, name: str) -> float:
        """The median over the rounds."""
        return statistics.median(getattr(self, name))


def measure_http(places: Places, cases: list[tuple[str, str, str]], rounds: int, seconds: float) -> dict[Any, Load]:
    """Return the load of each case; cases whose application cannot be built here are left out."""
    if shutil.which("wrk") is None:
        print("wrk is not here, so nothing is measured over HTTP; on Debian: apt-get install wrk")
        return {}
    found: dict[Any, Load] = {}
    for server in dict.fromkeys(case[0] for case in cases):
        _measure_server([case for case in cases if case[0] == server], places, rounds, seconds, found)
    return found


def _measure_server(
    cases: list[tuple[str, str, str]], places: Places, rounds: int, seconds: float, found: dict[Any, Load]
) -> None:
    """Start all of one server's cases, and load them in turn: those that are idle cost nothing."""
    running = [(case, _started(case, places)) for case in cases]
    try:
        ready = [(case, process, port, _ready(case, process, port)) for case, (process, port) in running]
        for number in range(rounds + 1):
            for case, process, port, cookie in ready:
                if cookie is not None:
                    load = found.setdefault(case, Load()) if number else Load()
                    _wrk(process.pid, port, cookie, seconds if number else 0.3, load)  # round 0 warms up
    finally:
        for _, (process, _) in running:
            process.terminate()
        for _, (process, _) in running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _started(case: tuple[str, str, str], places: Places) -> tuple[subprocess.Popen[bytes], int]:
    server, contender, storage = case
    port = free_port()
    asked = {"contender": contender, "storage": storage, "url": places.place(storage).url}
    line = json.dumps({**asked, "server": server, "port": port})
    return subprocess.Popen([sys.executable, "-m", "benchmarks.serve", line], cwd=ROOT, stderr=subprocess.PIPE), port


def _ready(case: tuple[str, str, str], process: subprocess.Popen[bytes], port: int) -> bytes | None:
    """Wait until it answers; return the cookie of a visitor with a session, or None if it does not start."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if process.poll() is not None:
            assert process.stderr is not None
            last = process.stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
            print(f"left out of HTTP: {' '.join(case)}: {last}")
            return None
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/fill")
            reply = connection.getresponse()
            reply.read()
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
            continue
        pairs = [line.partition(";")[0] for name, line in reply.getheaders() if name.lower() == "set-cookie"]
        if reply.status != 200:
            raise RuntimeError(f"{case} answered {reply.status}")
        return cookie_line("; ".join(pairs).encode() or b"sid=none")
    raise TimeoutError(f"{case} does not answer")


def _wrk(pid: int, port: int, cookie: bytes, seconds: float, load: Load) -> None:
    headers = [f"{name.decode()}: {value.decode()}" for name, value in [*REQUEST_HEADERS[1:], (b"cookie", cookie)]]
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "--latency"]
    for header in headers:
        command += ["-H", header]
    before = _cpu(pid)
    done = subprocess.run([*command, f"http://127.0.0.1:{port}/read"], capture_output=True, text=True, check=True)
    spent = _cpu(pid) - before
    if "Non-2xx" in done.stdout:
        raise RuntimeError(f"the server on {port} answered with errors:\n{done.stdout}")
    requests = int(re.findall(r"(\d+) requests in", done.stdout)[0])
    load.per_second.append(float(re.findall(r"Requests/sec:\s+([\d.]+)", done.stdout)[0]))
    load.cpu.append(spent / requests * 1e6)
    load.p50.append(_milliseconds(done.stdout, "50%"))
    load.p99.append(_milliseconds(done.stdout, "99%"))


def _milliseconds(text: str, name: str) -> float:
    value, unit = re.findall(rf"{name}\s+([\d.]+)(us|ms|s)", text)[0]
    return float(value) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def _cpu(pid: int) -> float:
    """Seconds that a process and its children have used."""
    total = 0.0
    for one in _family(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def _family(pid: int) -> Generator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _family(int(child))
