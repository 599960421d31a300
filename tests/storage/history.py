"""The contract as a naive model: a storage answers any calls, in any order, as the model does."""

import random
from typing import Any, cast

import pytest
from msgspec import Struct

from sessioncore.storage import Clears, KeyTaken, Moved, Purges, Stored

__all__ = ["KEYS", "Model"]

KEYS = ["a", "ab", "b", "a*", "x:a", "x:b"]
OWNERS = [None, "u", "w", "a"]
TTLS = [0.05, 3.0, 40.0, 900.0, 86400.0 * 30]
LONG = [500.0, 700.0, 900.0]


class Row(Struct):
    data: bytes
    version: int
    ends: float
    owner: str | None
    moved_to: str | None = None


class Model:
    """What a correct storage holds under keys that begin with `prefix`; the versions come from the storage.

    Unless `timed`, the clock is the server's: no record expires, and a ttl may differ by up to a minute.
    """

    def __init__(self, storage: Any, rng: random.Random, *, timed: bool = False, prefix: str = "") -> None:
        self.storage, self.rng, self.prefix = storage, rng, prefix
        self.keys = [prefix + key for key in KEYS]
        self.owners = [owner and prefix + owner for owner in OWNERS]
        self.ttls, self.exact = (TTLS, 1e-3) if timed else (LONG, 60.0)
        self.now = 0.0
        self.rows: dict[str, Row] = {}
        self.seen: set[int] = set()

    def live(self, key: str) -> Row | None:
        """The record or the tombstone at a key."""
        row = self.rows.get(key)
        return row if row is not None and row.ends > self.now else None

    def record(self, key: str) -> Row | None:
        row = self.live(key)
        return row if row is not None and row.moved_to is None else None

    def write(self, key: str, result: object, row: Row) -> None:
        assert type(result) is int
        assert result not in self.seen, "the storage gave the same version twice"
        self.seen.add(result)
        row.version = result
        self.rows[key] = row

    def same(self, row: Row | None, got: object) -> None:
        if row is None or row.moved_to is not None:
            assert got == (None if row is None or row.moved_to is None else Moved(row.moved_to))
        else:
            assert isinstance(got, Stored)
            assert (got.data, got.version) == (row.data, row.version)
            assert got.ttl == pytest.approx(row.ends - self.now, abs=self.exact)

    def draw(self) -> tuple[str, bytes, float, str | None]:
        pick = self.rng.choice
        return pick(self.keys), self.rng.randbytes(self.rng.randrange(20)), pick(self.ttls), pick(self.owners)

    def some_version(self, key: str) -> int:
        row = self.rows.get(key)
        if row is not None and self.rng.random() < 0.8:
            return row.version
        return self.rng.choice(sorted(self.seen)) if self.seen else 1

    async def create(self) -> None:
        key, data, ttl, owner = self.draw()
        result = await self.storage.create(key, data, ttl, owner=owner)
        if self.live(key) is not None:
            assert result is None
        else:
            self.write(key, result, Row(data, 0, self.now + ttl, owner))

    async def replace(self) -> None:
        key, data, ttl, owner = self.draw()
        version, row = self.some_version(key), self.record(key)
        result = await self.storage.replace(key, data, ttl, version=version, owner=owner)
        if row is None or row.version != version:
            self.same(self.live(key), result)
        else:
            self.write(key, result, Row(data, 0, self.now + ttl, owner))

    async def move(self) -> None:
        key, data, ttl, owner = self.draw()
        new_key, version, row = self.rng.choice(self.keys), self.some_version(key), self.record(key)
        stays = self.rng.choice([0.0, *self.ttls])
        conflict = row is None or row.version != version
        if conflict and (new_key == key or self.live(new_key) is not None):
            return  # the contract leaves open which of the two reasons comes first
        call = self.storage.move(key, new_key, data, ttl, version=version, owner=owner, tombstone=stays)
        if conflict:
            self.same(self.live(key), await call)
        elif self.live(new_key) is not None:
            with pytest.raises(KeyTaken):
                await call
        else:
            result = await call
            del self.rows[key]
            if stays:
                self.rows[key] = Row(b"", 0, self.now + stays, None, new_key)
            self.write(new_key, result, Row(data, 0, self.now + ttl, owner))

    async def touch(self) -> None:
        key, _, ttl, _ = self.draw()
        row = self.record(key)
        assert await self.storage.touch(key, ttl) is (row is not None)
        if row is not None:
            row.ends = self.now + ttl

    async def renew(self) -> None:
        key, _, ttl, _ = self.draw()
        if (row := self.record(key)) is not None:
            row.ends = self.now + ttl
        self.same(self.live(key), await self.storage.load(key, renew=ttl))

    async def delete(self) -> None:
        """End the records that are named, and those that named tombstones lead to."""
        keys = self.rng.sample(self.keys, self.rng.randrange(3))
        ways = list(keys)
        for key in ways:
            row = self.live(key)
            if row is not None and row.moved_to is not None and row.moved_to not in ways:
                ways.append(row.moved_to)
        assert await self.storage.delete(*keys) == sum(self.record(key) is not None for key in ways)
        for key in ways:
            self.rows.pop(key, None)

    async def clear(self) -> None:
        prefix = self.prefix + self.rng.choice(["x:", "a*", "ab"])
        keys = [key for key in self.keys if key.startswith(prefix)]
        if any((row := self.live(key)) and row.moved_to and row.moved_to not in keys for key in keys):
            return  # the model does not cover records that have moved out of the prefix
        assert await cast("Clears", self.storage).clear(prefix) == sum(self.record(key) is not None for key in keys)
        for key in keys:
            self.rows.pop(key, None)

    async def purge(self) -> None:
        await cast("Purges", self.storage).purge_expired()

    async def compare(self) -> None:
        for key in self.keys:
            self.same(self.live(key), await self.storage.load(key))
        for owner in self.owners[1:]:
            owned = sorted(key for key in self.keys if (row := self.record(key)) is not None and row.owner == owner)
            assert sorted(await self.storage.owned_keys(owner)) == owned

    async def step(self) -> None:
        often = [self.create, self.replace, self.move]
        await self.rng.choice([*often, *often, self.touch, self.renew, self.delete, self.clear, self.purge])()
