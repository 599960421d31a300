"""Whose sessions are whose: lists, revocations, limits; attack list I where it applies."""

import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.stores import SpyStorage
from tests.views import Visitor, response_to

from sessioncore import (
    ConfigError,
    MemoryStorage,
    OwnerLimitReached,
    SessionConfig,
    SessionEvent,
    SessionStore,
    SQLiteStorage,
    Storage,
    StorageUnavailable,
)
from sessioncore.testing import FailingStorage, ManualClock

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    made = MemoryStorage() if request.param == "memory" else SQLiteStorage(tmp_path / "sessions.sqlite3")
    await made.open()
    yield made
    await made.aclose()


async def login(store: SessionStore, owner: str, sid: str | None = None, **details: Any) -> Visitor:
    visitor = Visitor(store)
    exchange = await visitor.arrive(sid)
    await exchange.session.login(owner, **details)
    await visitor.leave(exchange)
    return visitor


async def handles(store: SessionStore, owner: str) -> list[str]:
    return [info.handle for info in await store.sessions_of(owner)]


async def alive(visitor: Visitor) -> bool:
    exchange = await visitor.arrive()
    found = not exchange.session.fresh
    await exchange.finish()
    return found


async def test_an_owner_sees_their_own_sessions_newest_first(storage: Storage) -> None:
    clock = ManualClock()
    store = SessionStore(SessionConfig(storage=storage, clock=clock))
    first = await login(store, "ada", device="laptop")
    clock.advance(5)
    second = await login(store, "ada", device="phone")
    await login(store, "bob", device="tablet")
    listed = await store.sessions_of("ada")
    assert [info.details for info in listed] == [{"device": "phone"}, {"device": "laptop"}]
    assert listed[0].created_at - listed[1].created_at == timedelta(seconds=5)
    assert listed[0].expires_at - listed[0].created_at == pytest.approx(timedelta(minutes=30), abs=timedelta(seconds=1))
    for visitor in (first, second):
        exchange = await visitor.arrive()
        assert exchange.session.handle in {info.handle for info in listed}
        await exchange.finish()
    assert first.sid is not None
    assert first.sid not in repr(listed)


@pytest.mark.parametrize("owner", ["a:b", "*", "🙂", "\u212a", "K", "o" * 1024, "session:x", "a", "A", " "])
async def test_odd_owners_do_not_meet(storage: Storage, owner: str) -> None:
    store = SessionStore(SessionConfig(storage=storage))
    visitor = await login(store, owner)
    for other in {"a:b", "*", "🙂", "\u212a", "K", "a", "A", "b", "a:", "session:", "x"} - {owner}:
        assert await store.sessions_of(other) == []
        assert await store.revoke_all(other) == 0
    assert len(await store.sessions_of(owner)) == 1
    assert await alive(visitor)


@pytest.mark.parametrize("owner", ["", "o" * 1025, "a\0b", "\ud800", 1, None, b"ada"])
async def test_an_owner_that_cannot_be_is_refused(owner: Any) -> None:
    session = await SessionStore().create({})
    with pytest.raises(ConfigError):
        await session.login(owner)
    with pytest.raises(ConfigError):
        session.bind_owner(owner)


async def test_revoking_one_device_takes_effect_on_its_next_request(storage: Storage) -> None:
    store = SessionStore(SessionConfig(storage=storage))
    laptop, phone = await login(store, "ada"), await login(store, "ada")
    exchange = await phone.arrive()
    handle = exchange.session.handle
    exchange.session["in flight"] = True
    assert await store.revoke(handle, owner="ada") is True
    await phone.leave(exchange)
    assert not await alive(phone)
    assert await alive(laptop)
    assert await store.revoke(handle) is False


async def test_a_strangers_session_cannot_be_revoked(storage: Storage) -> None:
    store = SessionStore(SessionConfig(storage=storage))
    ada = await login(store, "ada")
    exchange = await ada.arrive()
    handle, sid = exchange.session.handle, ada.sid or ""
    await exchange.finish()
    assert await store.revoke(handle, owner="mallory") is False
    for forged in (sid, "0" * 64, handle.upper(), handle + "0", "", "*", "session:" + handle):
        assert await store.revoke(forged) is False
        assert await store.revoke(forged, owner="ada") is False
    assert await alive(ada)


