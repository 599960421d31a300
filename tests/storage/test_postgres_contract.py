"""PostgreSQL keeps the whole storage contract: directly, and through a pgbouncer in transaction or session mode."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from servers.postgres_server import PostgresServer
from tests.numbers import FULL
from tests.storage.postgres_rigs import driver, postgres_rig, way_to

from sessioncore.testing import STORAGE_CHECKS, Check, Rig

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


RACES = STORAGE_CHECKS[-10:]
WAYS = {
    "direct": STORAGE_CHECKS,
    "transaction": STORAGE_CHECKS,
    # In session mode a pgbouncer passes on what it is sent: only who waits for whom may differ.
    "session": STORAGE_CHECKS if FULL else RACES,
    # A database that isolates more than it must.
    "repeatable read": RACES,
    "serializable": RACES,
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for all checks of a rig."""
    return "asyncio"


@pytest.fixture(scope="module")
async def rig(request: pytest.FixtureRequest, postgres: PostgresServer) -> AsyncGenerator[Rig]:
    way: str = request.param
    async with AsyncExitStack() as stack:
        source: Any
        if " " in way or way == "serializable":
            settings = {"default_transaction_isolation": way}
            pool = driver.create_pool(postgres.dsn(), min_size=1, max_size=8, server_settings=settings)
            source = await stack.enter_async_context(pool)
        else:
            source = stack.enter_context(way_to(postgres, way))
        yield await stack.enter_async_context(postgres_rig(postgres, source))


@pytest.mark.proves("P2", "P3", "P4", "ASVS 15.4.2")
@pytest.mark.parametrize(("rig", "check"), [(way, check) for way in WAYS for check in WAYS[way]], indirect=["rig"])
async def test_the_contract_holds(rig: Rig, check: Check) -> None:
    storage: Any = rig.storage
    await storage.open()  # some checks close it
    await storage.clear("")
    await storage.confirm()  # who watched in an earlier check is told, and does not watch any more
    await check(rig)
