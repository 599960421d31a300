"""Whose sessions are whose: lists of an owner's sessions, and revocations."""

from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import msgspec
import pytest
from tests.kit import Lab
from tests.stores import SpyStorage, SuspendingStorage
from tests.views import Visitor, logged_in

from sessioncore import ConfigError, EventKind, Moved, Session, Stored, Unreadable
from sessioncore.codec._record import YEAR_9999

pytestmark = pytest.mark.anyio


async def alive(lab: Lab, *visitors: Visitor) -> list[bool]:
    return [visitor.sid is not None and await lab.found(visitor.sid) is not None for visitor in visitors]


@pytest.mark.proves("P6", "AT-116", "ASVS 7.5.2")
async def test_an_owner_sees_their_own_sessions_newest_first(lab: Lab) -> None:
    began = lab.clock()
    first = await logged_in(lab.store, "ada", device="laptop")
    lab.clock.advance(600)
    second = await logged_in(lab.store, "ada", device="phone")
    await logged_in(lab.store, "bob", device="tablet")
    async with first.request() as session:
        assert session.owner == "ada"
    lab.clock.advance(100)
    phone, laptop = await lab.store.sessions_of("ada")
    assert (phone.details, laptop.details) == ({"device": "phone"}, {"device": "laptop"})
    times = [laptop.created_at, phone.created_at, laptop.last_seen_at, phone.last_seen_at]  # these by the idle clock
    assert [at.timestamp() - began for at in times] == pytest.approx([0, 600, 600, 600], abs=0.001)
    assert phone.expires_at - phone.created_at == timedelta(minutes=30)
    for visitor, info in ((first, laptop), (second, phone)):
        found = await lab.kept(visitor.sid)
        assert found.handle == info.handle
        assert found.id not in repr(info)


async def test_a_session_was_last_seen_when_it_was_written_whatever_cuts_its_time_and_never_in_the_future(
    lab: Lab,
) -> None:
    session = await lab.store.create(owner="ada")
    session.set_absolute_timeout(timedelta(minutes=10))
    await session.save()
    await lab.beside(clock=lambda: lab.clock() + 5).create(owner="ada")
    assert [info.last_seen_at.timestamp() - lab.clock() for info in await lab.store.sessions_of("ada")] == [0, 0]


async def test_the_replies_to_many_loads_are_told_apart_in_whatever_order_they_come() -> None:
    lab = Lab(kind=SuspendingStorage)
    made = {(await lab.store.create(owner="ada", number=number)).handle: number for number in range(70)}
    lab.storage.after["load"] = partial(anyio.sleep, 0.01)
    assert {info.handle: info.details["number"] for info in await lab.store.sessions_of("ada")} == made


@pytest.mark.proves("AT-121")
async def test_odd_owners_do_not_meet() -> None:
    owners = ["a:b", "*", "🙂", "\u212a", "K", "o" * 1024, "session:x", "a", "A", " "]
    for owner in owners:
        lab = Lab()
        visitor = await logged_in(lab.store, owner)
        for other in {*owners, "b", "a:", "session:", "x"} - {owner}:
            assert await lab.store.sessions_of(other) == []
            assert await lab.store.revoke_all(other) == 0
        assert len(await lab.store.sessions_of(owner)) == 1
        assert await alive(lab, visitor) == [True]


@pytest.mark.proves("AT-116", "AT-120")
async def test_the_list_follows_rotation_new_owners_and_ends(lab: Lab) -> None:
    visitor = await logged_in(lab.store, "ada")
    async with visitor.request() as session:
        await session.regenerate()
    assert len(await lab.store.sessions_of("ada")) == 1
    await logged_in(lab.store, "bob", visitor.sid)
    assert await lab.store.sessions_of("ada") == []
    [bobs] = await lab.store.sessions_of("bob")
    assert await lab.store.revoke(bobs.handle)
    assert await lab.store.sessions_of("bob") == []