async def test_all_others_are_signed_out_and_this_one_stays(storage: Storage) -> None:
    store = SessionStore(SessionConfig(storage=storage))
    devices = [await login(store, "ada") for _ in range(5)]
    bob = await login(store, "bob")
    exchange = await devices[2].arrive()
    assert await store.revoke_all("ada", keep=exchange.session) == 4
    await devices[2].leave(exchange)
    assert [await alive(device) for device in devices] == [False, False, True, False, False]
    assert await alive(bob)
    assert await store.revoke_all("ada", keep=(await store.sessions_of("ada"))[0].handle) == 0
    with pytest.raises(ConfigError):
        await store.revoke_all("ada", keep=devices[2].sid)
    assert await store.revoke_all("ada") == 1
    assert await store.sessions_of("ada") == []


async def test_the_index_mirrors_what_is_alive(storage: Storage) -> None:
    store = SessionStore(SessionConfig(storage=storage))
    visitor = await login(store, "ada")
    exchange = await visitor.arrive()
    await exchange.session.regenerate()
    await visitor.leave(exchange)
    assert len(await store.sessions_of("ada")) == 1
    await login(store, "bob", visitor.sid)
    assert await store.sessions_of("ada") == []
    (bobs,) = await store.sessions_of("bob")
    assert await store.revoke(bobs.handle)
    assert await store.sessions_of("bob") == []


async def test_evict_oldest_leaves_the_newest(storage: Storage) -> None:
    clock = ManualClock()
    events: list[SessionEvent] = []
    store = SessionStore(SessionConfig(storage=storage, clock=clock, max_sessions_per_owner=2, on_event=events.append))
    devices: list[Visitor] = []
    for _ in range(4):
        clock.advance(1)
        devices.append(await login(store, "ada"))
    assert [await alive(device) for device in devices] == [False, False, True, True]
    assert [event.kind.value for event in events].count("owner_limit") == 2


async def test_an_old_session_that_is_bound_is_not_the_one_to_end() -> None:
    clock = ManualClock()
    store = SessionStore(SessionConfig(storage=MemoryStorage(clock=clock), clock=clock, max_sessions_per_owner=2))
    cart = Visitor(store)
    exchange = await cart.arrive()
    exchange.session["items"] = 3
    await cart.leave(exchange)
    logins: list[Visitor] = []
    for _ in range(2):
        clock.advance(1)
        logins.append(await login(store, "ada"))
    clock.advance(1)
    exchange = await cart.arrive()
    exchange.session.bind_owner("ada")
    await cart.leave(exchange)
    assert dict(await store.get_by_id(cart.sid or "")) == {"items": 3}
    assert [await alive(visitor) for visitor in logins] == [False, True]


async def test_refuse_answers_409_and_leaves_everything_as_it_was(storage: Storage) -> None:
    store = SessionStore(SessionConfig(storage=storage, max_sessions_per_owner=1, on_owner_limit="refuse"))
    laptop = await login(store, "ada")
    phone = Visitor(store)
    exchange = await phone.arrive()
    exchange.session["cart"] = ["tea"]
    await phone.leave(exchange)
    exchange = await phone.arrive()
    await exchange.session.login("ada")
    with pytest.raises(OwnerLimitReached) as caught:
        await exchange.commit(200)
    assert response_to(exchange, caught.value).status == 409
    await exchange.finish(failed=True)
    exchange = await phone.arrive()
    assert dict(exchange.session) == {"cart": ["tea"]}
    assert exchange.session.owner is None
    await exchange.finish()
    assert await alive(laptop)
    again = await login(store, "ada", laptop.sid)  # the same session logging in again takes no further place
    assert await alive(again)


