"""The goals of sessioncore, compared with one run. Every bar is a ratio within that run."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.results import Results, Who
from benchmarks.scaling import ENCODED

__all__ = ["BARS", "Bar"]

OURS: Who = ("sessioncore", "memory")
OURS_IN_REDIS: Who = ("sessioncore", "redis")
STARSESSIONS: Who = ("starsessions", "redis")
FLOOR: Who = ("hand-written floor", "memory")
PEERS = ("starsessions", "Litestar server-side")  # that can hold 110 KiB in memory
STARLETTE: Who = ("Starlette SessionMiddleware", "cookie")
BARE = ("uvicorn", "bare:asgi", "none")
HTTP_MEMORY = ("uvicorn", "sessioncore_asgi", "memory")
HTTP_REDIS = ("uvicorn", "sessioncore_asgi", "redis")


@dataclass(frozen=True)
class Bar:
    """One ratio and its limit, which is the most; with `least`, the least."""

    text: str
    limit: float
    measure: Callable[[Results], float | None]
    least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit


def _cpu(workload: str, ours: Who, theirs: Who) -> Callable[[Results], float | None]:
    return lambda results: results.ratio(workload, ours, theirs)


def _large(results: Results) -> float | None:
    """Of the best peer."""
    figures = results.cpu.get("large", {})
    peers = [
        f.median for who, f in figures.items() if who[1] == "memory" and not who[0].startswith(("session", "hand"))
    ]
    return figures[OURS].median / min(peers) if OURS in figures and peers else None


def _aiohttp_trips(results: Results) -> float | None:
    found = results.traffic.get(("sessioncore (aiohttp)", "redis"))
    return found[1]["read"].trips if found is not None else None


def _http(case: tuple[str, str, str]) -> Callable[[Results], float | None]:
    def part_of_bare(results: Results) -> float | None:
        ratio = results.http_ratio("cpu", case, BARE)
        return None if ratio is None else 1 / ratio

    return part_of_bare


def _garbage(results: Results) -> float | None:
    ours = [kept.garbage for who, kept in results.promises.items() if who[0].startswith("sessioncore")]
    return max(ours) if ours else None


def _memory(results: Results) -> float | None:
    counts = results.scaling.get(OURS)
    return counts[max(counts)]["bytes"] / ENCODED if counts else None


BARS = (
    Bar("ASGI, memory, read: of the floor", 3.0, _cpu("read", OURS, FLOOR)),
    Bar("ASGI, memory, read: of Starlette's cookie", 0.35, _cpu("read", OURS, STARLETTE)),
    Bar("ASGI, memory, read and write: of the floor", 3.0, _cpu("update", OURS, FLOOR)),
    Bar("ASGI, memory, read and write: of Starlette's cookie", 0.3, _cpu("update", OURS, STARLETTE)),
    Bar("ASGI, anonymous untouched: of Starlette's cookie", 0.4, _cpu("untouched", OURS, STARLETTE)),
    Bar("ASGI, memory, first write: of Starlette's cookie", 0.8, _cpu("first", OURS, STARLETTE)),
    Bar("memory, read 1 of 100 keys: of the best peer", 0.1, _large),
    Bar(
        "Litestar, memory, read: of its own server-side backend",
        0.3,
        _cpu("read", ("sessioncore (Litestar)", "memory"), ("Litestar server-side", "memory")),
    ),
    Bar(
        "aiohttp, Redis, read: of aiohttp-session",
        0.45,
        _cpu("read", ("sessioncore (aiohttp)", "redis"), ("aiohttp-session", "redis")),
    ),
    Bar(
        "aiohttp, Redis, read, 32 at a time: of aiohttp-session",
        0.45,
        _cpu("crowded", ("sessioncore (aiohttp)", "redis"), ("aiohttp-session", "redis")),
    ),
    Bar("aiohttp, Redis, read: round trips", 1.0, _aiohttp_trips),
    Bar("ASGI, Redis, read: of starsessions", 0.25, _cpu("read", OURS_IN_REDIS, STARSESSIONS)),
    Bar("ASGI, Redis, read, 32 at a time: of starsessions", 0.25, _cpu("crowded", OURS_IN_REDIS, STARSESSIONS)),
    Bar("HTTP, memory, read: bare's server CPU as a part of ours", 0.65, _http(HTTP_MEMORY), least=True),
    Bar("HTTP, Redis, read: bare's server CPU as a part of ours", 0.45, _http(HTTP_REDIS), least=True),
    Bar("HTTP, memory, read: p99 in bare's", 2.0, lambda results: results.http_ratio("p99", HTTP_MEMORY, BARE)),
    Bar("cyclic objects per request, at most on any framework and storage", 0.0, _garbage),
    Bar("memory per session, in encoded bytes of its data", 1.6, _memory),
)
