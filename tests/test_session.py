"""The session as a mapping, its typed keys, and what it tells about itself."""

import copy
import enum
import json
import pickle
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.models import Item
from tests.stores import SpyStorage
from tests.views import PlainView, Visitor

from sessioncore import (
    ConfigError,
    CorruptRecord,
    EventKind,
    LifecycleError,
    Session,
    SessionConfig,
    SessionError,
    SessionEvent,
    SessionKey,
    SessionNotLoaded,
    SessionReleased,
    SessionStore,
    Stored,
    UnregisteredType,
)
from sessioncore.testing import ManualClock

pytestmark = pytest.mark.anyio


class House:
    """A store with its events, and one visitor."""

    def __init__(self, **config: Any) -> None:
        self.events: list[SessionEvent] = []
        self.storage = SpyStorage(config.get("clock"))
        self.store = SessionStore(SessionConfig(storage=self.storage, on_event=self.events.append, **config))
        self.visitor = Visitor(self.store)

    async def session(self) -> Session:
        """The session of a request that does not end."""
        return (await self.visitor.arrive()).session

    async def after(self, session: Session) -> Session:
        """Save, and come back."""
        await session.save()
        self.visitor.sid = session.id
        return await self.session()


# -- keys


class Name(enum.StrEnum):
    CART = "cart"


async def test_members_of_a_str_enum_are_keys_like_the_text_that_they_are() -> None:
    house = House()
    session = await house.session()
    session[Name.CART] = [1]
    assert session["cart"] == session[Name.CART] == session.get(Name.CART) == [1]
    assert Name.CART in session
    session = await house.after(session)
    assert [type(name) for name in session] == [str]
    session.mutate(Name.CART, lambda cart: [*cart, 2])
    assert session.pop(Name.CART) == [1, 2]
    assert "cart" not in session


@pytest.mark.parametrize("key", [1, None, b"a", ("a",), 1.5])
async def test_keys_that_are_no_text_are_refused(key: Any) -> None:
    session = await House().session()
    with pytest.raises(TypeError, match=f"str or SessionKey, not {type(key).__name__}"):
        session[key] = 1
    with pytest.raises(TypeError, match="session keys are str"):
        session[key]
    with pytest.raises(TypeError, match="session keys are str"):
        session.mutate(key, lambda value: value, 1)
    with pytest.raises(TypeError, match="session keys are str"):
        del session[key]
    assert key not in session
    assert session.get(key, "none") == "none"
    assert session.empty


async def test_bytes_that_would_pass_for_a_stored_value_are_refused() -> None:
    house = House()
    session = await house.session()
    with pytest.raises(ConfigError, match=r"msgspec\.Raw"):
        session["a"] = msgspec.Raw(b"\xc1")
    with pytest.raises(ConfigError, match=r"msgspec\.Raw"):
        session.mutate("a", lambda _: msgspec.Raw(b"\xc1"), 1)
    session["b"] = [msgspec.Raw(b"\xc1")]
    with pytest.raises(UnregisteredType, match="'b'"):
        await session.save()
    assert house.storage.calls == []


async def test_delete_of_a_missing_key_is_no_error_and_clear_reaches_what_cannot_be_read() -> None:
    house = House()
    house.store.register_type(Item)
    session = await house.session()
    session.set("item", Item("tea"))
    session.set("n", 1)
    await session.save()
    older = SessionStore(house.store.config)
    held = await older.get_by_id(session.id)
    held.delete("nothing")
    assert not held.modified
    assert held.get("nothing") is None
    with pytest.raises(UnregisteredType):
        held["item"]
    held.clear()
    await held.save()
    assert dict(await house.store.get_by_id(session.id)) == {}


async def test_popitem_takes_the_newest_key_and_an_empty_session_has_none() -> None:
    house = House()
    session = await house.session()
    session.update(a=1, b=2, c=3)
    del session["a"]
    session["a"] = 1
    session = await house.after(session)
    assert session.popitem() == ("a", 1)
    assert session.popitem() == ("c", 3)
    session = await house.after(session)
    assert session.popitem() == ("b", 2)
    with pytest.raises(KeyError, match="empty"):
        session.popitem()


