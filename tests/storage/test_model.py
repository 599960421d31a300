"""Random histories: after each step, a storage answers exactly as a naive model of the contract does."""

import random
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import Struct
from tests.storage.rigs import RIGS

from sessioncore.storage import Clears, KeyTaken, Purges, Stored
from sessioncore.testing import Rig

pytestmark = pytest.mark.anyio

KEYS = ["a", "ab", "b", "a*", "x:a", "x:b"]
OWNERS = [None, "u", "w", "a"]
TTLS = [0.05, 3.0, 40.0, 900.0, 86400.0 * 30]


class Row(Struct):
    data: bytes
    version: int
    ends: float
    owner: str | None


class Model:
    """The contract, written down as plainly as it goes; versions are learnt from the storage."""

    def __init__(self, rig: Rig, rng: random.Random) -> None:
        self.storage, self.rng = rig.storage, rng
        self.now = 0.0
        self.rows: dict[str, Row] = {}
        self.seen: set[int] = set()

    def live(self, key: str) -> Row | None:
        row = self.rows.get(key)
        return row if row is not None and row.ends > self.now else None

    def write(self, key: str, result: object, row: Row) -> None:
        assert type(result) is int
        assert result not in self.seen
        self.seen.add(result)
        row.version = result
        self.rows[key] = row

    def same(self, row: Row | None, got: object) -> None:
        if row is None:
            assert got is None
        else:
            assert isinstance(got, Stored)
            assert (got.data, got.version) == (row.data, row.version)
            assert got.ttl == pytest.approx(row.ends - self.now, abs=1e-3)

    def draw(self) -> tuple[str, bytes, float, str | None]:
        pick = self.rng.choice
        return pick(KEYS), self.rng.randbytes(self.rng.randrange(20)), pick(TTLS), pick(OWNERS)

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
        version, row = self.some_version(key), self.live(key)
        result = await self.storage.replace(key, data, ttl, version=version, owner=owner)
        if row is None or row.version != version:
            self.same(row, result)
        else:
            self.write(key, result, Row(data, 0, self.now + ttl, owner))

    async def move(self) -> None:
        key, data, ttl, owner = self.draw()
        new_key, version, row = self.rng.choice(KEYS), self.some_version(key), self.live(key)
        call = self.storage.move(key, new_key, data, ttl, version=version, owner=owner)
        if row is None or row.version != version:
            if self.live(new_key) is not None and new_key != key:
                call.close()  # which of the two reasons comes first is left open
                return
            self.same(row, await call)
        elif self.live(new_key) is not None:
            with pytest.raises(KeyTaken):
                await call
        else:
            result = await call
            del self.rows[key]
            self.write(new_key, result, Row(data, 0, self.now + ttl, owner))

    async def touch(self) -> None:
        key, _, ttl, _ = self.draw()
        row = self.live(key)
        assert await self.storage.touch(key, ttl) is (row is not None)
        if row is not None:
            row.ends = self.now + ttl

    async def renew(self) -> None:
        key, _, ttl, _ = self.draw()
        row = self.live(key)
        if row is not None:
            row.ends = self.now + ttl
        self.same(row, await self.storage.load(key, renew=ttl))

    async def delete(self) -> None:
        keys = self.rng.sample(KEYS, self.rng.randrange(3))
        assert await self.storage.delete(*keys) == sum(self.live(key) is not None for key in keys)
        for key in keys:
            self.rows.pop(key, None)

    async def clear(self) -> None:
        prefix = self.rng.choice(["x:", "a*", "ab"])
        keys = [key for key in KEYS if key.startswith(prefix)]
        assert await cast("Clears", self.storage).clear(prefix) == sum(self.live(key) is not None for key in keys)
        for key in keys:
            self.rows.pop(key, None)

    async def purge(self) -> None:
        await cast("Purges", self.storage).purge_expired()

    async def compare(self) -> None:
        for key in KEYS:
            self.same(self.live(key), await self.storage.load(key))
        for owner in OWNERS[1:]:
            assert owner is not None
            owned = sorted(key for key in KEYS if (row := self.live(key)) is not None and row.owner == owner)
            assert sorted(await self.storage.owned_keys(owner)) == owned


async def live_through(rig: Rig, seed: int, steps: int) -> None:
    rng = random.Random(seed)
    model = Model(rig, rng)
    verbs: list[Any] = [model.create, model.replace, model.move, model.touch, model.renew, model.delete]
    verbs += [model.create, model.replace, model.move, model.clear, model.purge]
    for _ in range(steps):
        await rng.choice(verbs)()
        if rng.random() < 0.3:
            seconds = rng.choice([0.01, 1.0, 20.0, 500.0, 86400.0])
            await rig.advance(seconds)
            model.now += seconds
        if rng.random() < 0.5:  # not each time: loading tidies up, and must not be what makes the rest right
            await model.compare()
    await model.compare()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rig_name", RIGS)
async def test_a_random_history_agrees_with_the_model(rig_name: str, seed: int, tmp_path: Path) -> None:
    async with RIGS[rig_name](tmp_path) as rig:
        await live_through(rig, seed, 300 if rig_name == "sqlite" else 2000)
