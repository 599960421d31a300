"""The contract of `Purges`: a purge removes expired records, and makes no other difference."""

from functools import partial

from sessioncore.concurrency._gather import gather
from sessioncore.storage import Purges
from sessioncore.testing._rig import Rig, check, holds, put, record, storage_as, wait_out

MANY = 20


@check(Purges)
async def purging_leaves_live_records_alone(rig: Rig) -> None:
    kept = await put(rig, "kept", b"data")
    for number in range(5):
        await put(rig, f"dead-{number}", ttl=rig.tick)
    reborn = await put(rig, "reborn", ttl=rig.tick)
    await wait_out(rig)
    reborn = await put(rig, "reborn", b"again")
    removed = [await storage_as(rig, Purges).purge_expired() for _ in range(2)]
    assert min(removed) >= 0
    assert sum(removed) <= 6, "a second purge counted what the first had removed"
    assert await holds(rig, "kept", b"data", kept)
    assert await holds(rig, "reborn", b"again", reborn)
    assert await rig.storage.load("dead-0") is None


@check(Purges, race=True)
async def a_purge_spares_what_is_made_anew_meanwhile(rig: Rig) -> None:
    for turn in range(3):
        keys = [f"{turn}-{number}" for number in range(MANY)]
        for key in keys:
            await put(rig, key, ttl=rig.tick, owner="old")
        await wait_out(rig)
        creates = [partial(put, rig, key, b"new", owner=f"new{turn}") for key in keys]
        purge = partial(storage_as(rig, Purges).purge_expired)
        await gather([purge, *creates, purge])
        for key in keys:
            assert record(await rig.storage.load(key)).data == b"new"
        assert await rig.storage.owned_keys("old") == []
        assert len(await rig.storage.owned_keys(f"new{turn}")) == MANY