async def test_a_key_deleted_and_set_again_is_kept_when_others_write_meanwhile() -> None:
    house = House()
    session = await house.session()
    session |= {"a": 1, "b": 2}
    session = await house.after(session)
    session["a"] = session.pop("a")
    async with house.store.open(session.id) as other:
        other["c"] = 3
    await session.save()
    assert dict(session) == dict(await house.store.get_by_id(session.id)) == {"a": 1, "b": 2, "c": 3}


async def test_update_takes_pairs_and_keywords() -> None:
    session = await House().session()
    session.update([("a", 1)], b=2)
    session |= {"c": 3}
    assert dict(session) == {"a": 1, "b": 2, "c": 3}
    assert sorted(session.items()) == [("a", 1), ("b", 2), ("c", 3)]
    assert list(session.values()) == [1, 2, 3]


# -- typed keys

CART: SessionKey[list[Item]] = SessionKey("cart", list[Item], default_factory=list[Item])
COUNT: SessionKey[int] = SessionKey("count", int, default=0)
NAME: SessionKey[str] = SessionKey("name", str)


async def test_a_typed_key_gives_its_default_and_stores_nothing() -> None:
    house = House()
    session = await house.session()
    assert session[COUNT] == 0
    assert session[CART] == []
    assert session[CART] is session[CART]
    with pytest.raises(KeyError, match="name"):
        session[NAME]
    assert session.get(NAME) is None
    assert session.get(NAME, "nobody") == "nobody"
    assert session.get(COUNT) == 0
    assert session.get(COUNT, 7) == 7
    assert CART not in session
    assert not session.modified
    await session.save()
    assert house.storage.calls == []


async def test_a_default_that_is_changed_in_place_is_stored() -> None:
    house = House()
    session = await house.session()
    session[CART].append(Item("tea"))
    assert session.modified
    assert CART in session
    assert session["cart"] == [Item("tea")]
    session = await house.after(session)
    assert session[CART] == [Item("tea")]
    session[CART].append(Item("milk"))
    session = await house.after(session)
    assert session[CART] == [Item("tea"), Item("milk")]


async def test_a_default_that_is_changed_after_others_were_looked_at_is_stored() -> None:
    house = House()
    session = await house.session()
    cart = session[CART]
    assert list(session) == []
    cart.append(Item("tea"))
    assert list(session) == ["cart"]
    assert dict(await house.after(session)) == {"cart": [Item("tea")]}


_REMOVALS: list[Callable[[Session], Any]] = [
    lambda session: session.__delitem__(CART),
    lambda session: session.__delitem__("cart"),
    lambda session: session.delete(CART),
    lambda session: session.pop(CART),
    lambda session: session.clear(),
    lambda session: session.popitem(),
]


@pytest.mark.parametrize("remove", _REMOVALS)
async def test_a_changed_default_can_be_removed_again(remove: Callable[[Session], Any]) -> None:
    house = House()
    session = await house.session()
    session[CART].append(Item("tea"))
    remove(session)
    assert CART not in session
    await session.save()
    assert house.storage.calls == []


async def test_pop_and_setdefault_take_a_typed_default_for_no_value() -> None:
    house = House()
    session = await house.session()
    assert session.pop(CART, None) is None
    assert session.pop(COUNT, 9) == 9
    with pytest.raises(KeyError):
        session.pop(COUNT)
    assert session.setdefault(COUNT, 5) == 5
    assert session.setdefault(COUNT, 6) == 5
    assert session.pop(COUNT) == 5
    session[CART].append(Item("tea"))
    assert session.setdefault(CART, []) == [Item("tea")]


async def test_typed_keys_write_change_and_delete() -> None:
    house = House()
    session = await house.session()
    session[COUNT] = 1
    session.set(NAME, "ada")
    session = await house.after(session)
    assert (session[COUNT], session[NAME]) == (1, "ada")
    session[COUNT] += 1
    assert session.mutate(COUNT, lambda n: n * 10) == 20
    del session[NAME]
    session.delete(NAME)
    assert dict(await house.after(session)) == {"count": 20}


async def test_mutate_begins_with_the_default_of_a_typed_key() -> None:
    house = House()
    session = await house.session()
    assert session.mutate(COUNT, lambda n: n + 1) == 1
    assert session.mutate(CART, lambda cart: [*cart, Item("tea")]) == [Item("tea")]
    with pytest.raises(KeyError):
        session.mutate(NAME, lambda name: name)
    with pytest.raises(KeyError):
        session.mutate("other", lambda value: value)
    assert session.mutate(NAME, lambda name: name + "!", "ada") == "ada!"
    assert dict(await house.after(session)) == {"count": 1, "cart": [Item("tea")], "name": "ada!"}


