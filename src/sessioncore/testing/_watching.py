"""The contract of `Watches`: after `confirm`, every change that was complete before it has been reported, once."""

import anyio
from anyio.lowlevel import checkpoint

from sessioncore.storage import Clears, Delete, KeepsTombstones, Moved, Stored, Watches
from sessioncore.testing._rig import LONG, Rig, check, put, storage_as, version

_CHANGES = 50  # of one record, each of which must be reported before `confirm` returns
_TURNS = 20  # each ends a record at another moment of the call that begins to watch it


async def _told(rig: Rig, told: list[str]) -> list[str]:
    """Return what was reported since the last time, and forget it."""
    await storage_as(rig, Watches).confirm()
    now, told[:] = sorted(told), []
    return now


@check(Watches)
async def watching_returns_what_load_returns(rig: Rig) -> None:
    at = await put(rig, "a", b"data")
    found, missing = await storage_as(rig, Watches).watch(["a", "b"], lambda _: None)
    assert isinstance(found, Stored)
    assert (found.data, found.version, missing) == (b"data", at, None)
    assert await storage_as(rig, Watches).watch([], lambda _: None) == []
    within: object = storage_as(rig, Watches).notices_within
    assert within is None or (isinstance(within, int | float) and within > 0), "notices_within: seconds, or None"


@check(Watches)
async def every_change_of_a_watched_key_is_reported_once(rig: Rig) -> None:
    told: list[str] = []
    at = await put(rig, "a", owner="u")
    await put(rig, "b", owner="u")
    await put(rig, "other")
    await storage_as(rig, Watches).watch(["a", "b", "c"], told.append)
    assert await _told(rig, told) == []
    at = version(await rig.storage.replace("a", b"new", LONG, version=at, owner="u"))
    at = version(await rig.storage.replace("a", b"newer", LONG, version=at, owner="u"))
    assert await _told(rig, told) == ["a"], "the first change ends the watch"
    await storage_as(rig, Watches).watch(["a"], told.append)
    await rig.storage.move("a", "d", b"moved", LONG, version=at, owner="u")
    assert await _told(rig, told) == ["a"]
    await rig.storage.delete("b", "other")
    assert await _told(rig, told) == ["b"]


@check(Watches)
async def a_change_is_reported_to_everybody_who_watches(rig: Rig) -> None:
    one: list[str] = []
    two: list[str] = []
    await put(rig, "a")
    await storage_as(rig, Watches).watch(["a"], one.append)
    await storage_as(rig, Watches).watch(["a"], two.append)
    await rig.storage.delete("a")
    assert await _told(rig, one) == await _told(rig, two) == ["a"]


@check(Watches)
async def what_is_not_watched_any_more_is_not_reported(rig: Rig) -> None:
    told: list[str] = []
    still: list[str] = []
    await put(rig, "a")
    await storage_as(rig, Watches).watch(["a"], told.append)
    await storage_as(rig, Watches).watch(["a"], still.append)
    storage_as(rig, Watches).unwatch("a", told.append)
    storage_as(rig, Watches).unwatch("missing", told.append)
    await rig.storage.delete("a")
    assert await _told(rig, told) == []
    assert await _told(rig, still) == ["a"], "another one that watches the key must be told"


@check(Watches)
async def no_change_is_missed_between_two_watches(rig: Rig) -> None:
    told: list[str] = []
    at = await put(rig, "a")
    for number in range(_CHANGES):
        [found] = await storage_as(rig, Watches).watch(["a"], told.append)
        assert isinstance(found, Stored)
        assert found.version == at
        at = version(await rig.storage.replace("a", b"%d" % number, LONG, version=at))
        assert await _told(rig, told) == ["a"]


@check(Watches, race=True)
async def an_end_while_a_watch_begins_is_seen_or_reported(rig: Rig) -> None:
    for turn in range(_TURNS):
        key, told, seen = f"a{turn}", list[str](), list[object]()
        await put(rig, key)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch, rig, key, told, seen)
            for _ in range(turn % 5):
                await checkpoint()
            await rig.storage.delete(key)
        assert seen == [None] or await _told(rig, told) == [key], "the record ended between the reply and the watch"


async def _watch(rig: Rig, key: str, told: list[str], seen: list[object]) -> None:
    seen += await storage_as(rig, Watches).watch([key], told.append)


@check(Clears, Watches)
async def an_end_by_clearing_a_prefix_is_reported(rig: Rig) -> None:
    told: list[str] = []
    await put(rig, "p:a")
    await put(rig, "q:a")
    await storage_as(rig, Watches).watch(["p:a", "q:a"], told.append)
    await storage_as(rig, Clears).clear("p:")
    assert await _told(rig, told) == ["p:a"]


@check(KeepsTombstones, Watches)
async def an_end_through_a_former_key_is_reported(rig: Rig) -> None:
    told: list[str] = []
    at = await put(rig, "a")
    await storage_as(rig, KeepsTombstones).move("a", "b", b"data", LONG, version=at, tombstone=LONG)
    moved, _ = await storage_as(rig, Watches).watch(["a", "b"], told.append)
    assert moved == Moved("b")
    assert await _told(rig, told) == []
    assert await Delete(("a",)).invoke(rig.storage) == 1
    assert "b" in await _told(rig, told)


@check(KeepsTombstones, Watches)
async def a_move_that_leaves_a_tombstone_is_reported(rig: Rig) -> None:
    told: list[str] = []
    at = await put(rig, "a")
    await storage_as(rig, Watches).watch(["a", "b"], told.append)
    assert await _told(rig, told) == []
    await storage_as(rig, KeepsTombstones).move("a", "b", b"data", LONG, version=at, tombstone=LONG)
    assert await _told(rig, told) == ["a", "b"]
