"""PostgreSQL under contention: what a call says about a record is true, with one process and with several."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from servers.postgres_server import PostgresServer
from tests.numbers import scaled
from tests.storage.postgres_rigs import connection, new_table, opened, table_of
from tests.storage.rigs import made, version_of

from sessioncore._errors import StorageError
from sessioncore.storage import Stored, Written
from sessioncore.storage._versions import random_version  # pyright: ignore[reportPrivateUsage]
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.storage.postgres._sql import statements

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@asynccontextmanager
async def several(server: PostgresServer, number: int) -> AsyncGenerator[list[PostgresStorage], None]:
    """Storages on one table. They represent processes, because within one storage, calls on a key take turns."""
    table = new_table()
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(opened(server.dsn(), table=table)) for _ in range(number)]


async def test_a_conflict_always_shows_a_newer_record_and_never_a_gone_one(postgres: PostgresServer) -> None:
    """Sixteen writers on one record that nobody ends: no answer may be None, or have a version seen before."""
    async with several(postgres, 4) as storages:
        first = await storages[0].create("a", b"0", 100)
        order: dict[int, int] = {}
        turns = scaled(30)

        async def write(number: int) -> None:
            storage = storages[number % 4]
            at, tries, seen = first, 0, {first}
            for turn in range(turns):
                while True:
                    assert at is not None
                    tries += 1
                    result = await storage.replace("a", b"%d:%d" % (number, turn), 100, version=at)
                    assert isinstance(result, int | Stored), "the record was there all the time"
                    now = result.version if isinstance(result, Stored) else result
                    assert now not in seen, "the answer has a version that was known to be outdated"
                    seen.add(now)
                    at = now
                    if isinstance(result, int):
                        break
            order[number] = tries

        await asyncio.gather(*(write(number) for number in range(16)))
        assert sum(order.values()) > 16 * turns, "without one conflict this proves nothing"


async def test_every_record_is_in_one_place_while_it_is_moved_about(postgres: PostgresServer) -> None:
    """Eight records are moved about among sixteen keys; a move that is refused changes nothing."""
    async with several(postgres, 4) as storages, connection(postgres.dsn()) as plain:
        for number in range(8):
            await storages[0].create(f"{number}", b"%d" % number, 100, owner=f"u{number}")
        refused = 0

        async def move_about(seed: int) -> None:
            nonlocal refused
            dice, storage = random.Random(seed), storages[seed % 4]
            for _ in range(scaled(100)):
                key, new_key = (f"{number}" for number in dice.sample(range(16), 2))
                stored = await storage.load(key)
                if not isinstance(stored, Stored):
                    continue
                owner = f"u{stored.data.decode()}"
                try:
                    await storage.move(key, new_key, stored.data, 100, version=stored.version, owner=owner)
                except StorageError:
                    refused += 1

        await asyncio.gather(*(move_about(seed) for seed in range(12)))
        rows = await plain.fetch(f"SELECT data, owner FROM {table_of(storages[0])} ORDER BY data")
        assert [bytes(row["data"]) for row in rows] == [b"%d" % number for number in range(8)]
        assert [bytes(row["owner"]) for row in rows] == [b"u%d" % number for number in range(8)]
        assert refused


async def test_a_delete_ends_what_another_process_moves_on_and_on(postgres: PostgresServer) -> None:
    """The delete names the first key; when it returns, only tombstones that lead nowhere are left."""
    async with several(postgres, 2) as (mine, theirs), connection(postgres.dsn()) as plain:
        raced = 0
        for turn in range(scaled(200)):
            first = await theirs.create(f"{turn}", b"x", 100, owner="u")
            moves: asyncio.Queue[str] = asyncio.Queue()

            async def move_until_gone(key: str, at: Written, moves: asyncio.Queue[str]) -> Written:
                while isinstance(at, int):
                    new_key = f"{key.partition('-')[0]}-{moves.qsize()}"
                    at = await theirs.move(key, new_key, b"x", 100, version=at, owner="u", tombstone=100)
                    key = new_key
                    moves.put_nowait(key)
                return at

            mover = asyncio.create_task(move_until_gone(f"{turn}", first, moves))
            while moves.qsize() < turn % 3:  # noqa: ASYNC110
                await asyncio.sleep(0)
            known = moves.qsize()
            assert await mine.delete(f"{turn}", "nobody") == 1
            raced += moves.qsize() > known + 1
            assert not await plain.fetchval(f"SELECT count(*) FROM {table_of(mine)} WHERE moved_to IS NULL")
            assert await mover is None
        assert await mine.owned_keys("u") == []
        assert raced


async def is_waited_for(locker: Any, by: asyncio.Task[Any], plain: Any) -> None:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))"
    while not await plain.fetchval(waiting, locker.get_server_pid()):
        assert not by.done()
        await asyncio.sleep(0.005)


async def test_a_delete_that_waits_for_a_move_ends_what_was_moved(postgres: PostgresServer) -> None:
    async with (
        opened(postgres.dsn()) as storage,
        connection(postgres.dsn()) as mover,
        connection(postgres.dsn()) as plain,
    ):
        at = await made(storage, "a", b"x", 100)
        move = statements(table_of(storage)).move_with_tombstone
        async with mover.transaction():
            await mover.fetch(move, b"a", b"x", 100.0, None, at, at + 1, b"b", 100.0)
            deleting = asyncio.create_task(storage.delete("a"))
            await is_waited_for(mover, deleting, plain)
        assert await deleting == 1
        assert not await plain.fetchval(f"SELECT count(*) FROM {table_of(storage)} WHERE moved_to IS NULL")


@pytest.mark.parametrize(("off", "tombstone"), [("seqscan", 0.0), ("indexscan", 0.0), ("seqscan", 100.0)])
async def test_clear_ends_what_is_moved_behind_its_scan(postgres: PostgresServer, off: str, tombstone: float) -> None:
    """The clear waits at a locked row, in a batch and in its last statement, while a later row is moved before it."""
    async with (
        opened(f"{postgres.dsn()}?enable_{off}=off&enable_bitmapscan=off") as storage,
        connection(postgres.dsn()) as first,
        connection(postgres.dsn()) as last,
        connection(postgres.dsn()) as plain,
    ):

        async def create(key: str) -> int:
            return await made(storage, key, b"x", 100)

        async def move(at: int, *keys: str) -> None:
            for key, new_key in pairwise(keys):
                at = version_of(await storage.move(key, new_key, b"x", 100, version=at, tombstone=tombstone))

        lock = f"BEGIN; SELECT FROM {table_of(storage)} WHERE key = '%s' FOR UPDATE"
        _, _, eight = await create("a:1"), await create("a:2"), await create("a:8")
        await first.execute(lock % "a:1")
        clearing = asyncio.create_task(storage.clear("a:"))
        await is_waited_for(first, clearing, plain)
        await move(eight, "a:8", "a:0", "a:00")
        _, nine = await create("a:3"), await create("a:9")  # too late for the batch
        await last.execute(lock % "a:3")
        await first.execute("ROLLBACK")
        await is_waited_for(last, clearing, plain)
        await move(nine, "a:9", "a:01", "a:011")
        await last.execute("ROLLBACK")
        assert await clearing == 5
        assert await plain.fetchval(f"SELECT count(*) FROM {table_of(storage)}") == 0


async def test_many_deletes_of_the_same_keys_in_any_order_do_not_block_each_other(postgres: PostgresServer) -> None:
    async with opened(postgres.dsn(), max_connections=16, timeout=timedelta(minutes=1)) as storage:
        keys = [f"{number}" for number in range(300)]
        for _ in range(scaled(20)):
            await asyncio.gather(*(storage.create(key, b"x", 100) for key in keys))
            orders = [random.sample(keys, len(keys)) for _ in range(8)]
            assert sum(await asyncio.gather(*(storage.delete(*order) for order in orders))) == len(keys)


async def test_an_expired_record_is_taken_over_by_one_creator_only(postgres: PostgresServer) -> None:
    async with opened(postgres.dsn(), max_connections=16) as storage:
        for number in range(20):
            await storage.create(f"{number}", b"old", 0.0001)
            creators = (storage.create(f"{number}", b"%d" % n, 100) for n in range(12))
            results = await asyncio.gather(*creators)
            assert len([result for result in results if result is not None]) == 1


def test_versions_are_drawn_from_a_wide_range() -> None:
    drawn = {random_version() for _ in range(10_000)}
    assert len(drawn) == 10_000
    assert 0 <= min(drawn) < max(drawn) < 2**62
