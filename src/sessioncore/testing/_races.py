"""The contract of parallel and cancelled callers: a call has happened or it has not, and nothing between."""

from functools import partial

import anyio
from anyio.lowlevel import checkpoint

from sessioncore._errors import StorageError
from sessioncore.concurrency._gather import gather
from sessioncore.storage import Stored
from sessioncore.testing._rig import LONG, Rig, check, holds, put, record, version

MANY = 20


@check(race=True)
async def one_of_many_parallel_creates_wins(rig: Rig) -> None:
    results = await gather([partial(rig.storage.create, "a", b"%d" % n, LONG, owner=f"u{n}") for n in range(MANY)])
    winners = [result for result in results if result is not None]
    assert len(winners) == 1
    stored = record(await rig.storage.load("a"))
    assert stored.version == winners[0]
    assert await _owners_of_a(rig) == [f"u{stored.data.decode()}"]


async def _owners_of_a(rig: Rig) -> list[str]:
    owners = [f"u{number}" for number in range(MANY)]
    return [owner for owner in owners if await rig.storage.owned_keys(owner)]


@check(race=True)
async def one_of_many_parallel_replaces_wins(rig: Rig) -> None:
    first = await put(rig, "a", b"first")
    results = await gather(
        [partial(rig.storage.replace, "a", b"%d" % n, LONG, version=first, owner=f"u{n}") for n in range(MANY)]
    )
    winners = [result for result in results if isinstance(result, int)]
    losers = [result for result in results if isinstance(result, Stored)]
    assert (len(winners), len(losers)) == (1, MANY - 1)
    stored = record(await rig.storage.load("a"))
    assert stored.version == winners[0]
    assert {(loser.data, loser.version) for loser in losers} == {(stored.data, stored.version)}
    assert await _owners_of_a(rig) == [f"u{stored.data.decode()}"]


@check(race=True)
async def one_of_many_parallel_moves_wins(rig: Rig) -> None:
    first = await put(rig, "a", b"first", owner="u")
    results = await gather(
        [partial(rig.storage.move, "a", f"b{n}", b"%d" % n, LONG, version=first, owner="u") for n in range(MANY)]
    )
    assert len([result for result in results if isinstance(result, int)]) == 1
    assert len([result for result in results if result is None]) == MANY - 1
    assert await rig.storage.load("a") is None
    there = [n for n in range(MANY) if await rig.storage.load(f"b{n}") is not None]
    assert len(there) == 1
    assert await rig.storage.owned_keys("u") == [f"b{there[0]}"]


@check(race=True)
async def one_of_many_parallel_moves_onto_one_key_wins(rig: Rig) -> None:
    versions = [await put(rig, f"a{n}", b"%d" % n) for n in range(5)]
    winners: list[int] = []

    async def move(n: int) -> None:
        try:
            winners.append(version(await rig.storage.move(f"a{n}", "b", b"%d" % n, LONG, version=versions[n])))
        except StorageError:
            assert await holds(rig, f"a{n}", b"%d" % n, versions[n])

    await gather([partial(move, n) for n in range(5)])
    assert len(winners) == 1
    assert record(await rig.storage.load("b")).version == winners[0]


@check(race=True)
async def a_move_and_a_replace_do_not_both_win(rig: Rig) -> None:
    for number in range(5):
        key, new_key = f"a{number}", f"b{number}"
        first = await put(rig, key, b"first")
        results = await gather(
            [
                partial(rig.storage.replace, key, b"replaced", LONG, version=first),
                partial(rig.storage.move, key, new_key, b"moved", LONG, version=first),
            ]
        )
        assert len([result for result in results if isinstance(result, int)]) == 1
        old, new = await rig.storage.load(key), await rig.storage.load(new_key)
        assert (old is None) != (new is None)


@check(race=True)
async def parallel_increments_lose_nothing(rig: Rig) -> None:
    await put(rig, "a", b"0")

    async def increment() -> None:
        current = record(await rig.storage.load("a"))
        for _ in range(MANY):  # each conflict means that another one has written
            data = b"%d" % (int(current.data) + 1)
            result = await rig.storage.replace("a", data, LONG, version=current.version)
            if isinstance(result, int):
                return
            current = record(result)
        raise AssertionError("replace reported more conflicts than there were writes")

    await gather([increment] * MANY)
    assert record(await rig.storage.load("a")).data == b"%d" % MANY


