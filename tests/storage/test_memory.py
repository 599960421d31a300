"""What is special about memory: what it costs, which records it drops first, and that nothing piles up."""

import os
import tracemalloc

import pytest
from tests.numbers import scaled
from tests.storage.rigs import ONE_LOOP, made

from sessioncore import ConfigError
from sessioncore.storage import MemoryStorage, Moved
from sessioncore.testing import ManualClock

pytestmark = pytest.mark.anyio


@ONE_LOOP
async def test_expired_records_leave_as_new_ones_come() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    for number in range(20_000):
        await storage.create(f"k{number}", b"", 60)
        clock.advance(0.1)
    assert len(storage) < 1000, "600 are alive at any time"


async def test_a_load_removes_what_it_finds_expired() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    await storage.create("a", b"", 60, owner="u")
    clock.advance(60)
    assert await storage.load("a") is None
    assert len(storage) == 0


@ONE_LOOP
@pytest.mark.parametrize("ttl", [0.05, 1, 7, 60, 1800, 86400, 30 * 86400, 400 * 86400])
async def test_purging_finds_all_that_has_ended(ttl: float) -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    for number in range(2500):
        await storage.create(f"k{number}", b"", ttl)
        await storage.create(f"later{number}", b"", ttl * 8)
    clock.advance(ttl - 0.01)
    assert await storage.purge_expired() == 0
    clock.advance(0.01)
    assert await storage.purge_expired() == 2500
    assert len(storage) == 2500
    assert await storage.purge_expired() == 0


async def test_purging_finds_what_was_given_an_earlier_end_and_spares_what_was_renewed() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    for number in range(2500):
        await storage.create(f"k{number}", b"", 86400 if number % 2 else 60)
        await storage.touch(f"k{number}", 60 if number % 2 else 600)
    clock.advance(60)
    assert await storage.purge_expired() == 1250
    clock.advance(540)
    assert await storage.purge_expired() == 1250


async def test_a_new_record_pushes_out_the_one_nearest_its_end() -> None:
    storage = MemoryStorage(max_sessions=3, clock=ManualClock())
    await storage.create("middle", b"", 600, owner="u")
    await storage.create("short", b"", 60, owner="u")
    await storage.create("long", b"", 6000, owner="u")
    assert await storage.create("new", b"", 1000, owner="u") is not None
    assert await storage.load("short") is None
    assert sorted(await storage.owned_keys("u")) == ["long", "middle", "new"]


async def test_there_are_no_more_tombstones_than_sessions_may_be() -> None:
    storage = MemoryStorage(max_sessions=2)
    version = await made(storage, "0")
    for number in range(3):
        moved = await storage.move(f"{number}", f"{number + 1}", b"", 100, version=version, tombstone=100)
        assert isinstance(moved, int)
        version = moved
    assert [await storage.load(f"{number}") for number in range(3)] == [None, Moved("2"), Moved("3")]


@pytest.mark.proves("AT-113", "AT-115")
@ONE_LOOP
async def test_a_bounded_storage_keeps_its_bound_under_a_flood() -> None:
    clock = ManualClock()
    storage = MemoryStorage(max_sessions=100, clock=clock)
    for number in range(20_000):
        assert await storage.create(f"k{number}", b"", 1800) is not None
        assert len(storage) <= 100
        clock.advance(0.01)
    assert await storage.load("k19999") is not None
    assert await storage.move("k19999", "moved", b"", 1800, version=20_000) is not None


@ONE_LOOP
async def test_nothing_piles_up_however_a_record_is_renewed_or_replaced() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    await storage.create("a", b"", 1800, owner="u")

    async def work(turns: int) -> None:
        for turn in range(turns):
            await storage.touch("a", 60.0 if turn % 2 else 1800.0 + turn % 5000)
            await storage.create("b", b"", 600.0, owner=f"u{turn}")
            await storage.delete("b")
            at = await made(storage, f"old{turn}", b"", 5.0)
            await storage.move(f"old{turn}", f"new{turn}", b"", 5.0, version=at, tombstone=5.0)
            clock.advance(0.5)

    await work(2000)
    tracemalloc.start()
    try:
        await work(scaled(20_000))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 50_000


@ONE_LOOP
@pytest.mark.parametrize("owned", [False, True])
async def test_a_record_of_a_kibibyte_costs_little_more_than_its_bytes(owned: bool) -> None:
    storage = MemoryStorage()
    tracemalloc.start()
    try:
        for number in range(5000):
            owner = f"session:user-{number}" if owned else None
            await storage.create("session:" + os.urandom(32).hex(), os.urandom(1024), 1800.0 + number % 60, owner=owner)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / 5000 / 1024 < 1.6


async def test_it_is_true_when_empty_shows_no_key_and_refuses_a_bound_below_one() -> None:
    storage = MemoryStorage(10)
    assert storage
    await storage.create("secret", b"", 1800)
    assert repr(storage) == "<MemoryStorage records=1 max_sessions=10>"
    for limit in (0, -1):
        with pytest.raises(ConfigError, match="max_sessions"):
            MemoryStorage(limit)