async def test_mutate_sees_a_default_that_was_changed_in_place() -> None:
    house = House()
    session = await house.session()
    session[CART].append(Item("tea"))
    session.mutate(CART, lambda cart: [*cart, Item("milk")])
    unchanged = SessionKey("log", list[int], default_factory=list[int])
    handed = session[unchanged]
    session.mutate(unchanged, lambda log: [*log, 1])
    handed.append(99)  # not the session's any more
    assert dict(await house.after(session)) == {"cart": [Item("tea"), Item("milk")], "log": [1]}


async def test_mutate_that_raises_changes_nothing() -> None:
    house = House()
    session = await house.session()
    session["n"] = 1
    session = await house.after(session)
    with pytest.raises(ZeroDivisionError):
        session.mutate("n", lambda n: n // 0)
    assert not session.modified
    assert session["n"] == 1


async def test_mutate_that_raises_halfway_takes_back_what_it_did_and_nothing_else() -> None:
    def fail(items: list[Any]) -> list[Any]:
        items.append("half")
        raise ZeroDivisionError

    def spoil(items: list[Any]) -> list[Any]:
        items.append(object())
        raise ZeroDivisionError

    house = House()
    session = await house.session()
    session.update(items=[1], own=[2])
    session = await house.after(session)
    held = session["own"]
    for function in (fail, spoil):
        with pytest.raises(ZeroDivisionError):
            session.mutate("items", function)
        assert session["items"] == [1]
    with pytest.raises(ZeroDivisionError):
        session.mutate("own", lambda own: own[0] // 0)
    assert not session.modified
    held.append(3)  # the handler's own object still counts
    session["n"] = 1
    assert dict(await house.after(session)) == {"items": [1], "own": [2, 3], "n": 1}


async def test_mutate_after_a_plain_write_or_a_change_in_place_adds_to_it() -> None:
    house = House()
    session = await house.session()
    session.update(items=[1], n=1)
    session = await house.after(session)
    session["items"].append(2)
    assert session.mutate("items", lambda items: [*items, 3]) == [1, 2, 3]
    session["n"] = 5
    assert session.mutate("n", lambda n: n * 2) == 10
    assert session.mutate("n", lambda n: n + 1) == 11
    assert dict(await house.after(session)) == {"items": [1, 2, 3], "n": 11}


async def test_nothing_inside_a_session_shows_its_id_in_a_traceback() -> None:
    house = House()
    session = await house.session()
    session["n"] = "canary"
    session = await house.after(session)
    inside: list[Any] = [session._state, session._persistence]  # pyright: ignore[reportPrivateUsage]  # as a traceback shows them
    assert not any(text in repr(inside) for text in (session.id, "canary"))


@pytest.mark.parametrize("operation", ["load", "create", "replace", "move", "owned_keys", "delete"])
@pytest.mark.parametrize("limit", [None, 1])
async def test_a_storage_that_fails_leaves_no_id_among_the_variables_of_its_traceback(
    operation: str, limit: int | None
) -> None:
    """Error trackers and `pytest -l` write those down, frame by frame."""
    house = House(max_sessions_per_owner=limit)
    house.visitor.sid = (await house.store.create({"n": 1})).id
    fresh, live = await house.store.get(PlainView()), await house.session()
    known = {house.visitor.sid, fresh.id, live.id}
    house.storage.fail(operation)
    shown: list[str] = []
    for session, use in (
        (fresh, "save"),
        (live, "save"),
        (live, "login"),
        (live, "destroy"),
        (await house.session(), ""),
    ):
        try:
            session["n"] = 2
            if use == "login":
                await session.login("ada")
                known.add(session.id)
            await (session.destroy() if use == "destroy" else session.save())
        except SessionError as exc:
            error: BaseException | None = exc
            while error is not None:
                ours = [
                    frame for frame, _ in traceback.walk_tb(error.__traceback__) if "/src/" in frame.f_code.co_filename
                ]
                shown += [repr(value) for frame in ours for value in frame.f_locals.values()]
                error = error.__cause__
    assert shown or (operation == "owned_keys" and limit is None)
    assert not [text for text in shown if any(sid in text for sid in known)]


async def test_a_value_of_another_type_is_corrupt_for_its_typed_key_and_readable_by_name() -> None:
    house = House()
    session = await house.session()
    session["count"] = "canary"
    session["ok"] = True
    session = await house.after(session)
    for _ in range(2):
        with pytest.raises(CorruptRecord, match=r"'count' holds a str.*delete the key"):
            session[COUNT]
    with pytest.raises(CorruptRecord):
        session.get(COUNT)
    assert session["count"] == "canary"
    told = [event for event in house.events if event.kind is EventKind.CORRUPT]
    assert told
    assert told[0].handle == session.handle
    assert "canary" not in repr(told)
    session.delete(COUNT)
    assert session[COUNT] == 0


async def test_damage_inside_one_value_leaves_the_others_usable() -> None:
    house = House()
    session = await house.session()
    session["bad"], session["good"] = datetime(2030, 1, 1, tzinfo=UTC), [1]
    session = await house.after(session)
    key = f"{house.store.config.key_prefix}{session.handle}"
    stored = await house.storage.inner.load(key)
    assert isinstance(stored, Stored)
    damaged = stored.data.replace(b"2030-01-01", b"2030-99-01")
    assert damaged != stored.data
    await house.storage.inner.replace(key, damaged, 60, version=stored.version)
    session = await house.session()
    reads: list[Callable[[Session], Any]] = [
        lambda session: session["bad"],
        lambda session: session.get("bad"),
        lambda session: session.mutate("bad", lambda value: value),
    ]
    for read in reads:
        with pytest.raises(CorruptRecord, match="'bad'"):
            read(session)
    assert [event.kind for event in house.events if event.kind is EventKind.CORRUPT] == [EventKind.CORRUPT] * 3
    session["good"].append(2)
    session = await house.after(session)
    assert session["good"] == [1, 2]
    del session["bad"]
    assert dict(await house.after(session)) == {"good": [1, 2]}


@pytest.mark.parametrize(
    "make",
    [
        lambda: SessionKey("", int),
        lambda: SessionKey(5, int),  # type: ignore[call-overload]
        lambda: SessionKey("a", int, default=1, default_factory=int),
        lambda: SessionKey("a", list[int], default=[]),
        lambda: SessionKey("a", dict[str, int], default={}),
    ],
)
def test_a_typed_key_that_cannot_work_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError, match="SessionKey"):
        make()


async def test_a_value_that_says_it_is_not_set_is_a_value() -> None:
    house = House()
    session = await house.session()
    session["nick"] = msgspec.UNSET
    for _ in range(2):
        assert dict(session) == {"nick": msgspec.UNSET}
        assert session["nick"] is session.get("nick", "nobody") is msgspec.UNSET
        assert session.setdefault("nick", "nobody") is msgspec.UNSET
        session = await house.after(session)
    assert session.pop("nick") is msgspec.UNSET
    assert session.pop("nick", msgspec.UNSET) is msgspec.UNSET
    assert len(session) == 0


def test_a_typed_key_shows_its_name_and_type() -> None:
    assert repr(COUNT) == "SessionKey('count', <class 'int'>)"


# -- what it tells


async def test_a_fresh_session_tells_what_it_would_be() -> None:
    clock = ManualClock()
    house = House(clock=clock)
    session = await house.session()
    assert session.fresh
    assert session.empty
    assert not session.modified
    assert (session.owner, session.details) == (None, {})
    assert session.idle_timeout == timedelta(minutes=30)
    assert session.created_at == datetime.fromtimestamp(clock(), UTC)
    assert session.expires_at - session.created_at == timedelta(minutes=30)
    sid = session.id
    assert session.id == sid
    session["n"] = 1
    await session.save()
    assert session.id == sid
    assert not session.fresh
    assert session.store is house.store
    assert len(session.handle) == 64
    assert sid not in session.handle


async def test_times_are_aware_and_do_not_move_with_reading() -> None:
    clock = ManualClock()
    house = House(clock=clock)
    session = await house.session()
    session["n"] = 1
    session = await house.after(session)
    created = session.created_at
    assert created.tzinfo is UTC
    clock.advance(30)
    session = await house.session()
    assert session.created_at == created
    assert session.expires_at.tzinfo is UTC


async def test_accessed_is_what_the_handler_did_and_asking_does_not_count() -> None:
    house = House()
    exchange = await house.visitor.arrive()
    assert not exchange.session.accessed
    repr(exchange.session)
    assert not exchange.session.accessed
    exchange.session.mark_accessed()
    assert exchange.session.accessed
    assert exchange.session.accessed


async def test_modified_tells_of_every_kind_of_change_until_it_is_saved() -> None:
    changes: list[Callable[[Session], Any]] = [
        lambda session: session.set("n", 2),
        lambda session: session.delete("n"),
        lambda session: session["items"].append(1),
        lambda session: session.mutate("n", lambda n: n + 1),
        lambda session: session.bind_owner("ada"),
        lambda session: session.set_idle_timeout(timedelta(hours=1)),
    ]
    for change in changes:
        house = House()
        session = await house.session()
        session.update(n=1, items=[0])
        session = await house.after(session)
        assert session["items"] == [0]
        assert not session.modified
        change(session)
        assert session.modified
        await session.save()
        assert not session.modified


async def test_repr_shows_the_handle_and_never_the_id_or_a_value() -> None:
    house = House()
    session = await house.session()
    assert repr(session) == "<Session: not used yet>"
    session["n"] = "canary"
    session = await house.after(session)
    handle = session.handle
    assert repr(session) == f"<Session handle={handle} fresh=False keys=1>"
    await session.destroy()
    assert repr(session) == "<Session handle=None fresh=True keys=0>"
    session.release()
    assert repr(session) == "<Session handle=None fresh=True keys=0>"


async def test_a_session_is_not_copied_pickled_or_made_json() -> None:
    house = House()
    session = await house.session()
    session["n"] = 1
    copies: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy]
    for copying in copies:
        with pytest.raises(TypeError, match=r"dict\(session\)"):
            copying(session)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match=r"dict\(session\)"):
            pickle.dumps(session, protocol)
    with pytest.raises(TypeError):
        json.dumps(session)
    with pytest.raises(TypeError):
        msgspec.json.encode(session)
    with pytest.raises(TypeError):
        hash(session)
    assert json.dumps(dict(session)) == '{"n": 1}'