@check(race=True)
async def after_delete_returned_no_writer_brings_it_back(rig: Rig) -> None:
    for number in range(10):
        key = f"a{number}"
        created = await put(rig, key, owner="u")
        under_way, deleted = anyio.Event(), anyio.Event()
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(_write_until_gone, rig, key, created, under_way, deleted)
            await under_way.wait()
            for _ in range(number):  # each round deletes at another moment of the writers
                await checkpoint()
            await rig.storage.delete(key)
            deleted.set()
            assert await rig.storage.load(key) is None
        assert await rig.storage.load(key) is None
    assert await rig.storage.owned_keys("u") == []


async def _write_until_gone(rig: Rig, key: str, at: int, under_way: anyio.Event, deleted: anyio.Event) -> None:
    late = False
    while (result := await rig.storage.replace(key, b"more", LONG, version=at, owner="u")) is not None:
        assert not late, "a replace that began after delete had returned found a record"
        late = deleted.is_set()
        at = result if isinstance(result, int) else record(result).version
        under_way.set()
        await checkpoint()  # a storage that never waits would not let other tasks run


@check(race=True)
async def a_renewal_never_undoes_a_write_or_a_delete(rig: Rig) -> None:
    for number in range(5):
        key = f"a{number}"
        at = await put(rig, key, b"first")
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(rig.storage.touch, key, LONG)
                tasks.start_soon(partial(rig.storage.load, key, renew=LONG))
            await checkpoint()  # let them begin
            at = version(await rig.storage.replace(key, b"second", LONG, version=at))
        assert await holds(rig, key, b"second", at)
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(rig.storage.touch, key, LONG)
                tasks.start_soon(partial(rig.storage.load, key, renew=LONG))
            await checkpoint()
            await rig.storage.delete(key)
        assert await rig.storage.load(key) is None


@check(race=True)
async def an_owner_gains_and_loses_keys_in_parallel(rig: Rig) -> None:
    leaving = [f"old{number}" for number in range(MANY)]
    for key in leaving:
        await put(rig, key, owner="u")
    async with anyio.create_task_group() as tasks:
        for number, key in enumerate(leaving):
            tasks.start_soon(partial(put, rig, f"new{number}", owner="u"))
            tasks.start_soon(rig.storage.delete, key)
    assert sorted(await rig.storage.owned_keys("u")) == sorted(f"new{number}" for number in range(MANY))


@check(race=True)
async def a_cancelled_move_leaves_before_or_after(rig: Rig) -> None:
    at = await put(rig, "a0", b"0", owner="u")
    key, data = "a0", b"0"
    for turn in range(1, 41):
        new_key, new_data = f"a{turn}", b"%d" % turn
        with anyio.move_on_after(turn % 8 * 0.0003):
            version(await rig.storage.move(key, new_key, new_data, LONG, version=at, owner="u"))
        # A server may still be running the move: either this write comes first, and the move is a conflict,
        # or the move does, and this write finds no record.
        settled = await rig.storage.replace(key, data, LONG, version=at, owner="u")
        if settled is None:
            assert await rig.storage.load(key) is None
            current = record(await rig.storage.load(new_key))
            assert current.data == new_data
            key, data, at = new_key, new_data, current.version
        else:
            at = version(settled)
            assert await rig.storage.load(new_key) is None
            assert await holds(rig, key, data, at)
        assert await rig.storage.owned_keys("u") == [key]


@check(race=True)
async def a_cancelled_replace_leaves_before_or_after(rig: Rig) -> None:
    at = await put(rig, "a", b"0")
    last = b"0"
    for turn in range(1, 41):
        data = b"%d" % turn
        with anyio.move_on_after(turn % 8 * 0.0003):
            version(await rig.storage.replace("a", data, LONG, version=at))
        settled = await rig.storage.replace("a", last, LONG, version=at)
        if isinstance(settled, Stored):
            assert settled.data == data
            at, last = settled.version, data
        else:
            at = version(settled)
        assert await holds(rig, "a", last, at)
