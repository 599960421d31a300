"""A process that works on sessions: `python session_worker.py NAME`, and `JOB URL ID...` on standard input.

It says `ready`, begins when another line arrives, says `done`, and waits for the next job.
"""

import asyncio
import random
import sys
from datetime import timedelta

from tests.numbers import scaled

from sessioncore import SessionConfig, SessionGone, SessionNotFound, SessionStore
from sessioncore.storage._url import storage_from_url


async def write(store: SessionStore, ids: list[str], name: str) -> None:
    """Set 25 keys of one session and count them, in 25 requests at the same time."""

    async def request(number: int) -> None:
        async with store.open(ids[0]) as session:
            session[f"{name}-{number}"] = number
            session.mutate("count", lambda count: count + 1)

    await asyncio.gather(*(request(number) for number in range(25)))


async def use(store: SessionStore, ids: list[str], _: str) -> None:
    """Act as the requests in flight: write to each session until it has ended."""
    limit = asyncio.Semaphore(20)

    async def requests(sid: str) -> None:
        for turn in range(scaled(1000)):
            async with limit:
                try:
                    async with store.open(sid) as session:
                        session["turn"] = turn
                except SessionNotFound:
                    return
                except SessionGone:
                    continue

    await asyncio.gather(*(requests(sid) for sid in ids))


async def log_out(store: SessionStore, ids: list[str], _: str) -> None:
    """End each session once, in any order, and check that it stays ended."""
    for sid in random.sample(ids, len(ids)):
        assert await store.delete(sid) is True
        try:
            (await store.get_by_id(sid)).release()
        except SessionNotFound:
            continue
        raise AssertionError("an ended session was found")


async def work(name: str, job: str, url: str, *ids: str) -> None:
    # On a busy machine, 25 requests at the same time on one session can take longer than the default of 5 s.
    config = SessionConfig(storage=storage_from_url(url), storage_timeout=timedelta(minutes=1))
    async with SessionStore(config) as store:
        print("ready", flush=True)
        sys.stdin.readline()
        await {"write": write, "use": use, "log_out": log_out}[job](store, [*ids], name)
    print("done", flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        asyncio.run(work(sys.argv[1], *line.split()))
