"""A second process for the tests: `python postgres_worker.py JOB DSN TABLE`, one line out when done."""

import asyncio
import random
import sys
from datetime import timedelta

from tests.numbers import scaled

from sessioncore.storage import Stored
from sessioncore.storage.postgres import PostgresStorage


async def increment(storage: PostgresStorage) -> None:
    """Add one, 25 times, all at once."""

    async def once() -> None:
        current = await storage.load("counter")
        while True:
            assert isinstance(current, Stored)
            data = b"%d" % (int(current.data) + 1)
            result = await storage.replace("counter", data, 100, version=current.version)
            if isinstance(result, int):
                return
            assert isinstance(result, Stored)
            current = result

    await asyncio.gather(*(once() for _ in range(25)))


async def write_until_gone(storage: PostgresStorage) -> None:
    """Be the requests that are still in flight when their session is ended."""

    async def keep_on(key: str) -> None:
        current = await storage.load(key, renew=100)
        at = current.version if isinstance(current, Stored) else 0
        while True:
            result = await storage.replace(key, b"written", 100, version=at, owner="u")
            if not isinstance(result, int | Stored):
                break
            at = result.version if isinstance(result, Stored) else result
            await storage.touch(key, 100)
        await storage.touch(key, 100)
        await storage.load(key, renew=100)

    await asyncio.gather(*(keep_on(f"race:{number}") for number in range(scaled(1000))))


async def end(storage: PostgresStorage) -> None:
    """Log all of them out, one by one, in any order; each must be found once."""
    numbers = list(range(scaled(1000)))
    random.shuffle(numbers)
    for number in numbers:
        assert await storage.delete(f"race:{number}") == 1
        assert await storage.load(f"race:{number}") is None


async def main(job: str, dsn: str, table: str) -> None:
    storage = PostgresStorage(dsn, table=table, timeout=timedelta(minutes=1))
    await storage.open()
    await {"increment": increment, "write_until_gone": write_until_gone, "end": end}[job](storage)
    await storage.aclose()
    print("done")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
