"""The contract of `KeepsTombstones`: the old key of a record that moved leads to its end, never to its data."""

import anyio
from anyio.lowlevel import checkpoint

from sessioncore.storage import Clears, KeepsTombstones, Moved, Purges, Stored
from sessioncore.testing._rig import LONG, Rig, about, check, holds, move_is_refused, put, storage_as, version, wait_out


async def _move(rig: Rig, key: str, new_key: str, at: int, *, tombstone: float = LONG, owner: str | None = None) -> int:
    """Move a record that must be there, and leave a tombstone."""
    storage = storage_as(rig, KeepsTombstones)
    return version(await storage.move(key, new_key, b"moved", LONG, version=at, owner=owner, tombstone=tombstone))


@check(KeepsTombstones)
async def a_tombstone_says_where_the_record_is(rig: Rig) -> None:
    at = await _move(rig, "a", "b", await put(rig, "a"))
    assert await rig.storage.load("a") == Moved("b")
    assert await holds(rig, "b", b"moved", at)
    at = await _move(rig, "b", "c", at)
    assert await rig.storage.load("a") == Moved("b"), "a tombstone leads to the next one"
    assert await rig.storage.load("b") == Moved("c")
    assert await holds(rig, "c", b"moved", at)


@check(KeepsTombstones)
async def without_a_tombstone_the_old_key_is_free(rig: Rig) -> None:
    await _move(rig, "a", "b", await put(rig, "a"), tombstone=0.0)
    assert await rig.storage.load("a") is None
    assert await rig.storage.delete("a") == 0
    assert await rig.storage.load("b") is not None
    await put(rig, "a")


@check(KeepsTombstones)
async def a_tombstone_is_no_record(rig: Rig) -> None:
    first = await put(rig, "a", owner="u")
    at = await _move(rig, "a", "b", first, owner="u")
    other = await put(rig, "other")
    assert await rig.storage.create("a", b"new", LONG, owner="u") is None
    assert await rig.storage.touch("a", LONG) is False
    for known in (0, first, at):
        assert await rig.storage.replace("a", b"late", LONG, version=known, owner="w") == Moved("b")
        assert await rig.storage.move("a", "c", b"late", LONG, version=known, owner="w") == Moved("b")
    assert await move_is_refused(rig, "other", "a", other), "a move onto a tombstone must raise KeyTaken"
    assert await holds(rig, "other", b"data", other)
    assert await rig.storage.load("a") == Moved("b")
    assert await rig.storage.load("c") is None
    assert await holds(rig, "b", b"moved", at)
    assert await rig.storage.owned_keys("u") == ["b"]
    assert await rig.storage.owned_keys("w") == []
    assert await rig.seconds_left("a") is None


@check(KeepsTombstones)
async def a_conflicting_or_refused_move_leaves_no_tombstone(rig: Rig) -> None:
    first = await put(rig, "a", b"first")
    second = version(await rig.storage.replace("a", b"second", LONG, version=first))
    current = await storage_as(rig, KeepsTombstones).move("a", "b", b"late", LONG, version=first, tombstone=LONG)
    assert isinstance(current, Stored)
    await put(rig, "taken")
    assert await move_is_refused(rig, "a", "taken", second, tombstone=LONG), "a move onto a taken key raises KeyTaken"
    assert await holds(rig, "a", b"second", second)
    assert await rig.storage.load("b") is None
    assert await storage_as(rig, KeepsTombstones).move("missing", "b", b"new", LONG, version=1, tombstone=LONG) is None
    assert await rig.storage.load("missing") is None


@check(KeepsTombstones)
async def loading_a_tombstone_renews_nothing(rig: Rig) -> None:
    at = await put(rig, "a")
    await storage_as(rig, KeepsTombstones).move("a", "b", b"moved", 200, version=at, tombstone=rig.tick * 20)
    assert await rig.storage.load("a", renew=LONG) == Moved("b")
    assert await rig.storage.touch("a", LONG) is False
    assert about(await rig.seconds_left("b"), 200)
    await rig.advance(rig.tick * 21)
    assert await rig.storage.load("a") is None


@check(KeepsTombstones)
async def a_tombstone_expires(rig: Rig) -> None:
    at = await _move(rig, "a", "b", await put(rig, "a"), tombstone=rig.tick)
    await wait_out(rig)
    assert await rig.storage.load("a") is None
    assert await rig.storage.replace("a", b"late", LONG, version=at) is None
    assert await rig.storage.delete("a") == 0
    assert await holds(rig, "b", b"moved", at)
    new = await put(rig, "a", b"new")
    at = await _move(rig, "b", "c", at, tombstone=rig.tick)
    await wait_out(rig)
    await _move(rig, "a", "b", new)
    assert await rig.storage.load("a") == Moved("b")
    assert await holds(rig, "c", b"moved", at)


