"""The contract of the owner index: it lists exactly the live records of an owner."""

import hashlib

from sessioncore.testing._rig import LONG, Rig, check, purge, put, version, wait_out

ODD_OWNERS = (
    "a", "a:b", "a:", ":a", "ab", "A", "*", "a*", "?", "[a]", "{a}", "\\", "%", "_", "'", " ", "a ", "\n",
    "0", "K", "k", "\u212a", "é", "e\u0301", "ß", "日本", "\U0001f36a", "None", "null",
    hashlib.shake_256(b"long").hexdigest(5120), hashlib.shake_256(b"long").hexdigest(5120) + "b",
)  # fmt: skip


async def _owned(rig: Rig, owner: str) -> list[str]:
    return sorted(await rig.storage.owned_keys(owner))


@check()
async def an_unknown_owner_has_no_keys(rig: Rig) -> None:
    await put(rig, "a")
    assert await rig.storage.owned_keys("u") == []
    assert await rig.storage.owned_keys("None") == []
    assert await rig.storage.owned_keys("a") == []


@check()
async def create_replace_and_move_name_the_owner(rig: Rig) -> None:
    await put(rig, "created", owner="u")
    at = await put(rig, "replaced")
    version(await rig.storage.replace("replaced", b"new", LONG, version=at, owner="u"))
    at = await put(rig, "old")
    version(await rig.storage.move("old", "moved", b"new", LONG, version=at, owner="u"))
    assert await _owned(rig, "u") == ["created", "moved", "replaced"]


@check()
async def an_owner_named_again_is_listed_once(rig: Rig) -> None:
    at = await put(rig, "a", owner="u")
    at = version(await rig.storage.replace("a", b"new", LONG, version=at, owner="u"))
    version(await rig.storage.replace("a", b"newer", LONG, version=at, owner="u"))
    assert await rig.storage.owned_keys("u") == ["a"]


@check()
async def a_write_without_an_owner_removes_the_owner(rig: Rig) -> None:
    at = await put(rig, "a", owner="u")
    version(await rig.storage.replace("a", b"new", LONG, version=at))
    assert await rig.storage.owned_keys("u") == []
    at = await put(rig, "b", owner="u")
    version(await rig.storage.move("b", "c", b"new", LONG, version=at))
    assert await rig.storage.owned_keys("u") == []


@check()
async def a_record_may_get_another_owner(rig: Rig) -> None:
    at = await put(rig, "a", owner="u")
    at = version(await rig.storage.replace("a", b"new", LONG, version=at, owner="w"))
    assert await rig.storage.owned_keys("u") == []
    assert await rig.storage.owned_keys("w") == ["a"]
    version(await rig.storage.move("a", "b", b"new", LONG, version=at, owner="x"))
    assert await rig.storage.owned_keys("w") == []
    assert await rig.storage.owned_keys("x") == ["b"]


@check()
async def a_move_lists_the_new_key_and_not_the_old(rig: Rig) -> None:
    await put(rig, "other", owner="u")
    at = await put(rig, "old", owner="u")
    version(await rig.storage.move("old", "new", b"data", LONG, version=at, owner="u"))
    assert await _owned(rig, "u") == ["new", "other"]


@check()
async def touching_and_loading_leave_the_owner_alone(rig: Rig) -> None:
    await put(rig, "a", owner="u")
    await rig.storage.touch("a", LONG)
    await rig.storage.load("a", renew=LONG)
    assert await rig.storage.owned_keys("u") == ["a"]


@check()
async def a_deleted_key_is_not_listed(rig: Rig) -> None:
    await put(rig, "a", owner="u")
    await put(rig, "b", owner="u")
    await rig.storage.delete("a")
    assert await rig.storage.owned_keys("u") == ["b"]
    await rig.storage.delete("b")
    assert await rig.storage.owned_keys("u") == []


@check()
async def an_expired_key_is_not_listed(rig: Rig) -> None:
    await put(rig, "short", ttl=rig.tick, owner="u")
    await put(rig, "long", owner="u")
    await put(rig, "alone", ttl=rig.tick, owner="w")
    await wait_out(rig)
    assert await rig.storage.owned_keys("u") == ["long"]
    assert await rig.storage.owned_keys("w") == []
    await purge(rig)
    assert await rig.storage.owned_keys("u") == ["long"]


@check()
async def a_lengthened_record_stays_listed(rig: Rig) -> None:
    await put(rig, "a", ttl=rig.tick * 20, owner="u")
    await rig.storage.touch("a", LONG)
    await put(rig, "b", ttl=rig.tick * 20, owner="u")
    await rig.storage.load("b", renew=LONG)
    await rig.advance(rig.tick * 21)
    await purge(rig)
    assert await _owned(rig, "u") == ["a", "b"]


@check()
async def a_key_made_anew_has_its_new_owner_only(rig: Rig) -> None:
    await put(rig, "deleted", owner="u")
    await put(rig, "expired", ttl=rig.tick, owner="u")
    await put(rig, "purged", ttl=rig.tick, owner="u")
    at = await put(rig, "moved", owner="u")
    await rig.storage.delete("deleted")
    version(await rig.storage.move("moved", "elsewhere", b"data", LONG, version=at))
    await wait_out(rig)
    await put(rig, "expired")
    await purge(rig)
    for key in ("deleted", "purged", "moved"):
        await put(rig, key, owner="w")
    assert await rig.storage.owned_keys("u") == []
    assert await _owned(rig, "w") == ["deleted", "moved", "purged"]


@check()
async def owners_and_keys_of_the_same_text_do_not_collide(rig: Rig) -> None:
    await put(rig, "u", b"data", owner="u")
    await put(rig, "w", owner="u")
    await put(rig, "x", owner="w")
    assert await _owned(rig, "u") == ["u", "w"]
    await rig.storage.delete("w")
    assert await rig.storage.owned_keys("u") == ["u"]
    assert await rig.storage.owned_keys("w") == ["x"]
    await rig.storage.delete("u")
    assert await rig.storage.load("x") is not None
    assert await rig.storage.owned_keys("u") == []


@check()
async def odd_owners_are_kept_apart(rig: Rig) -> None:
    for number, owner in enumerate(ODD_OWNERS):
        await put(rig, f"first-{number}", owner=owner)
        await put(rig, f"second-{number}", owner=owner)
    for number, owner in enumerate(ODD_OWNERS):
        assert await _owned(rig, owner) == [f"first-{number}", f"second-{number}"], owner[:20]
        await rig.storage.delete(f"first-{number}")
    for number, owner in enumerate(ODD_OWNERS):
        assert await rig.storage.owned_keys(owner) == [f"second-{number}"], owner[:20]


@check()
async def an_owner_may_have_many_keys(rig: Rig) -> None:
    for number in range(300):
        await put(rig, f"key-{number}", owner="u")
    keys = await rig.storage.owned_keys("u")
    assert len(keys) == 300
    assert set(keys) == {f"key-{number}" for number in range(300)}
