"""A separate process for the tests of poolers: `python pooler_worker.py JOB ORDER DSN TABLE` prints the result.

A test runs two of them, which differ in ORDER, and so in the statements that they use first.
"""

import asyncio
import random
import sys

from tests.numbers import scaled
from tests.storage.history import Model
from tests.storage.postgres_rigs import driver

from sessioncore.storage.postgres import PostgresStorage


async def mix(order: str, dsn: str, table: str) -> None:
    """Act as eight visitors, each of whom knows what its keys must hold; print the records that are left.

    In a full run, the two processes make 10,000 calls.
    """
    storage = PostgresStorage(dsn, table=table)
    names = [f"{order}-{number}:" for number in range(8)]
    models = [Model(storage, random.Random(name), prefix=name) for name in names]

    async def play(model: Model) -> None:
        for _ in range(scaled(5000) // 8):
            await model.step()
        await model.compare()

    await asyncio.gather(*map(play, models))
    await storage.aclose()
    for model in models:
        for key in model.keys:
            if row := model.record(key):
                print(f"{key}={row.data.hex()}")


async def name(order: str, dsn: str, table: str) -> None:
    """Use the calls of a storage forwards or backwards; print which statement has which name on the server."""
    async with driver.create_pool(dsn, min_size=1, max_size=1) as pool:
        storage = PostgresStorage(pool, table=table)
        await storage.open()
        calls = [
            lambda: storage.create("a", b"x", 1000, owner="u"), lambda: storage.load("a"),
            lambda: storage.load("a", renew=1000), lambda: storage.owned_keys("u"), lambda: storage.touch("a", 1000),
            lambda: storage.replace("a", b"x", 1000, version=1),
            lambda: storage.move("a", "b", b"x", 1000, version=1),
        ]  # fmt: skip
        for call in calls if order == "forwards" else reversed(calls):
            await call()
        sql = "SELECT name, md5(statement) FROM pg_prepared_statements WHERE strpos(statement, $1) > 0"
        for row in await pool.fetch(sql, table):
            print(*row)


if __name__ == "__main__":
    asyncio.run({"mix": mix, "name": name}[sys.argv[1]](*sys.argv[2:]))