@pytest.mark.parametrize("policy", ["evict_oldest", "refuse"])
@pytest.mark.parametrize("limit", [1, 3])
async def test_of_parallel_logins_exactly_the_allowed_number_survives(
    storage: Storage, policy: Any, limit: int
) -> None:
    store = SessionStore(SessionConfig(storage=storage, max_sessions_per_owner=limit, on_owner_limit=policy))
    refused = 0
    carts: list[Visitor] = []
    for _ in range(12):
        visitor = Visitor(store)
        exchange = await visitor.arrive()
        exchange.session["cart"] = 1
        await visitor.leave(exchange)
        carts.append(visitor)

    async def one(visitor: Visitor) -> None:
        nonlocal refused
        exchange = await visitor.arrive()
        await exchange.session.login("ada")
        await anyio.lowlevel.checkpoint()
        try:
            await visitor.leave(exchange)
        except OwnerLimitReached:
            refused += 1

    async with anyio.create_task_group() as group:
        for visitor in carts:
            group.start_soon(one, visitor)
    assert len(await store.sessions_of("ada")) == limit
    if policy == "refuse":
        assert refused == 12 - limit
        assert [await alive(visitor) for visitor in carts] == [True] * 12  # a refused visitor keeps the cart


async def test_a_login_that_loses_the_race_gets_its_anonymous_session_back_under_another_id() -> None:
    storage = SpyStorage()
    config: dict[str, Any] = {"absolute_timeout": None, "max_sessions_per_owner": 1, "on_owner_limit": "refuse"}
    store = SessionStore(SessionConfig(storage=storage, **config))
    older = SessionStore(SessionConfig(storage=storage.inner, clock=lambda: 1_000_000.0, absolute_timeout=None))
    visitor = Visitor(store)
    exchange = await visitor.arrive()
    exchange.session["cart"] = 1
    await visitor.leave(exchange)
    before = visitor.sid

    async def logout_in_another_tab() -> None:
        assert await store.delete(before or "") is False  # the login has moved the record already

    async def another_login_wins() -> None:
        await older.create({}, owner="ada")
        storage.after["owned_keys"] = logout_in_another_tab

    storage.before["move"] = another_login_wins
    exchange = await visitor.arrive()
    await exchange.session.login("ada")
    with pytest.raises(OwnerLimitReached):
        await visitor.leave(exchange)
    assert visitor.sid not in {before, None}
    exchange = await visitor.arrive()
    assert (dict(exchange.session), exchange.session.owner) == ({"cart": 1}, None)
    assert len(await store.sessions_of("ada")) == 1
    exchange = await visitor.arrive(before)
    assert exchange.session.fresh  # what was ended stays ended


async def test_a_refused_login_is_tried_again_when_the_handler_has_made_room(storage: Storage) -> None:
    store = SessionStore(SessionConfig(storage=storage, max_sessions_per_owner=1, on_owner_limit="refuse"))
    await store.create({}, owner="ada")
    visitor = Visitor(store)
    exchange = await visitor.arrive()
    exchange.session["cart"] = 1
    await visitor.leave(exchange)
    exchange = await visitor.arrive()
    await exchange.session.login("ada")
    with pytest.raises(OwnerLimitReached):
        await exchange.session.save()
    assert await store.revoke_all("ada") == 1
    await visitor.leave(exchange)
    assert (await store.get_by_id(visitor.sid or "")).owner == "ada"


async def test_a_fresh_login_that_loses_the_race_leaves_nothing() -> None:
    storage = SpyStorage()
    config: dict[str, Any] = {"absolute_timeout": None, "max_sessions_per_owner": 1, "on_owner_limit": "refuse"}
    store = SessionStore(SessionConfig(storage=storage, **config))
    older = SessionStore(SessionConfig(storage=storage.inner, clock=lambda: 1_000_000.0, absolute_timeout=None))

    async def another_login_wins() -> None:
        await older.create({}, owner="ada")

    storage.before["create"] = another_login_wins
    with pytest.raises(OwnerLimitReached):
        await login(store, "ada")
    assert len(await store.sessions_of("ada")) == 1
    assert len(storage.inner) == 1


