"""The contract of `LoadsMany`: it returns what `load` returns, for many keys."""

from sessioncore.storage import KeepsTombstones, LoadsMany, Moved, Unreadable
from sessioncore.testing._rig import LONG, Rig, about, check, make_unreadable, put, record, storage_as, wait_out


@check(LoadsMany)
async def loading_many_returns_for_each_key_what_load_returns(rig: Rig) -> None:
    versions = {key: await put(rig, key, key.encode(), owner="u") for key in ("a", "b", "c")}
    await put(rig, "ended", ttl=rig.tick)
    await wait_out(rig)
    keys = ["c", "missing", "a", "ended", "b", "a"]
    loaded = await storage_as(rig, LoadsMany).load_many(keys)
    assert len(loaded) == len(keys)
    for key, stored in zip(keys, loaded, strict=True):
        if key in versions:
            assert (record(stored).data, record(stored).version) == (key.encode(), versions[key])
            assert about(record(stored).ttl, LONG)
        else:
            assert stored is None, key
    assert await storage_as(rig, LoadsMany).load_many([]) == []


@check(LoadsMany)
async def a_thousand_records_are_loaded_in_one_call(rig: Rig) -> None:
    keys = [f"k{number}" for number in range(1000)]
    for key in keys[::10]:
        await put(rig, key, key.encode())
    loaded = await storage_as(rig, LoadsMany).load_many(keys)
    assert [None if stored is None else record(stored).data for stored in loaded] == [
        key.encode() if key in keys[::10] else None for key in keys
    ]


@check(LoadsMany)
async def loading_many_returns_what_is_unreadable_as_such(rig: Rig) -> None:
    for key in ("a", "b"):
        await put(rig, key)
    await make_unreadable(rig, "b")
    stored, foreign = await storage_as(rig, LoadsMany).load_many(["a", "b"])
    assert record(stored).data == b"data"
    assert foreign == Unreadable()


@check(KeepsTombstones, LoadsMany)
async def loading_many_follows_no_tombstone(rig: Rig) -> None:
    at = await put(rig, "a")
    await storage_as(rig, KeepsTombstones).move("a", "b", b"moved", LONG, version=at, tombstone=LONG)
    tombstone, stored = await storage_as(rig, LoadsMany).load_many(["a", "b"])
    assert tombstone == Moved("b")
    assert record(stored).data == b"moved"