async def test_records_and_details_that_cannot_be_read_hide_no_other_session_and_are_revoked_with_their_owner() -> None:
    class Device:
        pass

    class Damaged(SpyStorage):
        async def load(self, key: str, *, renew: float | None = None) -> Stored | Moved | Unreadable | None:
            return Unreadable() if key.endswith("2" * 64) else await super().load(key, renew=renew)

    lab = Lab(kind=Damaged)
    await lab.storage.inner.create("session:" + "2" * 64, b"", 60, owner="session:ada")
    newer = lab.beside()
    newer.register_type(Device, name="device", encode=lambda device: None, decode=lambda value: Device())
    session = await newer.create({}, owner="ada", device=Device())
    await lab.storage.inner.create("session:" + "0" * 64, b"\x96\x63 of another version", 60, owner="session:ada")
    # Its idle timeout ends after that year, and its details are no dict.
    late = msgspec.msgpack.encode((1, YEAR_9999, 0, None, "ada", [1], {}))
    await lab.storage.inner.create("session:" + "1" * 64, late, 1e12, owner="session:ada")
    infos = await lab.store.sessions_of("ada")
    assert [(info.handle, info.details) for info in infos] == [("1" * 64, {}), (session.handle, {})]
    assert lab.kinds() == ["corrupt"] * 4
    assert await lab.store.revoke_all("ada") == 4
    await lab.storage.inner.create("session:" + "0" * 64, b"unreadable", 60, owner="session:ada")
    assert await lab.store.revoke_all("ada", keep="0" * 64) == 0
    assert await lab.store.revoke_all("ada") == 1
    assert len(lab.storage.inner) == 0


@pytest.mark.proves("AT-55", "AT-56")
async def test_stores_of_neighbouring_prefixes_share_a_storage_and_nothing_else(lab: Lab) -> None:
    prefixes = ("a:", "a:b:", "ab:", "A:", "a", "a*[?")
    stores = [lab.beside(key_prefix=prefix) for prefix in prefixes]
    made = [await store.create({"n": 1}, owner="ada") for store in stores]
    nested = await stores[1].create({}, owner="x")
    await lab.storage.inner.create("a:b:" + "0" * 64, b"unreadable", 60, owner="a:b:x")
    assert await stores[0].sessions_of("b:x") == []
    assert await stores[0].revoke_all("b:x") == 0
    assert (await stores[1].get_by_id(nested.id)).owner == "x"
    for store, session in zip(stores, made, strict=True):
        assert [info.handle for info in await store.sessions_of("ada")] == [session.handle]
        for other in made:
            assert other is session or await store.delete(other.id) is False
    assert [await store.reset() for store in (stores[2], stores[5])] == [1, 1]
    assert await stores[3].revoke_all("ada") == 1
    assert (await stores[4].get_by_id(made[4].id))["n"] == 1


class LaggingStorage(SpyStorage):
    """Its index still names sessions that have another owner by now."""

    behind: list[str] = []

    async def owned_keys(self, owner: str) -> list[str]:
        return sorted({*await super().owned_keys(owner), *self.behind})


async def test_an_index_that_lags_behind_neither_lists_nor_ends_a_strangers_session_or_one_that_is_gone() -> None:
    storage = LaggingStorage()
    lab = Lab(storage, max_sessions_per_owner=1)
    bobs, nobodys = await logged_in(lab.store, "bob"), await lab.store.create({})
    handles = [info.handle for info in await lab.store.sessions_of("bob")]
    storage.behind = [f"session:{handle}" for handle in (*handles, nobodys.handle, "0" * 64)]
    adas = await logged_in(lab.store, "ada")  # over the limit, if sessions of others counted
    assert len(await lab.store.sessions_of("ada")) == 1
    assert await lab.store.revoke_all("ada") == 1
    assert await alive(lab, adas, bobs) == [False, True]
    assert await lab.data(nobodys.id) == {}


