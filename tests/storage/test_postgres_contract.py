"""PostgreSQL keeps the whole storage contract: directly, and through a pgbouncer in transaction or session mode."""

import pytest
from servers.postgres_server import PostgresServer
from tests.numbers import FULL
from tests.storage.postgres_rigs import driver, postgres_rig

from sessioncore.testing import STORAGE_CHECKS, Check

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


RACES = STORAGE_CHECKS[-10:]
# In session mode a pgbouncer passes on what it is sent: only who waits for whom may differ.
WAYS = {"direct": STORAGE_CHECKS, "transaction": STORAGE_CHECKS, "session": STORAGE_CHECKS if FULL else RACES}


@pytest.mark.proves("P2", "P3", "P4", "ASVS 15.4.2")
@pytest.mark.parametrize(
    ("postgres_dsn", "check"), [(way, check) for way in WAYS for check in WAYS[way]], indirect=["postgres_dsn"]
)
async def test_the_contract_holds(postgres: PostgresServer, postgres_dsn: str, check: Check) -> None:
    async with postgres_rig(postgres, postgres_dsn) as rig:
        await check(rig)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
@pytest.mark.parametrize("check", RACES)
async def test_the_contract_holds_where_the_database_isolates_more_than_it_must(
    postgres: PostgresServer, isolation: str, check: Check
) -> None:
    settings = {"default_transaction_isolation": isolation}
    async with (
        driver.create_pool(postgres.dsn(), min_size=1, max_size=8, server_settings=settings) as pool,
        postgres_rig(postgres, pool) as rig,
    ):
        await check(rig)
