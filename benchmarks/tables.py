"""The figures as Markdown, which also reads as text."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.bars import BARS
from benchmarks.results import Results
from benchmarks.scaling import ENCODED
from benchmarks.traffic import WORK
from benchmarks.workloads import WORKLOADS

__all__ = ["render"]

# ours: those that are measured in the same rounds
PEERS = {
    "sessioncore": ("hand-written floor", "Starlette SessionMiddleware", "starsessions"),
    "sessioncore (aiohttp)": ("aiohttp-session",),
    "sessioncore (Litestar)": ("Litestar cookie", "Litestar server-side"),
}

PACKAGES = (
    "sessioncore", "starlette", "starsessions", "aiohttp", "aiohttp-session", "litestar",
    "fastapi-redis-sdk", "fastapi", "redis", "hiredis", "asyncpg", "msgspec", "anyio", "uvicorn",
    "uvloop", "httptools", "granian",
)  # fmt: skip


def render(results: Results) -> str:
    """Return every table that has figures."""
    parts = [
        _machine(),
        _bars(results),
        _cpu(results),
        _crowded(results),
        _shares(results),
        _traffic(results),
        _promises(results),
    ]
    parts += [_http(results), _scaling(results), _imports(results), _left_out(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    lines.insert(1, ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])])
    padded = [[line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])] for line in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)


def _number(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


def _machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())
    servers = [_first_line("redis-server", "--version"), _first_line("psql", "--version").removeprefix("psql ")]
    versions = ", ".join(f"{name} {version}" for name in PACKAGES if (version := _version(name)))
    return (
        f"Machine: {model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end of the run; "
        f"{platform.system()} {platform.release().partition('-')[0]}, Python {sys.version.split()[0]}.\n"
        f"Servers: {'; '.join(filter(None, servers))}.\nPackages: {versions}."
    )


def _first_line(*command: str) -> str:
    try:
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return text.splitlines()[0].partition(" sha=")[0].partition(" (Debian")[0]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _bars(results: Results) -> str:
    rows: list[list[str]] = []
    for bar in BARS:
        value = bar.measure(results)
        if value is not None:
            limit = f"{'≥' if bar.least else '≤'} {bar.limit:g}"
            rows.append([bar.text, limit, f"{value:.2f}", "met" if bar.met(value) else "missed"])
    return "### Bars\n\n" + _table(["bar", "limit", "measured", ""], rows) if rows else ""


def _cpu(results: Results) -> str:
    if not results.cpu:
        return ""
    everyone = list(dict.fromkeys(who for figures in results.cpu.values() for who in figures))
    rows: list[list[str]] = []
    for who in everyone:
        cells = [results.cpu[workload].get(who) for workload in results.cpu]
        shown = ["" if f is None else f"{f} ({_number(f.low)} to {_number(f.high)})" for f in cells]
        rows.append([f"{who[0]}, {who[1]}", *shown])
    head = ["library, storage", *(WORKLOADS[workload] for workload in results.cpu)]
    title = "### CPU per request over the bare application\n\nMicroseconds of the process: median, and quartiles.\n\n"
    return title + _table(head, rows)


def _crowded(results: Results) -> str:
    rows = [[who[0], str(f), f"{_number(f.low)} to {_number(f.high)}"] for who, f in results.crowded.items()]
    title = "### The same from Redis with 32 requests under way at a time\n\nMicroseconds of CPU over bare, read.\n\n"
    return title + _table(["library", "median", "quartiles"], rows) if rows else ""


def _shares(results: Results) -> str:
    names = [*WORKLOADS, "crowded"]
    rows: list[list[str]] = []
    for ours, peers in PEERS.items():
        for peer, storage in dict.fromkeys(who for figures in results.cpu.values() for who in figures):
            if peer in peers:
                own = (ours, "memory" if storage == "cookie" else storage)
                found = [results.ratio(name, own, (peer, storage)) for name in names]
                cells = ["" if ratio is None else f"{ratio:.2f}" for ratio in found]
                rows.append([f"{ours}, {own[1]}, of {peer}, {storage}", *cells])
    title = (
        "### sessioncore's cost as a part of theirs\n\nThe median over the rounds of the ratio within each round.\n\n"
    )
    return title + _table(["", *WORKLOADS.values(), "read, 32 at a time"], rows) if rows else ""


def _traffic(results: Results) -> str:
    if not results.traffic:
        return ""
    rows: list[list[str]] = []
    for who, (cookie, work) in results.traffic.items():
        cells: list[str] = []
        for name in WORK:
            seen = work[name]
            if who[1] in {"memory", "cookie"}:
                cells.append("")
            else:
                cells.append(f"{seen.commands:g}" + ("" if seen.trips is None else f" in {seen.trips:g}"))
        stored = work["read"].stored
        sizes = [
            f"{stored:,.0f}" if stored else "",
            str(cookie),
            *(f"{work[n].response:,.0f}" for n in ("read", "update")),
        ]
        rows.append([f"{who[0]}, {who[1]}", *cells, *sizes])
    head = ["library, storage", *(WORKLOADS[name] for name in WORK)]
    head += ["storage bytes, read", "cookie bytes", "response bytes, read", "response bytes, write"]
    title = (
        "### What goes over the wire\n\nCommands or SQL statements per request, and in how many round trips; bytes "
        "to and from the storage for one read; bytes of the cookie in each request; bytes of headers added to each "
        "response.\n\n"
    )
    return title + _table(head, rows)


def _promises(results: Results) -> str:
    rows = [
        [f"{who[0]}, {who[1]}", str(k.kept), str(k.resurrected), str(k.strangers), f"{k.garbage:g}"]
        for who, k in results.promises.items()
    ]
    head = ["library, storage", "updates kept of 50", "alive after logout, of 20"]
    head += ["records or cookies for 1 000 strangers who only look", "cyclic objects per read"]
    return "### What is kept\n\n" + _table(head, rows) if rows else ""


def _http(results: Results) -> str:
    rows: list[list[str]] = []
    for case, load in results.http.items():
        bare = next(other for other in results.http if other[0] == case[0] and other[1].startswith("bare"))
        part = 1 / (results.http_ratio("cpu", case, bare) or 1)
        cells = [f"{load.figure('per_second'):,.0f}", _number(load.figure("cpu")), f"{part:.2f}"]
        cells += [_number(load.figure("p50")), _number(load.figure("p99"))]
        rows.append([case[0], case[1].strip("_"), case[2], *cells])
    head = [
        "server",
        "application",
        "storage",
        "requests/s",
        "server CPU, us",
        "bare's part of it",
        "p50, ms",
        "p99, ms",
    ]
    title = "### Over HTTP: reads, 32 connections of wrk, one server process\n\n"
    title += "Medians over the rounds.\n\n"
    return title + _table(head, rows) if rows else ""


def _scaling(results: Results) -> str:
    rows = [
        [f"{who[0]}, {who[1]}", f"{count:,}", *_scaled(who[1], found)]
        for who, counts in results.scaling.items()
        for count, found in counts.items()
    ]
    head = ["library, storage", "sessions", "bytes each", "in encoded bytes", "read, us", "read and write, us"]
    title = (
        f"### Among many sessions\n\nEach holds {ENCODED} bytes of data (MessagePack). Bytes are the process's own "
        "memory; a thousand sessions are too few to tell them from the allocator's steps.\n\n"
    )
    return title + _table(head, rows) if rows else ""


def _scaled(storage: str, found: dict[str, float]) -> list[str]:
    size = [f"{found['bytes']:,.0f}", f"{found['bytes'] / ENCODED:.2f}"] if storage == "memory" else ["", ""]
    return [*size, _number(found["read"]), _number(found["update"])]


def _imports(results: Results) -> str:
    rows = [[name, f"{spent:.0f}"] for name, spent in results.imports.items()]
    return "### Import\n\n" + _table(["import", "ms of CPU"], rows) if rows else ""


def _left_out(results: Results) -> str:
    rows = [f"{name} ({reason})" for name, reason in results.left_out.items()]
    return f"Left out: {'; '.join(rows)}." if rows else ""
