"""The limit of an owner's sessions: the oldest ones end, or the login is refused and leaves everything as it was."""

import select
from datetime import timedelta
from functools import partial
from itertools import product
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.kit import BOTH_LOOPS, Lab, Work, login, lose, regenerate, write
from tests.request.test_replaced_ids import SpyWithTombstones
from tests.stores import SpyStorage, SuspendingStorage
from tests.views import Visitor, logged_in, response_to

from sessioncore import EventKind, OwnerLimitReached, StorageUnavailable
from sessioncore.testing import FailingStorage, Fault

pytestmark = pytest.mark.anyio

SHORT = timedelta(seconds=0.5)  # how long a login waits for another one to step back


def refusing() -> Lab:
    """One session per owner; `another_login`, on a server whose clock is behind, wins every race."""
    return Lab(max_sessions_per_owner=1, on_owner_limit="refuse", absolute_timeout=None, storage_timeout=SHORT)


async def another_login(lab: Lab) -> None:
    await lab.beside(clock=lambda: 1_000_000.0, max_sessions_per_owner=None).create({}, owner="ada")


async def test_the_oldest_logins_are_ended() -> None:
    lab = Lab(max_sessions_per_owner=2)
    await lab.begin(items=3)  # anonymous, and older than any login
    devices: list[Visitor] = []
    for _ in range(4):
        lab.clock.advance(1)
        devices.append(await logged_in(lab.store))
    assert [await lab.found(device.sid) is not None for device in devices] == [False, False, True, True]
    assert [event.detail for event in lab.sent(EventKind.OWNER_LIMIT)] == ["a session over the limit was ended"] * 2
    lab.clock.advance(1)
    async with lab.visitor.request() as session:
        session.bind_owner("ada")  # the session that is bound now is not the one to end
    assert await lab.data() == {"items": 3}
    assert [await lab.found(device.sid) is not None for device in devices] == [False, False, False, True]


@pytest.mark.parametrize("call", ["owned_keys", "load", "move"])
async def test_the_next_login_ends_what_the_storage_could_not_end(call: str) -> None:
    lab = Lab(kind=SpyWithTombstones, max_sessions_per_owner=1)
    await logged_in(lab.store)
    visitor = Visitor(lab.store)
    lab.storage.before[call] = lose
    with pytest.raises(StorageUnavailable):
        async with visitor.request() as session:
            await session.login("ada")
    assert (len(await lab.store.sessions_of("ada")), await lab.found(visitor.sid) is not None) == (2, True)
    await logged_in(lab.store)
    assert len(await lab.store.sessions_of("ada")) == 1


@pytest.mark.proves("AT-81")
@pytest.mark.parametrize("ahead", [0.5, 3600.0, 1e9])
async def test_the_newest_login_stays_also_where_a_server_with_a_fast_clock_has_logged_in_before(ahead: float) -> None:
    lab = Lab(kind=SpyWithTombstones, max_sessions_per_owner=2)
    fast = lab.beside(clock=lambda: lab.clock() + ahead)
    devices = [await logged_in(store) for store in (fast, fast, lab.store, lab.store)]
    assert [await lab.found(device.sid) is not None for device in devices] == [False, False, True, True]
    assert [info.created_at.timestamp() for info in await lab.store.sessions_of("ada")] == [lab.clock()] * 2
    lab.clock.advance(0.5)
    latest = await logged_in(lab.store)
    assert [await lab.found(device.sid) is not None for device in (*devices[2:], latest)] == [False, True, True]


@pytest.mark.parametrize(("kind", "call"), [(SpyStorage, "delete"), (SpyWithTombstones, "move")])
@pytest.mark.parametrize("work", [regenerate, write, login])
async def test_a_session_that_is_used_while_the_limit_ends_it_stays_only_if_it_logs_in(
    work: Work, kind: type[SpyStorage], call: str
) -> None:
    lab = Lab(kind=kind, max_sessions_per_owner=1)
    laptop = await logged_in(lab.store)

    async def use() -> None:
        lab.clock.advance(1)
        async with laptop.request() as session:
            await work(session)

    lab.storage.before[call] = use
    lab.clock.advance(1)
    phone = await logged_in(lab.store)
    assert (await lab.found(laptop.sid) is not None) is (work is login)
    assert (await lab.found(phone.sid) is not None) is (work is not login)
    assert len(lab.sent(EventKind.OWNER_LIMIT)) == 1
    assert lab.calls.count("owned_keys") < 10  # it looks again only if some were not ended


async def test_a_refused_login_is_a_409_and_leaves_everything_as_it_was() -> None:
    lab = refusing()
    laptop = await logged_in(lab.store)
    exchange = await lab.begin_request(cart=["tea"])
    await exchange.session.login("ada")
    with pytest.raises(OwnerLimitReached) as caught:
        await exchange.commit(200)
    assert response_to(exchange, caught.value).status == 409
    assert [event.detail for event in lab.events] == ["a login was refused"]
    await exchange.finish(failed=True)
    found = await lab.kept()
    assert (dict(found), found.owner) == ({"cart": ["tea"]}, None)
    async with laptop.request() as session:
        await session.login("ada")  # the same session does not count twice
    assert await lab.found(laptop.sid) is not None


