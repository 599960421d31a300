"""The contract of time: every record ends with its ttl, and nothing revives it."""

from sessioncore.testing._rig import LONG, Rig, about, check, holds, purge, put, record, version, wait_out

DAY = 86400.0


@check()
async def a_ttl_is_kept_exactly(rig: Rig) -> None:
    # `.seconds` of a timedelta drops its days; 2**31 ms and 2**31 s overflow in some drivers.
    for key, ttl in {"month": 30 * DAY, "quarter": 90 * DAY, "century": 36525 * DAY}.items():
        await put(rig, key, ttl=ttl)
        assert about(record(await rig.storage.load(key)).ttl, ttl), key
        assert about(await rig.seconds_left(key), ttl), key


@check()
async def a_ttl_is_not_rounded_to_seconds(rig: Rig) -> None:
    await put(rig, "a", ttl=2.6)
    assert 2.0 < record(await rig.storage.load("a")).ttl <= 2.601
    await put(rig, "b", ttl=3.4)
    left = await rig.seconds_left("b")
    assert left is not None
    assert 3.0 < left <= 3.401


@check()
async def a_tiny_ttl_is_neither_an_error_nor_endless(rig: Rig) -> None:
    created = await put(rig, "created", ttl=0.0001)
    assert created is not None
    replaced = await put(rig, "replaced")
    version(await rig.storage.replace("replaced", b"new", 0.0001, version=replaced))
    moved = await put(rig, "moved")
    version(await rig.storage.move("moved", "moved-on", b"new", 0.0001, version=moved))
    await put(rig, "touched")
    assert await rig.storage.touch("touched", 0.0001) is True
    await wait_out(rig)
    for key in ("created", "replaced", "moved", "moved-on", "touched"):
        assert await rig.storage.load(key) is None, key


@check()
async def a_record_ends_with_its_ttl(rig: Rig) -> None:
    await put(rig, "short", ttl=rig.tick)
    kept = await put(rig, "long", b"data")
    await wait_out(rig)
    assert await rig.storage.load("short") is None
    assert await rig.seconds_left("short") is None
    assert await holds(rig, "long", b"data", kept)


@check()
async def an_expired_key_is_free_again(rig: Rig) -> None:
    old = await put(rig, "a", b"old", ttl=rig.tick)
    await wait_out(rig)
    new = await put(rig, "a", b"new")
    assert new != old
    assert await holds(rig, "a", b"new", new)
    assert about(await rig.seconds_left("a"), LONG), "the new record must not inherit the old end"


@check()
async def nothing_works_on_an_expired_record(rig: Rig) -> None:
    old = await put(rig, "a", ttl=rig.tick)
    await wait_out(rig)
    assert await rig.storage.touch("a", LONG) is False
    assert await rig.storage.load("a", renew=LONG) is None
    assert await rig.storage.replace("a", b"new", LONG, version=old) is None
    assert await rig.storage.move("a", "b", b"new", LONG, version=old) is None
    assert await rig.storage.delete("a") == 0
    assert await rig.storage.load("a") is None
    assert await rig.storage.load("b") is None


@check()
async def replace_and_move_set_the_ttl(rig: Rig) -> None:
    first = await put(rig, "a", ttl=rig.tick * 20)
    second = version(await rig.storage.replace("a", b"data", 500, version=first))
    assert about(await rig.seconds_left("a"), 500), "longer"
    third = version(await rig.storage.replace("a", b"data", 100, version=second))
    assert about(await rig.seconds_left("a"), 100), "shorter"
    version(await rig.storage.move("a", "b", b"data", 700, version=third))
    assert about(await rig.seconds_left("b"), 700)
    assert about(record(await rig.storage.load("b")).ttl, 700)


@check()
async def touch_lengthens_and_shortens(rig: Rig) -> None:
    created = await put(rig, "a", b"data", ttl=200)
    assert await rig.storage.touch("a", 800) is True
    assert about(await rig.seconds_left("a"), 800)
    assert await rig.storage.touch("a", 100) is True
    assert about(await rig.seconds_left("a"), 100)
    assert about(record(await rig.storage.load("a")).ttl, 100)
    assert await holds(rig, "a", b"data", created)


@check()
async def a_lengthened_record_outlives_its_first_end(rig: Rig) -> None:
    touched = await put(rig, "touched", b"data", ttl=rig.tick * 20)
    renewed = await put(rig, "renewed", b"data", ttl=rig.tick * 20)
    assert await rig.storage.touch("touched", LONG) is True
    assert await rig.storage.load("renewed", renew=LONG) is not None
    await rig.advance(rig.tick * 21)
    await purge(rig)
    assert await holds(rig, "touched", b"data", touched)
    assert await holds(rig, "renewed", b"data", renewed)


@check()
async def a_shortened_record_ends_early(rig: Rig) -> None:
    await put(rig, "touched")
    await put(rig, "renewed")
    assert await rig.storage.touch("touched", rig.tick) is True
    assert await rig.storage.load("renewed", renew=rig.tick) is not None
    await wait_out(rig)
    assert await rig.storage.load("touched") is None
    assert await rig.storage.load("renewed") is None


@check()
async def touching_a_missing_key_makes_nothing(rig: Rig) -> None:
    assert await rig.storage.touch("a", LONG) is False
    assert await rig.storage.load("a") is None
    await put(rig, "a")
    await rig.storage.delete("a")
    assert await rig.storage.touch("a", LONG) is False
    assert await rig.storage.load("a") is None


@check()
async def loading_with_renew_sets_the_ttl_and_only_that(rig: Rig) -> None:
    created = await put(rig, "a", b"data", ttl=200)
    for ttl in (900.0, 100.0):
        stored = record(await rig.storage.load("a", renew=ttl))
        assert about(stored.ttl, ttl), "the ttl returned is the one after the renewal"
        assert (stored.data, stored.version) == (b"data", created)
        assert about(await rig.seconds_left("a"), ttl)
    version(await rig.storage.replace("a", b"new", LONG, version=created))


@check()
async def loading_with_renew_revives_nothing(rig: Rig) -> None:
    await put(rig, "a")
    await rig.storage.delete("a")
    assert await rig.storage.load("a", renew=LONG) is None
    assert await rig.storage.load("a") is None


@check()
async def plain_loading_leaves_the_ttl_alone(rig: Rig) -> None:
    await put(rig, "a", ttl=200)
    await rig.storage.load("a")
    assert about(await rig.seconds_left("a"), 200)
