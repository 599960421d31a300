"""What a library guarantees, beside what it costs.

It counts updates that survive when fifty requests write one session at the same
time; sessions that live on after their logout because a slow request wrote them
back; records of visitors who never write; and objects that only the garbage
collector can free.
"""

import asyncio
import gc
from dataclasses import dataclass
from typing import Any

from benchmarks.drivers import Driver, cookie_line, drive
from benchmarks.places import Places
from benchmarks.workloads import SLOW

__all__ = ["Kept", "check_promises"]

PARALLEL, RACES, STRANGERS, REQUESTS = 50, 20, 1000, 1000


@dataclass
class Kept:
    """The outcome for one contender on one storage."""

    kept: int  # of 50
    resurrected: int  # of 20
    strangers: int  # records, or cookies where the data is in the cookie
    garbage: float  # objects per request


async def check_promises(contender: Any, storage: str, places: Places) -> Kept:
    """Try one contender on one storage."""
    if storage == "redis":
        places.flush_redis()
    async with drive(contender, places.place(storage)) as driver:
        kept = await _parallel_updates(driver)
        resurrected = sum(await asyncio.gather(*(_logout_race(driver) for _ in range(RACES))))
    if storage == "redis":
        places.flush_redis()
    async with drive(contender, places.place(storage)) as driver:
        cookies = 0
        for _ in range(STRANGERS):
            cookies += bool((await driver.request("/look")).cookie)
        strangers = places.redis_size() if storage == "redis" else cookies
        garbage = await _garbage(driver, 50 if storage == "redis-8" else REQUESTS)
    return Kept(kept, resurrected, strangers, garbage)


async def _parallel_updates(driver: Driver) -> int:
    """Fifty requests set a key each; in a cookie model the browser keeps the last answer's cookie."""
    cookie = await driver.visitor()
    replies = await asyncio.gather(*(driver.request("/slow-set", cookie) for _ in range(PARALLEL)))
    cookies = [reply.cookie for reply in replies if reply.cookie]
    last = cookie_line(cookies[-1]) if cookies else cookie
    return int((await driver.request("/has", last)).body.split()[0])


async def _logout_race(driver: Driver) -> bool:
    """A slow request loads before the logout and answers after it; return whether either cookie works afterwards."""
    cookie = await driver.visitor()
    slow = asyncio.create_task(driver.request("/slow-set", cookie))
    await asyncio.sleep(SLOW / 2)
    await driver.request("/logout", cookie)
    reply = await slow
    seen = [await driver.request("/has", cookie)]
    if reply.cookie:
        seen.append(await driver.request("/has", cookie_line(reply.cookie)))
    return any(again.body.endswith(b"True") for again in seen)


async def _garbage(driver: Driver, requests: int) -> float:
    """Objects in cycles, per request that reads."""
    cookies = [await driver.visitor()] * requests
    await driver.burst("/read", cookies[:10])
    gc.collect()
    gc.disable()
    try:
        await driver.burst("/read", cookies)
        return gc.collect() / requests
    finally:
        gc.enable()