@pytest.mark.proves("P2", "ASVS 7.4.5", "ASVS 7.5.2")
async def test_revoking_one_device_takes_effect_at_once_and_drops_what_it_has_in_flight(lab: Lab) -> None:
    laptop, phone = await logged_in(lab.store, "ada"), await logged_in(lab.store, "ada")
    async with phone.request() as session:
        session["in flight"] = True
        assert await lab.store.revoke(session.handle, owner="ada") is True
    assert await alive(lab, laptop, phone) == [True, False]
    assert await lab.store.revoke(session.handle) is False
    [event] = lab.sent(EventKind.REVOKED)
    assert (event.owner, event.at.timestamp()) == ("ada", lab.clock())


@pytest.mark.proves("AT-117", "ASVS 7.5.2")
async def test_a_strangers_session_cannot_be_revoked_nor_anything_that_is_no_handle(lab: Lab) -> None:
    ada = await logged_in(lab.store, "ada")
    found = await lab.kept(ada.sid)
    handle = found.handle
    assert await lab.store.revoke(handle, owner="mallory") is False
    forged: list[Any] = [ada.sid, "0" * 64, handle.upper(), handle + "0", "", "*", "session:" + handle, None, 5, b"a"]
    for wrong in forged:
        assert await lab.store.revoke(wrong) is False
        assert await lab.store.revoke(wrong, owner="ada") is False
    assert await alive(lab, ada) == [True]
    wrong_owners: list[Any] = [None, 5, b"a" * 43, ["a" * 43]]
    for wrong in wrong_owners:
        for call in (lab.store.sessions_of, lab.store.revoke_all):
            with pytest.raises(ConfigError, match="an owner is a str"):
                await call(wrong)
    for keep in ("", ada.sid, "ada"):
        with pytest.raises(ConfigError, match="keep="):
            await lab.store.revoke_all("ada", keep=keep)


@pytest.mark.proves("AT-118", "ASVS 7.4.3")
@pytest.mark.parametrize("verb", ["none", "login", "regenerate"])
async def test_all_other_devices_can_be_signed_out(verb: str, lab: Lab) -> None:
    devices = [await logged_in(lab.store, "ada") for _ in range(4)]
    bob = await logged_in(lab.store, "bob")
    async with devices[2].request() as session:
        if verb != "none":
            await (session.login("ada") if verb == "login" else session.regenerate())
        assert await lab.store.revoke_all("ada", keep=session) == 3
        told = lab.sent(EventKind.REVOKED)
        assert [event.owner for event in told] == ["ada"] * 3
        assert session.handle not in {event.handle for event in told}
    assert await alive(lab, *devices, bob) == [False, False, True, False, True]
    [info] = await lab.store.sessions_of("ada")
    assert await lab.store.revoke_all("ada", keep=info.handle) == 0
    assert await lab.store.revoke_all("ada") == 1
    assert await lab.store.sessions_of("ada") == []


@pytest.mark.proves("P2", "AT-49")
@pytest.mark.parametrize("moment", ["listed", "loaded", "about to be deleted"])
async def test_revoke_all_finds_a_session_that_moves_while_it_looks(moment: str, lab: Lab) -> None:
    visitor = await logged_in(lab.store, "ada")

    async def move() -> None:
        async with visitor.request() as session:
            await session.regenerate()

    match moment:
        case "listed":
            lab.storage.after["owned_keys"] = move
        case "loaded":
            lab.storage.after["load"] = move
        case _:
            lab.storage.before["delete"] = move
    assert await lab.store.revoke_all("ada") == 1
    assert len(lab.storage.inner) == 0


@pytest.mark.proves("AT-49")
async def test_revoke_all_ends_sessions_of_a_server_whose_clock_is_ahead_and_spares_later_logins(lab: Lab) -> None:
    await lab.beside(clock=lambda: lab.clock() + 5).create({"n": 1}, owner="ada")
    later: list[Session] = []

    async def log_in_anew() -> None:
        lab.clock.advance(10)
        later.append(await lab.store.create(owner="ada"))

    lab.storage.before["delete"] = log_in_anew
    assert await lab.store.revoke_all("ada") == 1
    assert [info.handle for info in await lab.store.sessions_of("ada")] == [later[0].handle]
