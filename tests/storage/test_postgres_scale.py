"""PostgreSQL with many sessions: the time of a call does not grow with their number.

`SESSIONCORE_ROWS=1000000` runs it with a million; the figures are printed with `-s`.
"""

import os
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from servers.postgres_server import PostgresServer
from tests.numbers import scaled
from tests.storage.postgres_rigs import connection, opened, table_of

from sessioncore.storage.postgres import PostgresStorage

pytestmark = [pytest.mark.anyio, pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(600)]

FEW, MANY = 1000, int(os.environ.get("SESSIONCORE_ROWS", scaled(300_000)))


def key(number: int) -> str:
    return f"session:{number * 2654435761 % 2**32:08x}{number:035d}"


async def fill(plain: Any, table: str, rows: int, ends_in: str) -> None:
    """Store sessions of 1 KiB, five to an owner, under keys in no order, as hashes are."""
    await plain.execute(
        f"INSERT INTO {table} SELECT ('session:' || lpad(to_hex(n * 2654435761 % 4294967296), 8, '0')"
        f" || lpad(n::text, 35, '0'))::bytea, ('session:u' || n / 5)::bytea, n, now() + interval '{ends_in}',"
        f" convert_to(repeat('x', 1024), 'UTF8') FROM generate_series(1, {rows}::bigint) AS n"
    )
    await plain.execute(f"VACUUM ANALYZE {table}")


async def seconds_per_call(call: Callable[[int], Awaitable[Any]], rows: int) -> float:
    numbers = [random.randrange(5, rows - 5) for _ in range(50)]
    start = time.perf_counter()
    for number in numbers:
        assert await call(number)
    return (time.perf_counter() - start) / len(numbers)


def calls_of(storage: PostgresStorage) -> dict[str, Callable[[int], Awaitable[Any]]]:
    async def load(number: int) -> Any:
        return await storage.load(key(number))

    async def owned_keys(number: int) -> bool:
        return len(await storage.owned_keys(f"session:u{number // 5}")) == 5

    async def touch(number: int) -> Any:
        return await storage.touch(key(number), 3600)

    return {"load": load, "owned_keys": owned_keys, "touch": touch}


async def test_the_time_of_a_call_does_not_grow_with_the_number_of_sessions(postgres: PostgresServer) -> None:
    async with opened(postgres.dsn()) as few, opened(postgres.dsn()) as many, connection(postgres.dsn()) as plain:
        await fill(plain, table_of(few), FEW, "1 h")
        await fill(plain, table_of(many), MANY, "1 h")
        size = await plain.fetchval(f"SELECT pg_total_relation_size('{table_of(many)}')")
        print(f"\n{MANY} sessions of 1 KiB: {size / MANY:.0f} bytes each, indexes included")
        for name, call in calls_of(few).items():
            large = calls_of(many)[name]
            best = {"few": 1.0, "many": 1.0}
            ratio = 0.0
            for turn in range(60):  # both in turns, so that a busy machine slows both
                best["few"] = min(best["few"], await seconds_per_call(call, FEW))
                best["many"] = min(best["many"], await seconds_per_call(large, MANY))
                ratio = best["many"] / best["few"]
                if turn >= 4 and ratio < 2:
                    break
            print(f"{name}: {best['few'] * 1e6:.0f} us at {FEW}, {best['many'] * 1e6:.0f} us at {MANY}: {ratio:.2f}")
            assert ratio < 2, name  # a scan of all rows would take hundreds of times as long
