"""What one request of each workload sends: to the storage, and over HTTP."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.cpu import cookies_for
from benchmarks.drivers import bare_driver, drive
from benchmarks.places import Place, Places
from benchmarks.wire import Tally, proxy, traced_sqlite

__all__ = ["WORK", "Traffic", "count_traffic"]

WORK = ("untouched", "first", "read", "update", "login")
REQUESTS = 20


@dataclass
class Traffic:
    """Means per request."""

    commands: float
    trips: float | None  # None: the storage is not at the other end of a wire
    stored: float  # bytes to and from the storage
    response: float  # bytes of response headers over bare


async def count_traffic(contender: Any, storage: str, places: Places) -> tuple[int, dict[str, Traffic]]:
    """Return the bytes of the session's cookie in a request, and the traffic of each workload."""
    async with bare_driver(contender.FAMILY) as none:
        plain = (await none.request("/read")).header_bytes
    async with _tallied(storage, places) as (place, tally), drive(contender, place) as driver:
        for workload in WORK:  # connections, scripts and tables are there after this
            await driver.burst(f"/{workload}", await cookies_for(driver, workload, 2))
        found: dict[str, Traffic] = {}
        for workload in WORK:
            cookies = await cookies_for(driver, workload, REQUESTS)
            tally.reset()
            replies = [await driver.request(f"/{workload}", cookie) for cookie in cookies]
            trips = tally.trips / REQUESTS if storage in {"redis", "redis-8", "postgres"} else None
            stored = (tally.sent + tally.received) / REQUESTS
            response = sum(reply.header_bytes - plain for reply in replies) / REQUESTS
            found[workload] = Traffic(tally.commands / REQUESTS, trips, stored, response)
        cookie = len(await driver.visitor()) - len(b"lang=en; ; theme=dark")
        return cookie, found


@asynccontextmanager
async def _tallied(storage: str, places: Places) -> AsyncGenerator[tuple[Place, Tally]]:
    """Yield a place whose storage is counted."""
    if storage in {"redis", "redis-8"}:
        async with proxy(places.redis_port if storage == "redis" else places.newer_port, "redis") as (port, tally):
            yield places.place(storage, f"redis://127.0.0.1:{port}/0"), tally
    elif storage == "postgres":
        async with proxy(places.postgres_port, "postgres") as (port, tally):
            yield places.place("postgres", places.dsn.replace(f":{places.postgres_port}/", f":{port}/")), tally
    elif storage == "sqlite":
        with traced_sqlite() as tally:
            yield places.place("sqlite"), tally
    else:
        yield places.place(storage), Tally()