async def test_a_session_that_is_not_loaded_says_how_to_load_it() -> None:
    house = House()
    exchange = house.store.exchange(PlainView())
    session = exchange.session
    uses: list[Callable[[], Any]] = [
        lambda: session["n"],
        lambda: session.get("n"),
        lambda: session.set("n", 1),
        lambda: session.delete("n"),
        lambda: session.__delitem__("n"),
        lambda: session.mutate("n", lambda n: n, 1),
        lambda: session.id,
        lambda: session.handle,
        lambda: session.fresh,
        lambda: session.empty,
        lambda: session.modified,
        lambda: session.owner,
        lambda: session.details,
        lambda: session.created_at,
        lambda: session.expires_at,
        lambda: session.idle_timeout,
        lambda: session.set_idle_timeout(None),
        lambda: session.bind_owner("ada"),
        lambda: bool(session),
        lambda: "n" in session,
        session.mark_accessed,
    ]
    for use in uses:
        with pytest.raises(SessionNotLoaded, match="await get_session"):
            use()
    for verb in (session.regenerate, session.reset, session.destroy, session.save, lambda: session.login("ada")):
        with pytest.raises(SessionNotLoaded):
            await verb()
    assert not session.accessed
    assert repr(session) == "<Session: not used yet>"


async def test_errors_of_the_lifecycle_are_of_one_family() -> None:
    session = await House().session()
    session.release()
    with pytest.raises(LifecycleError) as caught:
        session["n"] = 1
    assert isinstance(caught.value, (SessionReleased, SessionError, RuntimeError))
    assert "store.open" in str(caught.value)


