"""A process of its own for the tests of poolers: `python pooler_worker.py JOB ORDER DSN TABLE`, the answer out.

Two of them differ in ORDER, and so in which statements they use first.
"""

import asyncio
import random
import sys
from itertools import count
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no py.typed # pyright: ignore[reportMissingTypeStubs]
from tests.numbers import scaled

from sessioncore import Stored
from sessioncore.storage.postgres import PostgresStorage

driver: Any = asyncpg


class Visitor:
    """One who is alone with a session, knows what is in it, and counts the answers that say otherwise."""

    def __init__(self, storage: PostgresStorage, owner: str) -> None:
        self.storage = storage
        self.owner = owner
        self.dice = random.Random(owner)
        self.names = (f"{owner}:{number}" for number in count())
        self.key = self.named = next(self.names)  # `named` is a former key that leads to it, if there is one
        self.data = b"0"
        self.at = 0
        self.wrong: list[str] = []

    async def arrive(self) -> None:
        at = await self.storage.create(self.key, self.data, 1000, owner=self.owner)
        self._judge("create", type(at), int)
        self.at, self.named = at or 0, self.key

    async def stay(self, turns: int) -> None:
        calls = [self.load, self.renew, self.list, self.touch, self.replace, self.move, self.come_again]
        await self._dare(self.arrive)
        for _ in range(turns):
            await self._dare(self.dice.choice(calls))

    async def _dare(self, call: Any) -> None:
        try:
            await call()
        except Exception as exc:  # noqa: BLE001 - the rows of another statement make a call fail in any way
            self.wrong.append(f"{call.__name__}: {exc!r}")

    def _judge(self, call: str, answer: object, right: object) -> None:
        if answer != right:
            self.wrong.append(f"{call}: {answer}, not {right}")

    async def load(self) -> None:
        await self._load(None)

    async def renew(self) -> None:
        await self._load(1000.0)

    async def _load(self, renew: float | None) -> None:
        stored = await self.storage.load(self.key, renew=renew)
        found = (stored.data, stored.version) if isinstance(stored, Stored) else None
        self._judge("load", found, (self.data, self.at))

    async def list(self) -> None:
        self._judge("owned_keys", await self.storage.owned_keys(self.owner), [self.key])

    async def touch(self) -> None:
        self._judge("touch", await self.storage.touch(self.key, 1000), True)

    async def replace(self) -> None:
        await self._write("replace", self.key)

    async def move(self) -> None:
        await self._write("move", next(self.names))

    async def _write(self, how: str, key: str) -> None:
        data = b"%d" % self.dice.randrange(1000)
        if how == "move":
            stays = self.dice.choice([0.0, 1000.0])
            at = await self.storage.move(self.key, key, data, 1000, version=self.at, owner=self.owner, tombstone=stays)
            self.named = self.named if stays else key
        else:
            at = await self.storage.replace(self.key, data, 1000, version=self.at, owner=self.owner)
        self._judge(how, type(at), int)
        if isinstance(at, int):
            self.key, self.data, self.at = key, data, at

    async def come_again(self) -> None:
        self._judge("delete", await self.storage.delete(self.named), 1)
        await self.arrive()


async def mix(order: str, dsn: str, table: str) -> None:
    """Be eight visitors at once; print what was wrong, and then where each session is and what is in it.

    Two processes make 10,000 calls in a full run.
    """
    storage = PostgresStorage(dsn, table=table)
    visitors = [Visitor(storage, f"{order}-{number}") for number in range(8)]
    await asyncio.gather(*(visitor.stay(scaled(5000) // 8) for visitor in visitors))
    await storage.aclose()
    for visitor in visitors:
        print(*(f"wrong: {what}" for what in visitor.wrong), f"{visitor.key}={visitor.data.decode()}", sep="\n")


async def name(order: str, dsn: str, table: str) -> None:
    """Use the calls of a storage forwards or backwards; print which statement has which name on the server."""
    async with driver.create_pool(dsn, min_size=1, max_size=1) as pool:
        storage = PostgresStorage(pool, table=table)
        await storage.open()
        visitor = Visitor(storage, "u")
        calls = [
            visitor.arrive,
            visitor.load,
            visitor.renew,
            visitor.list,
            visitor.touch,
            visitor.replace,
            visitor.move,
        ]
        for call in calls if order == "forwards" else reversed(calls):
            await call()
        sql = "SELECT name, md5(statement) FROM pg_prepared_statements WHERE strpos(statement, $1) > 0"
        for row in await pool.fetch(sql, table):
            print(*row)


if __name__ == "__main__":
    asyncio.run({"mix": mix, "name": name}[sys.argv[1]](*sys.argv[2:]))
