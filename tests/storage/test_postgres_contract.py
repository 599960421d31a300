"""PostgreSQL keeps the whole storage contract: directly, and through a pgbouncer in transaction or session mode."""

import pytest
from servers.postgres_server import PostgresServer
from tests.storage.postgres_rigs import driver, postgres_rig

from sessioncore.testing import STORAGE_CHECKS, Check

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@pytest.mark.proves("P2", "P3", "P4", "ASVS 15.4.2")
@pytest.mark.parametrize("check", STORAGE_CHECKS)
async def test_the_contract_holds(postgres: PostgresServer, postgres_dsn: str, check: Check) -> None:
    async with postgres_rig(postgres, postgres_dsn) as rig:
        await check(rig)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
@pytest.mark.parametrize("check", STORAGE_CHECKS[-10:])
async def test_the_contract_holds_where_the_database_isolates_more_than_it_must(
    postgres: PostgresServer, isolation: str, check: Check
) -> None:
    settings = {"default_transaction_isolation": isolation}
    async with (
        driver.create_pool(postgres.dsn(), min_size=1, max_size=8, server_settings=settings) as pool,
        postgres_rig(postgres, pool) as rig,
    ):
        await check(rig)