# -- owner and idle timeout


async def test_bind_owner_keeps_the_id_and_details_are_a_copy() -> None:
    house = House()
    session = await house.session()
    session.bind_owner("ada", device="laptop", seen=[1])
    assert (session.owner, session.details) == ("ada", {"device": "laptop", "seen": [1]})
    session.details["seen"].append(2)
    sid = session.id
    session = await house.after(session)
    assert session.id == sid
    assert (session.owner, session.details) == ("ada", {"device": "laptop", "seen": [1]})
    session.bind_owner("bob")
    assert (session.owner, session.details) == ("bob", {})
    session = await house.after(session)
    assert [info.handle for info in await house.store.sessions_of("bob")] == [session.handle]
    assert await house.store.sessions_of("ada") == []


@pytest.mark.parametrize("owner", ["", 5, None, "a\0b", "\ud800", "o" * 1025, Name.CART])
async def test_an_owner_that_a_storage_could_not_hold_is_refused(owner: Any) -> None:
    session = await House().session()
    with pytest.raises(ConfigError, match="1 to 1024"):
        session.bind_owner(owner)
    with pytest.raises(ConfigError, match="1 to 1024"):
        await session.login(owner)
    assert not session.modified


async def test_a_detail_that_cannot_be_stored_is_refused_at_once() -> None:
    session = await House().session()
    for bind in (session.bind_owner, session.login):
        with pytest.raises(UnregisteredType, match="details"):
            waits = bind("ada", socket=object())
            if waits is not None:
                await waits
    assert session.owner is None
    assert not session.modified