async def test_a_binding_that_loses_the_race_is_taken_back_also_where_others_write_meanwhile() -> None:
    storage = SpyStorage()
    config: dict[str, Any] = {"absolute_timeout": None, "max_sessions_per_owner": 1, "on_owner_limit": "refuse"}
    store = SessionStore(SessionConfig(storage=storage, **config))
    older = SessionStore(SessionConfig(storage=storage.inner, clock=lambda: 1_000_000.0, absolute_timeout=None))
    session = await store.create({"cart": 1, "note": "old", "theirs": 0, "dropped": 1})

    async def another_login_wins() -> None:
        await older.create({}, owner="ada")
        storage.after["replace"] = before_it_is_taken_back

    async def before_it_is_taken_back() -> None:
        storage.before["replace"] = another_request_writes

    async def another_request_writes() -> None:
        async with store.open(session.id) as other:
            assert other.owner == "ada"
            other.update(theirs=1, more=1)
            del other["cart"]

    storage.before["replace"] = another_login_wins
    session.update(note="new", mine=1)
    del session["dropped"]
    session.bind_owner("ada")
    with pytest.raises(OwnerLimitReached):
        await session.save()
    found = await store.get_by_id(session.id)
    assert dict(found) == dict(session) == {"note": "old", "theirs": 1, "dropped": 1, "more": 1}
    assert (found.owner, session.owner) == (None, None)
    assert len(await store.sessions_of("ada")) == 1


async def test_bind_owner_keeps_the_id_and_counts_for_the_limit() -> None:
    storage = SpyStorage()
    config: dict[str, Any] = {"absolute_timeout": None, "max_sessions_per_owner": 1, "on_owner_limit": "refuse"}
    store = SessionStore(SessionConfig(storage=storage, **config))
    session = await store.create({"n": 1})
    before = session.id
    older = SessionStore(SessionConfig(storage=storage.inner, clock=lambda: 1_000_000.0, absolute_timeout=None))

    async def another_login_wins() -> None:
        await older.create({}, owner="ada")

    storage.before["replace"] = another_login_wins
    session.bind_owner("ada", device="laptop")
    with pytest.raises(OwnerLimitReached):
        await session.save()
    assert (session.owner, session.id) == (None, before)
    session.bind_owner("bob")
    await session.save()
    assert (session.owner, session.id) == ("bob", before)
    assert [info.handle for info in await store.sessions_of("bob")] == [session.handle]


async def test_a_record_that_cannot_be_read_is_not_listed_but_is_revoked_with_its_owner(storage: Storage) -> None:
    events: list[SessionEvent] = []
    store = SessionStore(SessionConfig(storage=storage, on_event=events.append))
    await storage.create("session:" + "0" * 64, b"\x96\x63 of another version", 60, owner="session:ada")
    good = await login(store, "ada")
    assert len(await store.sessions_of("ada")) == 1
    assert "corrupt" in {event.kind.value for event in events}
    assert await store.revoke_all("ada") == 2
    assert not await alive(good)
    assert await storage.load("session:" + "0" * 64) is None


async def test_last_seen_follows_the_idle_clock() -> None:
    clock = ManualClock()
    storage = MemoryStorage(clock=clock)
    store = SessionStore(SessionConfig(storage=storage, clock=clock))
    visitor = await login(store, "ada")
    began = clock()
    clock.advance(600)
    exchange = await visitor.arrive()
    await visitor.leave(exchange)
    clock.advance(100)
    (info,) = await store.sessions_of("ada")
    assert info.last_seen_at.timestamp() == pytest.approx(began + 600)
    assert info.created_at.timestamp() == pytest.approx(began)


async def test_a_listing_that_fails_is_an_error() -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    await login(store, "ada")
    storage.fail("load")
    with pytest.raises(StorageUnavailable):
        await store.sessions_of("ada")
    with pytest.raises(StorageUnavailable):
        await store.revoke_all("ada")


class LaggingStorage(SpyStorage):
    """Its index still names sessions that have another owner by now."""

    def __init__(self) -> None:
        super().__init__()
        self.behind: list[str] = []

    async def owned_keys(self, owner: str) -> list[str]:
        return sorted({*await super().owned_keys(owner), *self.behind})


async def test_an_index_that_lags_behind_neither_lists_nor_ends_a_strangers_session() -> None:
    storage = LaggingStorage()
    store = SessionStore(SessionConfig(storage=storage, max_sessions_per_owner=1))
    bobs, nobodys = await login(store, "bob"), await store.create({})
    storage.behind = [f"session:{handle}" for handle in (*await handles(store, "bob"), nobodys.handle)]
    adas = await login(store, "ada")  # over the limit, if strangers counted
    assert len(await store.sessions_of("ada")) == 1
    assert await store.revoke_all("ada") == 1
    assert [await alive(visitor) for visitor in (adas, bobs)] == [False, True]
    assert dict(await store.get_by_id(nobodys.id)) == {}


