"""PostgreSQL keeps the whole storage contract: directly, and through a pgbouncer in transaction or session mode."""

from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest
from msgspec import structs
from servers.postgres_server import PostgresServer
from tests.numbers import FULL
from tests.storage.postgres_rigs import connection, driver, opened, postgres_rig, table_of, way_to

from sessioncore.storage import Watches
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.testing import STORAGE_CHECKS, Check, Rig

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


RACES = STORAGE_CHECKS[-10:]
# With a pgbouncer in session mode, which passes on everything, and with stricter isolation, only who waits for whom can
# differ: there only the checks of parallel callers run.
WAYS = ["direct", "transaction", *(["session"] if FULL else [])]
WAYS_OF_RACES = [*([] if FULL else ["session"]), "repeatable read", "serializable"]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for all checks of a rig."""
    return "asyncio"


@pytest.fixture(scope="module")
async def source(request: pytest.FixtureRequest, postgres: PostgresServer) -> AsyncGenerator[Any]:
    """What a storage is made with: a DSN, or a pool."""
    way: str = request.param
    if way in {"repeatable read", "serializable"}:
        settings = {"default_transaction_isolation": way}
        async with driver.create_pool(postgres.dsn(), min_size=1, max_size=8, server_settings=settings) as pool:
            yield pool
    else:
        with way_to(postgres, way) as dsn:
            yield dsn


@pytest.fixture(scope="module")
async def shared(source: Any, postgres: PostgresServer) -> AsyncGenerator[tuple[Rig, Any]]:
    """A rig that the checks share, and a connection that empties its table."""
    async with postgres_rig(postgres, source) as rig, connection(postgres.dsn()) as plain:
        yield rig, plain


@pytest.mark.proves("P2", "P3", "P4", "ASVS 15.4.2")
@pytest.mark.parametrize("source", WAYS, indirect=True)
@pytest.mark.parametrize("check", STORAGE_CHECKS)
async def test_the_contract_holds(source: Any, shared: tuple[Rig, Any], check: Check) -> None:
    rig, plain = shared
    storage = cast("PostgresStorage", rig.storage)
    await storage.open()  # some checks close it
    await plain.execute(f"DELETE FROM {table_of(storage)}")
    if Watches in check.needs:
        async with opened(source, table=table_of(storage)) as own:  # which nobody else watches
            await check(structs.replace(rig, storage=own))
    else:
        await check(rig)


@pytest.mark.parametrize("source", WAYS_OF_RACES, indirect=True)
@pytest.mark.parametrize("check", RACES)
async def test_the_contract_of_parallel_callers_holds(source: Any, shared: tuple[Rig, Any], check: Check) -> None:
    await test_the_contract_holds(source, shared, check)