async def test_an_own_idle_timeout_is_kept_in_the_record() -> None:
    clock = ManualClock()
    house = House(clock=clock)
    session = await house.session()
    session["n"] = 1
    session.set_idle_timeout(timedelta(hours=2))
    assert session.idle_timeout == timedelta(hours=2)
    session = await house.after(session)
    assert session.idle_timeout == timedelta(hours=2)
    assert session.expires_at - session.created_at == pytest.approx(timedelta(hours=2), abs=timedelta(seconds=1))
    session.set_idle_timeout(None)
    assert session.idle_timeout == timedelta(minutes=30)
    session = await house.after(session)
    assert session.idle_timeout == timedelta(minutes=30)
    assert session.expires_at - session.created_at == pytest.approx(timedelta(minutes=30), abs=timedelta(seconds=1))


async def test_an_own_idle_timeout_is_cut_at_the_absolute_deadline() -> None:
    clock = ManualClock()
    house = House(clock=clock)
    session = await house.session()
    session["n"] = 1
    session.set_idle_timeout(timedelta(days=30))
    assert session.expires_at - session.created_at == timedelta(hours=24)
    session = await house.after(session)
    assert session.idle_timeout == timedelta(days=30)
    assert session.expires_at - session.created_at == timedelta(hours=24)
    assert (await house.storage.inner.load("session:" + session.handle)).ttl == pytest.approx(86400, abs=2)  # type: ignore[union-attr]


@pytest.mark.parametrize("idle", [timedelta(), timedelta(seconds=-1), timedelta.max, 60, "1h", True])
async def test_an_idle_timeout_that_is_no_time_is_refused(idle: Any) -> None:
    session = await House().session()
    with pytest.raises(ConfigError, match="set_idle_timeout"):
        session.set_idle_timeout(idle)
    assert not session.modified


async def test_a_typed_key_can_be_asked_for_and_equals_another_of_its_name_and_type() -> None:
    session = await House().session()
    assert COUNT not in session
    session[COUNT] = 1
    assert COUNT in session
    assert SessionKey("count", int, default=5) == COUNT
    assert SessionKey("count", float) != COUNT
    assert COUNT != "count"
    assert len({COUNT, SessionKey("count", int)}) == 1


async def test_mutate_that_raises_halfway_takes_back_what_it_did_to_a_value_of_this_request() -> None:
    session = await House().session()
    session["items"] = mine = ["set"]

    def spoil(items: list[str]) -> list[str]:
        items.append("half")
        raise ValueError("of the function")

    def refuse(_: list[str]) -> list[str]:
        raise ValueError("of the function")

    with pytest.raises(ValueError, match="of the function"):
        session.mutate("items", refuse)
    assert session["items"] is mine
    session.mutate("items", lambda items: [*items, "more"])
    with pytest.raises(ValueError, match="of the function"):
        session.mutate("items", spoil)
    assert session["items"] == ["set", "more"]
    session["wrong"] = {"key": object()}
    with pytest.raises(ValueError, match="of the function"):
        session.mutate("wrong", refuse)
    assert list(session["wrong"]) == ["key"]