async def test_a_store_whose_prefix_begins_with_ours_is_left_alone(storage: Storage) -> None:
    outer = SessionStore(SessionConfig(storage=storage, key_prefix="a:"))
    inner = SessionStore(SessionConfig(storage=storage, key_prefix="a:b:"))
    session = await inner.create({}, owner="x")
    await storage.create("a:b:" + "0" * 64, b"unreadable", 60, owner="a:b:x")
    assert await outer.sessions_of("b:x") == []
    assert await outer.revoke_all("b:x") == 0
    assert (await inner.get_by_id(session.id)).owner == "x"


async def test_details_that_cannot_be_read_here_do_not_hide_a_session(storage: Storage) -> None:
    class Device:
        pass

    events: list[SessionEvent] = []
    newer = SessionStore(SessionConfig(storage=storage))
    newer.register_type(Device, name="device", encode=lambda device: None, decode=lambda value: Device())
    older = SessionStore(SessionConfig(storage=storage, on_event=events.append))
    session = await newer.create({}, owner="ada", device=Device())
    assert [(info.handle, info.details) for info in await older.sessions_of("ada")] == [(session.handle, {})]
    assert [event.kind.value for event in events] == ["corrupt"]


async def test_a_login_whose_write_comes_late_takes_no_place_that_was_given_already() -> None:
    storage = SpyStorage()
    config: dict[str, Any] = {"absolute_timeout": None, "max_sessions_per_owner": 1, "on_owner_limit": "refuse"}
    slow = SessionStore(SessionConfig(storage=storage, storage_timeout=timedelta(seconds=1), **config))
    quick = SessionStore(SessionConfig(storage=storage.inner, **config))
    accepted: list[Visitor] = []

    async def another_login() -> None:
        await anyio.sleep(0.01)  # it is younger
        accepted.append(await login(quick, "ada", device="phone"))

    storage.before["create"] = another_login  # the older one has chosen its time, and is not stored yet
    with pytest.raises(OwnerLimitReached):
        await login(slow, "ada")
    assert [one.details for one in await slow.sessions_of("ada")] == [{"device": "phone"}]
    assert await alive(accepted[0])


async def test_a_logout_that_finds_nothing_does_not_claim_to_have_ended_it() -> None:
    events: list[SessionEvent] = []
    store = SessionStore(SessionConfig(on_event=events.append))
    visitor = await login(store, "ada")
    first, second = await visitor.arrive(), await visitor.arrive()
    await second.session.destroy()
    await first.session.destroy()
    assert [event.kind.value for event in events][-2:] == ["destroyed", "gone"]
    for exchange in (first, second):
        await exchange.finish()


async def test_of_several_late_logins_one_steps_back_and_the_other_finds_room() -> None:
    memory = MemoryStorage()
    config: dict[str, Any] = {"max_sessions_per_owner": 2, "on_owner_limit": "refuse"}
    quick = SessionStore(SessionConfig(storage=memory, **config))
    outcomes: dict[str, str] = {}

    began = time.time()
    storages = {"oldest": FailingStorage(memory), "older": FailingStorage(memory)}
    held = [storage.hold("create") for storage in storages.values()]

    async def late(name: str, seconds: float) -> None:
        limits: dict[str, Any] = {"storage_timeout": timedelta(seconds=2), "clock": lambda: began - seconds}
        store = SessionStore(SessionConfig(storage=storages[name], **config, **limits))
        try:
            await login(store, "ada", name=name)
            outcomes[name] = "in"
        except OwnerLimitReached:
            outcomes[name] = "refused"

    async with anyio.create_task_group() as group:
        group.start_soon(late, "oldest", 2)
        group.start_soon(late, "older", 1)
        for create in held:
            await create.entered.wait()
        await login(quick, "ada", name="young")  # in, before the others come to be seen
        for create in held:
            create.release()
    assert sorted(outcomes.values()) == ["in", "refused"]  # which of them, that depends on who was seen first
    left = {one.details["name"] for one in await quick.sessions_of("ada")}
    assert left == {"young", *(name for name, outcome in outcomes.items() if outcome == "in")}