@pytest.mark.proves("AT-50", "ASVS 7.1.2")
@BOTH_LOOPS
@pytest.mark.parametrize("policy", ["evict_oldest", "refuse"])
async def test_exactly_the_allowed_number_of_parallel_logins_survives(policy: str) -> None:
    wait: dict[str, Any] = {"storage_timeout": SHORT} if policy == "refuse" else {}  # for those that are refused
    for limit, verb, kind in product((1, 3), ("login", "bind_owner"), (SpyStorage, SuspendingStorage)):
        lab = Lab(kind=kind, max_sessions_per_owner=limit, on_owner_limit=policy, **wait)
        refused = 0
        visitors = [Visitor(lab.store, sid=(await lab.store.create({"cart": 1})).id) for _ in range(8)]

        async def log_in(visitor: Visitor, lab: Lab = lab, verb: str = verb) -> None:
            nonlocal refused
            try:
                async with visitor.request() as session:
                    lab.clock.advance(0.001)
                    if verb == "login":
                        await session.login("ada")
                    else:
                        session.bind_owner("ada")
                    await anyio.lowlevel.checkpoint()
            except OwnerLimitReached:
                refused += 1

        async with anyio.create_task_group() as group:
            for visitor in visitors:
                group.start_soon(log_in, visitor)
        assert len(await lab.store.sessions_of("ada")) == limit
        if policy == "refuse":
            assert refused == 8 - limit
            assert [await lab.data(visitor.sid) for visitor in visitors] == [{"cart": 1}] * 8


# -- logins that lose a race


@pytest.mark.parametrize("caught", [False, True])
async def test_a_login_that_loses_the_race_gets_its_anonymous_session_back_under_another_id(caught: bool) -> None:
    lab = refusing()
    before = (await lab.begin(cart=1)).sid or ""

    async def log_out_in_another_tab() -> None:
        assert await lab.store.delete(before) is False  # the login has moved the record already

    async def lose_the_race() -> None:
        await another_login(lab)
        lab.storage.after["owned_keys"] = log_out_in_another_tab

    lab.storage.before["move"] = lose_the_race
    exchange = await lab.visitor.arrive()
    await exchange.session.login("ada")
    with pytest.raises(OwnerLimitReached):
        await (exchange.session.save() if caught else lab.visitor.leave(exchange))
    if caught:  # the handler answers with a page of its own
        exchange.session.release()
        await lab.visitor.leave(exchange)
    assert lab.visitor.sid not in {before, None}
    assert lab.kinds() == ["owner_limit"]  # the login, which was undone, is no event
    found = await lab.kept()
    assert (dict(found), found.owner) == ({"cart": 1}, None)
    assert len(await lab.store.sessions_of("ada")) == 1
    assert await lab.found(before) is None  # what was ended stays ended


@pytest.mark.proves("P4")
@pytest.mark.parametrize(("work", "operation"), [("login", "move"), ("bind_owner", "replace")])
async def test_a_login_that_loses_the_race_takes_back_nothing_that_others_wrote_before_it_and_after(
    work: str, operation: str
) -> None:
    lab = refusing()
    session = await lab.held(cart=["tea"], note="old", theirs=0, dropped=1)
    former = session.id

    async def lose_the_race() -> None:
        await another_login(lab)
        async with lab.store.open(former) as other:
            other["cart"].append("theirs")
        lab.storage.after["owned_keys"] = before_it_is_taken_back

    async def before_it_is_taken_back() -> None:
        lab.storage.before["replace"] = another_request_writes

    async def another_request_writes() -> None:
        async with lab.store.open(login) as other:
            assert other.owner == "ada"
            other.update(theirs=1, more=1)
            del other["mine"]

    session.update(note="new", mine=1)
    session.mutate("cart", lambda cart: [*cart, "mine"])
    del session["dropped"]
    await session.login("ada") if work == "login" else session.bind_owner("ada")
    login, lab.storage.before[operation] = session.id, lose_the_race
    with pytest.raises(OwnerLimitReached):
        await session.save()
    found = await lab.kept(login)
    assert dict(found) == {"cart": ["tea", "theirs"], "note": "old", "theirs": 1, "dropped": 1, "more": 1}
    assert found.owner is None
    assert await lab.store.revoke_all("ada") == 1
    await session.save()
    found = await lab.kept(session.id)
    kept = {"cart": ["tea", "theirs", "mine"], "note": "new", "theirs": 1, "mine": 1, "more": 1}
    assert (dict(found), dict(session), found.owner) == (kept, kept, "ada")
    assert (session.id == former) is (work == "bind_owner")


async def test_a_login_whose_rank_is_unknown_at_the_response_gets_its_id_with_the_error() -> None:
    lab = refusing()
    exchange = await lab.begin_request()
    await exchange.session.login("ada")

    async def cut() -> None:
        lab.storage.before["owned_keys"] = lose

    lab.storage.after["move"] = cut
    with pytest.raises(StorageUnavailable):
        await lab.visitor.leave(exchange)
    assert (await lab.kept()).owner == "ada"  # else the client could not use the session that fills the limit


