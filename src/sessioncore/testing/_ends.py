"""The contract of ending: delete ends what it names, and nothing else."""

from sessioncore.testing._rig import Rig, check, put, wait_out


@check()
async def deleting_returns_how_many_were_live(rig: Rig) -> None:
    for key in ("a", "b", "c"):
        await put(rig, key)
    await put(rig, "dead", ttl=rig.tick)
    await wait_out(rig)
    assert await rig.storage.delete("a", "missing", "b", "dead") == 2
    assert await rig.storage.load("a") is None
    assert await rig.storage.load("b") is None
    assert await rig.storage.load("c") is not None


@check()
async def deleting_again_or_nothing_is_no_error(rig: Rig) -> None:
    await put(rig, "a")
    assert await rig.storage.delete("a") == 1
    assert await rig.storage.delete("a") == 0
    assert await rig.storage.delete("missing") == 0
    assert await rig.storage.delete() == 0


@check()
async def a_key_named_twice_is_deleted_once(rig: Rig) -> None:
    await put(rig, "a")
    assert await rig.storage.delete("a", "a") == 1


@check()
async def many_keys_are_deleted_in_one_call(rig: Rig) -> None:
    keys = [f"key-{number}" for number in range(2000)]
    for key in keys[:300]:
        await put(rig, key, owner="u")
    assert await rig.storage.delete(*keys) == 300
    assert await rig.storage.owned_keys("u") == []
