"""Random histories: after each step, a storage answers exactly as a naive model of the contract does."""

import random
from pathlib import Path

import pytest
from servers.postgres_server import PostgresServer
from tests.numbers import FULL, scaled
from tests.storage.history import Model
from tests.storage.postgres_rigs import opened
from tests.storage.rigs import RIGS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"] if FULL else ["asyncio"])
@pytest.mark.parametrize("seed", range(scaled(30)))
@pytest.mark.parametrize("rig_name", RIGS)
async def test_a_random_history_agrees_with_the_model(rig_name: str, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    async with RIGS[rig_name](tmp_path) as rig:
        model = Model(rig.storage, rng, timed=True)
        for _ in range(300 if rig_name == "sqlite" else 2000):
            await model.step()
            if rng.random() < 0.3:
                seconds = rng.choice([0.01, 1.0, 20.0, 500.0, 86400.0])
                await rig.advance(seconds)
                model.now += seconds
            if rng.random() < 0.5:  # not each time: loads tidy up, which could hide faults of other calls
                await model.compare()
        await model.compare()


@pytest.mark.postgres
async def test_a_random_history_on_postgres_agrees_too(postgres: PostgresServer) -> None:
    async with opened(postgres.dsn()) as storage:
        model = Model(storage, random.Random(1))
        for _ in range(scaled(3000)):
            await model.step()
        await model.compare()
