"""The contract of `Clears`: clear ends what begins with the prefix, and nothing else."""

from sessioncore.storage import PROBE_SUFFIX, Clears
from sessioncore.testing._rig import LONG, Rig, check, holds, put, storage_as, wait_out


@check(Clears)
async def clear_ends_what_begins_with_the_prefix(rig: Rig) -> None:
    for number in range(50):
        await put(rig, f"app:{number}")
    await put(rig, "app:dead", ttl=rig.tick)
    await wait_out(rig)
    assert await storage_as(rig, Clears).clear("app:") == 50, "only live records are counted"
    for number in range(50):
        assert await rig.storage.load(f"app:{number}") is None
    assert await storage_as(rig, Clears).clear("app:") == 0


@check(Clears)
async def clear_leaves_other_prefixes_alone(rig: Rig) -> None:
    ended = ("app:1", "app:", "app::", "app:\U0010ffff", "app:app:")
    spared = ("app", "app2:1", "ap:1", "ap", "apq:1", "APP:1", " app:1", "xapp:1", "app;", "app9", "x:app:1")
    for key in (*ended, *spared):
        await put(rig, key, key.encode())
    assert await storage_as(rig, Clears).clear("app:") == len(ended)
    for key in ended:
        assert await rig.storage.load(key) is None, key
    for key in spared:
        assert await rig.storage.load(key) is not None, key


@check(Clears)
async def a_prefix_is_text_and_no_pattern(rig: Rig) -> None:
    bystanders = ("ab:1", "axb:1", "b:1", "x")
    for key in bystanders:
        await put(rig, key)
    for prefix in ("a*b:", "a?b:", "[ab]:", "{ab}:", "a\\:", "%", "_b:", "a%", "*", "a'b", "[^a]", "é", "\U0001f36a:"):
        await put(rig, f"{prefix}1")
        await put(rig, f"{prefix}2")
        assert await storage_as(rig, Clears).clear(prefix) == 2, prefix
        assert await rig.storage.load(f"{prefix}1") is None, prefix
    for key in bystanders:
        assert await rig.storage.load(key) is not None, key


@check(Clears)
async def clear_drops_owner_entries_and_only_its_own(rig: Rig) -> None:
    await put(rig, "app:1", owner="app:u")
    await put(rig, "app:2", owner="app:u")
    kept = await put(rig, "app2:1", b"data", owner="app2:u")
    shared = await put(rig, "other:1", b"data", owner="app:u")
    assert await storage_as(rig, Clears).clear("app:") == 2
    assert await rig.storage.owned_keys("app:u") == ["other:1"]
    assert await rig.storage.owned_keys("app2:u") == ["app2:1"]
    assert await holds(rig, "app2:1", b"data", kept)
    assert await holds(rig, "other:1", b"data", shared)
    await put(rig, "app:1")
    assert await rig.storage.owned_keys("app:u") == ["other:1"], "a cleared key made anew has no owner"


@check(Clears)
async def a_key_may_be_made_anew_after_clear(rig: Rig) -> None:
    old = await put(rig, "app:1", b"old")
    await storage_as(rig, Clears).clear("app:")
    assert await rig.storage.replace("app:1", b"late", LONG, version=old) is None
    assert await rig.storage.touch("app:1", LONG) is False
    new = await put(rig, "app:1", b"new")
    assert new != old
    assert await holds(rig, "app:1", b"new", new)


@check(Clears)
async def clear_leaves_what_a_check_uses_and_does_not_count_it(rig: Rig) -> None:
    """`SessionStore.check` may run at the same time, and its record is no session."""
    await put(rig, "app:1")
    probe = await put(rig, f"app:2{PROBE_SUFFIX}", owner=f"app:3{PROBE_SUFFIX}")
    assert await storage_as(rig, Clears).clear("app:") == 1, "keys that end with PROBE_SUFFIX are no sessions"
    assert await holds(rig, f"app:2{PROBE_SUFFIX}", b"data", probe)
    assert await rig.storage.owned_keys(f"app:3{PROBE_SUFFIX}") == [f"app:2{PROBE_SUFFIX}"]