async def test_a_refused_login_whose_session_is_ended_meanwhile_leaves_nothing() -> None:
    lab = refusing()
    await lab.begin()

    async def lose_the_race() -> None:
        await another_login(lab)
        lab.storage.before["replace"] = lab.beside().reset  # ends all sessions

    lab.storage.before["move"] = lose_the_race
    exchange = await lab.visitor.arrive()
    await exchange.session.login("ada")
    with pytest.raises(OwnerLimitReached):
        await lab.visitor.leave(exchange)
    assert "set-cookie" not in dict(lab.visitor.headers)
    assert len(lab.storage.inner) == 0
    assert (dict(exchange.session), exchange.session.fresh) == ({}, True)


async def test_a_refused_login_is_taken_back_also_if_the_deadline_of_before_passes_meanwhile() -> None:
    lab = refusing()
    session = await lab.held()
    session.set_absolute_timeout(timedelta(minutes=30))
    await session.save()
    lab.clock.advance(29 * 60)
    await session.login("ada")
    lab.storage.before["move"] = lambda: another_login(lab)

    async def time_passes() -> None:
        lab.clock.advance(120)

    lab.storage.after["move"] = time_passes
    with pytest.raises(OwnerLimitReached):
        await session.save()
    assert len(await lab.store.sessions_of("ada")) == 1


@pytest.mark.proves("P3")
@pytest.mark.parametrize("call", ["create", "move", "replace"])
@pytest.mark.parametrize(("fails", "arrived"), [("look", False), ("undo", False), ("undo", True)])
async def test_a_login_that_could_not_be_undone_is_an_error_of_the_response_too(
    call: str, fails: str, arrived: bool
) -> None:
    lab = refusing()
    exchange = await (lab.visitor if call == "create" else await lab.begin()).arrive()

    async def lose_the_race() -> None:
        await another_login(lab)
        failing = {"look": "owned_keys", "undo": "delete" if call == "create" else "replace"}[fails]
        (lab.storage.after if arrived else lab.storage.before)[failing] = lose

    lab.storage.after[call] = lose_the_race
    exchange.session.bind_owner("ada") if call == "replace" else await exchange.session.login("ada")
    with pytest.raises(StorageUnavailable):
        await exchange.session.save()
    overtaken = arrived and call != "create"  # the undoing looks like another request's write
    with pytest.raises(StorageUnavailable if overtaken else OwnerLimitReached):
        await lab.visitor.leave(exchange)
    assert len(await lab.store.sessions_of("ada")) == 1
    assert (len(lab.storage.inner), lab.visitor.sid is None) == ((1, True) if call == "create" else (2, False))


@BOTH_LOOPS
@pytest.mark.parametrize(("limit", "young"), [(2, 1), (5, 2)])
async def test_some_of_several_late_logins_step_back_and_the_others_find_room(limit: int, young: int) -> None:
    lab = Lab(kind=SuspendingStorage, max_sessions_per_owner=limit, on_owner_limit="refuse", storage_timeout=2 * SHORT)
    outcomes: dict[str, str] = {}
    began = lab.clock()
    storages = {f"{n} s old": FailingStorage(lab.storage) for n in range(1, limit + 1)}
    held = [storage.hold("create") for storage in storages.values()]

    async def late(name: str, seconds: float) -> None:
        try:
            await logged_in(lab.beside(storage=storages[name], clock=lambda: began - seconds), name=name)
            outcomes[name] = "in"
        except OwnerLimitReached:
            outcomes[name] = "refused"

    async with anyio.create_task_group() as group:
        for seconds, name in enumerate(storages, 1):
            group.start_soon(late, name, seconds)
        for create in held:
            await create.entered.wait()
        for _ in range(young):
            await logged_in(lab.store, name="young")  # admitted before the others can be seen
        for create in held:
            create.release()
    assert lab.calls.count("owned_keys") < 500  # they sleep between two looks
    # Which of them are admitted depends on which were seen first.
    assert sorted(outcomes.values()) == ["in"] * (limit - young) + ["refused"] * young
    left = {one.details["name"] for one in await lab.store.sessions_of("ada")}
    assert left == {"young", *(name for name, outcome in outcomes.items() if outcome == "in")}


@BOTH_LOOPS
async def test_a_login_does_not_step_back_because_the_process_was_stopped_while_it_waited() -> None:
    lab = refusing()

    async def refused() -> None:
        with pytest.raises(OwnerLimitReached):
            await logged_in(lab.beside(storage=lab.storage, clock=lambda: lab.clock() + 1))

    async def lose_the_race() -> None:
        younger = lab.storage.hold_reply("create", times=1)
        group.start_soon(refused)
        await younger.entered.wait()
        lab.storage.before["owned_keys"] = partial(stop, younger)

    async def stop(younger: Fault) -> None:
        select.select([], [], [], 1.2)  # nothing runs, as when the process is stopped
        younger.release()

    async with anyio.create_task_group() as group:
        lab.storage.before["create"] = lose_the_race
        await logged_in(lab.store)
    assert len(await lab.store.sessions_of("ada")) == 1