@check(KeepsTombstones)
async def a_tombstone_outlives_its_record(rig: Rig) -> None:
    at = await put(rig, "a")
    await storage_as(rig, KeepsTombstones).move("a", "b", b"moved", rig.tick, version=at, tombstone=LONG)
    await wait_out(rig)
    assert await rig.storage.load("a") == Moved("b")
    assert await rig.storage.load("b") is None
    assert await rig.storage.delete("a") == 0
    at = await _move(rig, "c", "d", await put(rig, "c"))
    assert await rig.storage.delete("d") == 1
    assert await rig.storage.replace("c", b"late", LONG, version=at) == Moved("d")
    assert await rig.storage.delete("c") == 0


@check(KeepsTombstones)
async def deleting_a_tombstone_ends_the_record(rig: Rig) -> None:
    at = await _move(rig, "a", "b", await put(rig, "a", owner="u"), owner="u")
    at = await _move(rig, "b", "c", at, owner="u")
    await _move(rig, "c", "d", at, owner="u")
    other = await put(rig, "other", owner="u")
    assert await rig.storage.delete("a") == 1
    for key in ("a", "b", "c", "d"):
        assert await rig.storage.load(key) is None, key
    assert await rig.storage.owned_keys("u") == ["other"]
    assert await holds(rig, "other", b"data", other)


@check(KeepsTombstones)
async def deleting_counts_a_moved_record_once(rig: Rig) -> None:
    for order in (("a", "b", "c"), ("c", "b", "a"), ("b", "a")):
        at = await _move(rig, "a", "b", await put(rig, "a"))
        await _move(rig, "b", "c", at)
        await put(rig, "other")
        assert await rig.storage.delete(*order, "other") == 2, order
        await rig.storage.delete("a", "b", "c")


@check(Clears, KeepsTombstones)
async def clearing_removes_tombstones_and_counts_records(rig: Rig) -> None:
    await _move(rig, "app:a", "app:b", await put(rig, "app:a"))
    await _move(rig, "other:a", "other:b", await put(rig, "other:a"))
    await put(rig, "app:c")
    assert await storage_as(rig, Clears).clear("app:") == 2
    assert await rig.storage.load("app:a") is None
    assert await rig.storage.load("other:a") == Moved("other:b")
    await put(rig, "app:a")


@check(KeepsTombstones, Purges)
async def purging_does_not_count_tombstones(rig: Rig) -> None:
    at = await _move(rig, "a", "b", await put(rig, "a"), tombstone=rig.tick)
    await _move(rig, "b", "c", at)
    await wait_out(rig)
    assert await storage_as(rig, Purges).purge_expired() == 0
    assert await rig.storage.load("a") is None
    assert await rig.storage.load("b") == Moved("c")


@check(KeepsTombstones, race=True)
async def a_delete_that_races_moves_ends_the_record(rig: Rig) -> None:
    for turn in range(10):
        at = await put(rig, f"{turn}-0", owner="u")
        under_way, deleted, moved_to = anyio.Event(), anyio.Event(), [f"{turn}-0"]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_move_until_gone, rig, at, under_way, deleted, moved_to)
            await under_way.wait()
            for _ in range(turn):  # each turn deletes at another moment of the mover
                await checkpoint()
            named = f"{turn}-0" if turn % 2 else moved_to[-2]  # the last move may be under way
            await rig.storage.delete(named)
            deleted.set()
            await _assert_nowhere(rig, moved_to)
        await _assert_nowhere(rig, moved_to)
    assert await rig.storage.owned_keys("u") == []


async def _move_until_gone(
    rig: Rig, at: int, under_way: anyio.Event, deleted: anyio.Event, moved_to: list[str]
) -> None:
    late, first = False, moved_to[0]
    while True:
        key, new_key = moved_to[-1], f"{first}-{len(moved_to)}"
        moved_to.append(new_key)
        result = await storage_as(rig, KeepsTombstones).move(
            key, new_key, b"moved", LONG, version=at, owner="u", tombstone=LONG
        )
        if not isinstance(result, int):
            return
        assert not late, "a move that began after delete had returned found a record"
        late, at = deleted.is_set(), result
        under_way.set()
        await checkpoint()  # a storage that never waits would not let other tasks run


async def _assert_nowhere(rig: Rig, keys: list[str]) -> None:
    for key in list(keys):
        assert not isinstance(await rig.storage.load(key), Stored), "an ended record is still there"
