"""The contract of writing: create, replace and move, and versions that never come back."""

from sessioncore.testing._rig import (
    LONG,
    Rig,
    about,
    check,
    holds,
    move_is_refused,
    purge,
    put,
    record,
    version,
    wait_out,
)


@check()
async def create_refuses_a_taken_key(rig: Rig) -> None:
    first = await put(rig, "a", b"first", ttl=200)
    assert await rig.storage.create("a", b"second", LONG, owner="u") is None
    assert await holds(rig, "a", b"first", first)
    assert about(await rig.seconds_left("a"), 200)
    assert await rig.storage.owned_keys("u") == []


@check()
async def replace_writes_data_under_a_new_version(rig: Rig) -> None:
    first = await put(rig, "a", b"first")
    second = version(await rig.storage.replace("a", b"second", LONG, version=first))
    assert second != first
    assert await holds(rig, "a", b"second", second)
    third = version(await rig.storage.replace("a", b"second", LONG, version=second))
    assert third not in (first, second), "the same data is a new version, too"


@check()
async def a_conflict_returns_the_current_record_and_changes_nothing(rig: Rig) -> None:
    first = await put(rig, "a", b"first")
    second = version(await rig.storage.replace("a", b"second", 200, version=first, owner="u"))
    current = record(await rig.storage.replace("a", b"late", LONG, version=first, owner="w"))
    assert (current.data, current.version) == (b"second", second)
    assert about(current.ttl, 200)
    assert await holds(rig, "a", b"second", second)
    assert about(await rig.seconds_left("a"), 200)
    assert await rig.storage.owned_keys("u") == ["a"]
    assert await rig.storage.owned_keys("w") == []
    third = version(await rig.storage.replace("a", b"third", LONG, version=current.version))
    assert await holds(rig, "a", b"third", third)


@check()
async def replace_creates_nothing(rig: Rig) -> None:
    assert await rig.storage.replace("a", b"new", LONG, version=1, owner="u") is None
    old = await put(rig, "a")
    await rig.storage.delete("a")
    assert await rig.storage.replace("a", b"new", LONG, version=old, owner="u") is None
    assert await rig.storage.load("a") is None
    assert await rig.storage.owned_keys("u") == []


@check()
async def an_old_version_never_matches_a_new_record(rig: Rig) -> None:
    seen: set[int] = set()
    for _ in range(5):
        created = await put(rig, "a", b"new")
        replaced = version(await rig.storage.replace("a", b"newer", LONG, version=created))
        for old in seen:
            current = record(await rig.storage.replace("a", b"stale", LONG, version=old))
            assert (current.data, current.version) == (b"newer", replaced)
        assert created not in seen
        assert replaced not in seen
        seen |= {created, replaced}
        await rig.storage.delete("a")


@check()
async def versions_do_not_return_by_expiry_or_move(rig: Rig) -> None:
    seen = {await put(rig, "a", ttl=rig.tick)}
    await wait_out(rig)
    await purge(rig)
    last = await put(rig, "a")
    seen.add(last)
    moved = version(await rig.storage.move("a", "b", b"data", LONG, version=last))
    back = version(await rig.storage.move("b", "a", b"data", LONG, version=moved))
    assert back not in seen
    assert len(seen) == 2
    await rig.storage.delete("a")
    assert await put(rig, "a") not in seen | {back}


@check()
async def move_gives_the_record_a_new_key(rig: Rig) -> None:
    first = await put(rig, "a", b"first")
    second = version(await rig.storage.move("a", "b", b"second", 300, version=first))
    assert await rig.storage.load("a") is None
    assert await rig.seconds_left("a") is None
    assert await holds(rig, "b", b"second", second)
    assert about(await rig.seconds_left("b"), 300)
    third = version(await rig.storage.replace("b", b"third", LONG, version=second))
    assert await holds(rig, "b", b"third", third)


@check()
async def after_a_move_the_old_key_is_free(rig: Rig) -> None:
    first = await put(rig, "a", b"first")
    second = version(await rig.storage.move("a", "b", b"second", LONG, version=first))
    assert await rig.storage.touch("a", LONG) is False
    assert await rig.storage.replace("a", b"late", LONG, version=first) is None
    assert await rig.storage.delete("a") == 0
    other = await put(rig, "a", b"other")
    assert other != first
    assert await holds(rig, "a", b"other", other)
    assert await holds(rig, "b", b"second", second)


@check()
async def a_conflicting_move_changes_nothing(rig: Rig) -> None:
    first = await put(rig, "a", b"first")
    second = version(await rig.storage.replace("a", b"second", 200, version=first, owner="u"))
    current = record(await rig.storage.move("a", "b", b"late", LONG, version=first, owner="w"))
    assert (current.data, current.version) == (b"second", second)
    assert about(current.ttl, 200)
    assert await holds(rig, "a", b"second", second)
    assert await rig.storage.load("b") is None
    assert await rig.storage.owned_keys("u") == ["a"]
    assert await rig.storage.owned_keys("w") == []


@check()
async def moving_a_missing_record_makes_nothing(rig: Rig) -> None:
    assert await rig.storage.move("a", "b", b"new", LONG, version=1, owner="u") is None
    old = await put(rig, "a")
    await rig.storage.delete("a")
    assert await rig.storage.move("a", "b", b"new", LONG, version=old, owner="u") is None
    assert await rig.storage.load("a") is None
    assert await rig.storage.load("b") is None
    assert await rig.storage.owned_keys("u") == []


@check()
async def a_move_onto_a_taken_key_is_refused(rig: Rig) -> None:
    mine = await put(rig, "a", b"mine", owner="u")
    theirs = await put(rig, "b", b"theirs", owner="w")
    assert await move_is_refused(rig, "a", "b", mine)
    assert await holds(rig, "a", b"mine", mine)
    assert await holds(rig, "b", b"theirs", theirs)
    assert await rig.storage.owned_keys("u") == ["a"]
    assert await rig.storage.owned_keys("w") == ["b"]


@check()
async def a_move_onto_itself_is_refused(rig: Rig) -> None:
    mine = await put(rig, "a", b"mine", owner="u")
    assert await move_is_refused(rig, "a", "a", mine)
    assert await holds(rig, "a", b"mine", mine)
    assert await rig.storage.owned_keys("u") == ["a"]


@check()
async def a_move_onto_an_expired_key_works(rig: Rig) -> None:
    await put(rig, "b", b"dead", ttl=rig.tick, owner="w")
    mine = await put(rig, "a", b"mine")
    await wait_out(rig)
    moved = version(await rig.storage.move("a", "b", b"moved", LONG, version=mine, owner="u"))
    assert await holds(rig, "b", b"moved", moved)
    assert about(await rig.seconds_left("b"), LONG)
    assert await rig.storage.owned_keys("w") == []
    assert await rig.storage.owned_keys("u") == ["b"]


@check()
async def odd_keys_may_be_replaced_and_moved(rig: Rig) -> None:
    for key in ("*", "{a}b", "a b\r\n", "\U0001f36a", "k" * 300, "a\\", "%'\""):
        first = await put(rig, key, b"first")
        second = version(await rig.storage.replace(key, b"second", LONG, version=first))
        third = version(await rig.storage.move(key, f"{key}>", b"third", LONG, version=second))
        assert await rig.storage.load(key) is None, key
        assert await holds(rig, f"{key}>", b"third", third), key
