"""The contract of `Scans`: the live records of a prefix, in batches, and nothing else."""

from functools import partial

from sessioncore._storage_capabilities import SCANNED_AT_ONCE
from sessioncore.concurrency._gather import gather
from sessioncore.storage import PROBE_SUFFIX, KeepsTombstones, Scans
from sessioncore.testing._rig import LONG, Rig, check, put, storage_as, wait_out

MANY = 900  # more than one batch


async def _scanned(rig: Rig, prefix: str) -> list[str]:
    found: list[str] = []
    async for batch in storage_as(rig, Scans).scan(prefix):
        assert type(batch) is list, f"scan must yield lists of keys, not {type(batch).__name__}"
        found += batch
    return sorted(found)


@check(Scans)
async def scanning_lists_what_begins_with_the_prefix(rig: Rig) -> None:
    assert await _scanned(rig, "app:") == []
    listed = sorted(["app:1", "app:", "app::", "app:\U0010ffff", "app:app:", "app:\x00", "app:*"])
    others = ("app", "app2:1", "ap:1", "APP:1", " app:1", "xapp:1", "app;", "x:app:1", f"app:2{PROBE_SUFFIX}")
    for key in (*listed, *others):
        await put(rig, key, owner="app:u")
    assert await _scanned(rig, "app:") == listed
    for prefix in ("a?p:", "a*", "%", "_pp:", "[a]", "app:\\"):
        assert await _scanned(rig, prefix) == [], prefix


@check(Scans)
async def scanning_lists_no_expired_record(rig: Rig) -> None:
    await put(rig, "app:dead", ttl=rig.tick)
    await put(rig, "app:live")
    await wait_out(rig)
    assert await _scanned(rig, "app:") == ["app:live"]


@check(Scans)
async def scanning_lists_many_records_a_batch_at_a_time(rig: Rig) -> None:
    """Keys that were listed may be deleted between two batches."""
    keys = [f"app:{number:03}" for number in range(MANY)]
    await gather([partial(put, rig, key) for key in keys])
    found: list[str] = []
    async for batch in storage_as(rig, Scans).scan("app:"):
        assert len(batch) <= SCANNED_AT_ONCE
        found += batch
        await rig.storage.delete(*batch)
    assert sorted(set(found)) == keys
    assert await _scanned(rig, "app:") == []


@check(KeepsTombstones, Scans)
async def scanning_lists_no_tombstone(rig: Rig) -> None:
    at = await put(rig, "app:a")
    await storage_as(rig, KeepsTombstones).move("app:a", "app:b", b"moved", LONG, version=at, tombstone=LONG)
    assert await _scanned(rig, "app:") == ["app:b"]
