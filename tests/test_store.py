"""The store: types, sessions by ID, background work, and a storage that is down, slow, strange or damaged."""

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any, NoReturn

import anyio
import msgspec
import pytest
from tests.models import Colour, Item, Money, Point
from tests.stores import PromptStorage, SpyStorage
from tests.views import PlainView, Visitor, response_to

from sessioncore import (
    CodecError,
    ConfigError,
    EventKind,
    MemoryStorage,
    RequestView,
    SessionConfig,
    SessionEvent,
    SessionGone,
    SessionNotFound,
    SessionNotLoaded,
    SessionReleased,
    SessionStore,
    SessionTooLarge,
    StorageError,
    StorageUnavailable,
    Stored,
    UnregisteredType,
)
from sessioncore.testing import ManualClock

pytestmark = pytest.mark.anyio

SID = "s" * 43
KEY = "session:" + sha256(SID.encode()).hexdigest()


class House:
    """A store on a storage that a test can step into, with its events."""

    def __init__(self, **config: Any) -> None:
        self.events: list[SessionEvent] = []
        self.storage = SpyStorage()
        self.store = SessionStore(SessionConfig(storage=self.storage, on_event=self.events.append, **config))

    def told(self, kind: EventKind) -> list[str]:
        return [event.detail for event in self.events if event.kind is kind]


# -- types


async def test_a_type_is_registered_by_call_and_by_decorator() -> None:
    store = SessionStore()
    assert store.register_type(Item) is Item
    assert store.register_type(Item) is Item

    @store.register_type
    class Plain(msgspec.Struct):
        n: int

    @store.register_type(name="tagged", aliases=["old"])
    class Tagged(msgspec.Struct):
        n: int

    assert store.register_type(Colour, name="colour") is Colour
    store.register_type(Money, name="money", encode=vars, decode=lambda parts: Money(**parts))
    values = {
        "item": Item("tea"),
        "plain": Plain(1),
        "tagged": Tagged(2),
        "colour": Colour.RED,
        "money": Money(5, "EUR"),
    }
    session = await store.create(values)
    again = await store.get_by_id(session.id)
    assert {key: type(value) for key, value in again.items()} == {key: type(value) for key, value in values.items()}
    assert dict(again) == values


async def test_a_class_under_a_new_name_reads_what_the_old_one_wrote() -> None:
    storage = MemoryStorage()
    old, new = (SessionStore(SessionConfig(storage=storage)) for _ in range(2))
    old.register_type(Item, name="shop.Item")
    new.register_type(Item, name="basket.Item", aliases=["shop.Item"])
    session = await old.create({"item": Item("tea")})
    async with new.open(session.id) as held:
        assert held["item"] == Item("tea")
        held["item"] = Item("milk")
    with pytest.raises(UnregisteredType, match=r"basket\.Item"):
        (await old.get_by_id(session.id))["item"]


def test_the_registry_belongs_to_the_store() -> None:
    first, second = SessionStore(), SessionStore()
    first.register_type(Item, name="thing")
    second.register_type(Point, name="thing")
    with pytest.raises(ConfigError, match="taken"):
        first.register_type(Point, name="thing")


@pytest.mark.parametrize("thing", [Item("tea"), "Item", list[int], int])
def test_what_is_no_class_of_the_users_cannot_be_registered(thing: Any) -> None:
    with pytest.raises(ConfigError):
        SessionStore().register_type(thing)
    with pytest.raises(ConfigError):
        SessionStore().register_type(name="thing")(thing)


def test_a_store_takes_a_configuration_and_nothing_else() -> None:
    with pytest.raises(ConfigError, match=r"SessionConfig\(storage="):
        SessionStore(MemoryStorage())  # type: ignore[arg-type]
    store = SessionStore()
    assert isinstance(store.storage, MemoryStorage)
    assert store.config.storage is store.storage


# -- sessions by ID


async def test_a_created_session_is_stored_at_once_also_an_empty_one() -> None:
    house = House()
    session = await house.store.create()
    assert not session.fresh
    assert session.empty
    assert house.storage.calls == ["create"]
    owned = await house.store.create({"n": 1}, owner="ada", device="laptop")
    found = await house.store.get_by_id(owned.id)
    assert (dict(found), found.owner, found.details) == ({"n": 1}, "ada", {"device": "laptop"})
    assert house.told(EventKind.CREATED) == ["", ""]


async def test_a_session_by_its_id_is_the_callers_to_save_and_release() -> None:
    house = House()
    session = await house.store.create({"n": 1})
    held = await house.store.get_by_id(session.id)
    held["n"] = 2
    assert (await house.store.get_by_id(session.id))["n"] == 1
    await held.save()
    assert (await house.store.get_by_id(session.id))["n"] == 2
    held["n"] = 3
    held.release()
    with pytest.raises(SessionReleased):
        await held.save()
    assert (await house.store.get_by_id(session.id))["n"] == 2


@pytest.mark.parametrize("sid", ["", "x", "a" * 21, "a" * 257, "ä" * 43, "a b" * 15, SID])
async def test_an_id_that_nobody_has_is_not_found(sid: str) -> None:
    house = House()
    with pytest.raises(SessionNotFound, match="no live session") as caught:
        await house.store.get_by_id(sid)
    with pytest.raises(LookupError):
        async with house.store.open(sid):
            raise AssertionError
    assert await house.store.delete(sid) is False
    assert sid not in str(caught.value) or len(sid) < 2
    assert house.storage.calls == (["load", "load", "delete"] if sid == SID else [])


async def test_open_saves_on_clean_exit_and_releases_always() -> None:
    house = House()
    session = await house.store.create({"n": 1})
    async with house.store.open(session.id) as held:
        held["n"] = 2
    assert held["n"] == 2
    with pytest.raises(SessionReleased):
        held["n"] = 3
    with pytest.raises(ZeroDivisionError):
        async with house.store.open(session.id) as held:
            held["m"] = 1
            held["n"] = 3 // 0
    assert dict(held) == {"n": 2}
    with pytest.raises(SessionReleased):
        held["n"] = 3
    with pytest.raises(SessionGone):
        async with house.store.open(session.id) as held:
            held["n"] = 4
            await house.store.delete(session.id)
    assert dict(held) == {}
    with pytest.raises(SessionReleased):
        held["n"] = 5


async def test_background_work_does_not_keep_a_session_alive_by_looking() -> None:
    house = House(touch_interval=timedelta())
    session = await house.store.create({"n": 1})
    async with house.store.open(session.id) as held:
        assert held["n"] == 1
    assert house.storage.calls == ["create", "load"]


async def test_a_request_gets_its_session_in_the_store_pattern() -> None:
    house = House()
    session = await house.store.create({"n": 1})
    view = PlainView([f"__Host-session_id={session.id}".encode()])
    held = await house.store.get(view)
    assert held["n"] == 1
    await held.regenerate()
    held["n"] = 2
    await held.save()
    sid = held.id
    held.release()
    assert sid != session.id
    assert (await house.store.get_by_id(sid))["n"] == 2
    assert await house.store.delete(session.id) is False
    assert (await house.store.get(PlainView())).fresh


async def test_a_skipped_request_has_no_session_in_the_store_pattern() -> None:
    def skip(view: RequestView) -> bool:
        return view.path == "/health"

    house = House(skip=skip)
    with pytest.raises(SessionNotLoaded, match="skip"):
        await house.store.get(PlainView(path="/health"))
    assert (await house.store.get(PlainView(path="/"))).fresh


async def test_delete_ends_a_session_once_and_tells_of_it() -> None:
    house = House()
    session = await house.store.create({"n": 1})
    assert await house.store.delete(session.id) is True
    assert await house.store.delete(session.id) is False
    assert house.told(EventKind.DESTROYED) == [""]
    assert (await house.store.get(PlainView([f"__Host-session_id={session.id}".encode()]))).fresh


async def test_reset_ends_every_session_of_this_prefix_and_nothing_else() -> None:
    storage = MemoryStorage()
    ours = SessionStore(SessionConfig(storage=storage, key_prefix="a:"))
    theirs = SessionStore(SessionConfig(storage=storage, key_prefix="ab:"))
    odd = SessionStore(SessionConfig(storage=storage, key_prefix="a*[?"))
    kept = [await theirs.create(owner="ada"), await odd.create()]
    for _ in range(3):
        await ours.create(owner="ada")
    assert await ours.reset() == 3
    assert await ours.sessions_of("ada") == []
    assert [info.handle for info in await theirs.sessions_of("ada")] == [kept[0].handle]
    assert await odd.reset() == 1
    assert await theirs.reset() == 1
    assert len(storage) == 0


async def test_revoking_asks_for_a_handle() -> None:
    house = House()
    session = await house.store.create(owner="ada")
    for handle in ("", "x", session.id, session.handle.upper(), session.handle + "0"):
        assert await house.store.revoke(handle) is False
    for keep in ("", session.id, "ada"):
        with pytest.raises(ConfigError, match="keep="):
            await house.store.revoke_all("ada", keep=keep)
    assert await house.store.revoke_all("ada", keep=session) == 0
    assert await house.store.revoke_all("ada", keep=session.handle) == 0
    assert await house.store.revoke(session.handle, owner="bob") is False
    assert await house.store.revoke(session.handle, owner="ada") is True
    assert await house.store.revoke(session.handle) is False


async def test_purge_reports_what_it_removed_and_check_returns() -> None:
    now = [1000.0]
    storage = MemoryStorage(clock=lambda: now[0])
    store = SessionStore(SessionConfig(storage=storage, clock=lambda: now[0]))
    for _ in range(3):
        await store.create()
    now[0] += 3600
    assert await store.purge_expired() == 3
    assert len(storage) == 0
    await store.check()


async def test_the_store_opens_and_closes_its_storage() -> None:
    house = House()
    async with house.store as store:
        assert store is house.store
        assert house.storage.calls == ["open"]
    assert house.storage.calls == ["open", "aclose"]
    await house.store.aclose()
    assert house.storage.calls == ["open", "aclose", "aclose"]
    with pytest.raises(ZeroDivisionError):
        async with house.store:
            raise ZeroDivisionError
    assert house.storage.calls[-1] == "aclose"


# -- a storage that fails


async def _login(store: SessionStore, sid: str) -> None:
    exchange = await Visitor(store).arrive(sid)
    await exchange.session.login("ada")
    await exchange.commit(200)


async def _write(store: SessionStore, sid: str) -> None:
    exchange = await Visitor(store).arrive(sid)
    exchange.session["n"] = 2
    await exchange.commit(200)


async def _first_write(store: SessionStore, _: str) -> None:
    exchange = await Visitor(store).arrive()
    exchange.session["n"] = 2
    await exchange.commit(200)


async def _destroy(store: SessionStore, sid: str) -> None:
    exchange = await Visitor(store).arrive(sid)
    await exchange.session.destroy()


async def _get(store: SessionStore, sid: str) -> None:
    await store.get(PlainView([f"__Host-session_id={sid}".encode()]))


CALLS: list[tuple[str, Callable[[SessionStore, str], Awaitable[object]]]] = [
    ("load", _get),
    ("load", lambda store, sid: store.get_by_id(sid)),
    ("load", lambda store, sid: store.sessions_of("ada")),
    ("load", lambda store, sid: store.revoke("0" * 64, owner="ada")),
    ("create", lambda store, sid: store.create()),
    ("create", _first_write),
    ("replace", _write),
    ("move", _login),
    ("delete", _destroy),
    ("delete", lambda store, sid: store.delete(sid)),
    ("delete", lambda store, sid: store.revoke("0" * 64)),
    ("delete", lambda store, sid: store.revoke_all("ada")),
    ("owned_keys", lambda store, sid: store.sessions_of("ada")),
    ("owned_keys", lambda store, sid: store.revoke_all("ada")),
    ("clear", lambda store, sid: store.reset()),
    ("purge_expired", lambda store, sid: store.purge_expired()),
    ("check", lambda store, sid: store.check()),
]
BOUNDED = [(operation, call) for operation, call in CALLS if operation not in {"clear", "purge_expired"}]


async def _stored(house: House) -> str:
    session = await house.store.create({"n": 1}, owner="ada")
    house.events.clear()
    return session.id


async def _unharmed(house: House, sid: str) -> None:
    house.storage.restore()
    held = await house.store.get_by_id(sid)
    assert (dict(held), held.owner) == ({"n": 1}, "ada")
    assert len(house.storage.inner) == 1


@pytest.mark.parametrize(("operation", "call"), CALLS)
async def test_a_storage_that_is_down_is_an_error_at_every_call(
    operation: str, call: Callable[[SessionStore, str], Awaitable[object]]
) -> None:
    house = House()
    sid = await _stored(house)
    house.storage.fail(operation)
    with pytest.raises(StorageUnavailable, match="failed by a test"):
        await call(house.store, sid)
    assert house.told(EventKind.STORAGE_ERROR)[0] == f"{operation}: StorageUnavailable"
    await _unharmed(house, sid)


@pytest.mark.parametrize(("operation", "call"), CALLS)
async def test_what_a_storage_did_not_translate_is_unavailable_with_its_cause(
    operation: str, call: Callable[[SessionStore, str], Awaitable[object]]
) -> None:
    house = House()
    sid = await _stored(house)

    async def fail() -> None:
        raise OSError(f"password=hunter2 {sid}")

    house.storage.before[operation] = fail
    with pytest.raises(StorageUnavailable, match=rf"failed during {operation} \(OSError\)") as caught:
        await call(house.store, sid)
    assert isinstance(caught.value.__cause__, OSError)
    assert "hunter2" not in str(caught.value)
    assert sid not in str(caught.value)
    assert house.told(EventKind.STORAGE_ERROR)[0] == f"{operation}: OSError"
    await _unharmed(house, sid)


@pytest.mark.parametrize(("operation", "call"), BOUNDED)
async def test_a_storage_that_does_not_answer_is_unavailable_after_storage_timeout(
    operation: str, call: Callable[[SessionStore, str], Awaitable[object]]
) -> None:
    house = House(storage_timeout=timedelta(milliseconds=20))
    sid = await _stored(house)
    house.storage.before[operation] = anyio.sleep_forever
    with anyio.fail_after(5), pytest.raises(StorageUnavailable) as caught:
        await call(house.store, sid)
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert house.told(EventKind.STORAGE_ERROR)[0] == f"{operation}: TimeoutError"
    await _unharmed(house, sid)


async def test_maintenance_takes_its_time() -> None:
    house = House(storage_timeout=timedelta(milliseconds=1))
    await house.store.create()

    async def linger() -> None:
        await anyio.sleep(0.02)

    house.storage.before |= {"clear": linger, "purge_expired": linger}
    assert await house.store.purge_expired() == 0
    assert await house.store.reset() == 1


async def test_a_storage_that_refuses_is_no_outage() -> None:
    house = House()
    sid = await _stored(house)

    async def refuse() -> None:
        raise StorageError("no room")

    house.storage.before["replace"] = refuse
    with pytest.raises(StorageError, match="no room") as caught:
        await _write(house.store, sid)
    assert not isinstance(caught.value, StorageUnavailable)
    await _unharmed(house, sid)


async def test_a_request_that_is_cancelled_while_it_loads_does_not_wait_for_the_storage() -> None:
    house = House()
    sid = await _stored(house)
    house.storage.before["load"] = anyio.sleep_forever
    with anyio.fail_after(1), anyio.move_on_after(0.02) as scope:
        await _get(house.store, sid)
    assert scope.cancelled_caught
    assert house.told(EventKind.STORAGE_ERROR) == []


async def test_a_listener_that_raises_changes_nothing_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def listen(event: SessionEvent) -> None:
        raise RuntimeError("the metrics are down")

    store = SessionStore(SessionConfig(on_event=listen))
    session = await store.create({"n": 1})
    assert await store.delete(session.id)
    logged = [record for record in caplog.records if record.name == "sessioncore"]
    assert [record.levelno for record in logged] == [logging.ERROR, logging.ERROR]
    assert "on_event raised for a 'created' event" in logged[0].getMessage()
    assert logged[0].exc_info is not None
    assert session.id not in caplog.text


async def test_without_a_listener_nothing_is_told() -> None:
    store = SessionStore()
    assert await store.delete((await store.create()).id)


# -- records that cannot be read


async def _plant(house: House, data: bytes) -> None:
    assert await house.storage.inner.create(KEY, data, 600) is not None


FUTURE = msgspec.msgpack.encode([99, 1.0, 1.0, None, None, {}, {}, "new"])


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"{}", b"not a record", b"\x90", b"\x93\x01\x02\x03", FUTURE, b"x" * 70000]
)
async def test_a_record_that_cannot_be_opened_is_no_session_and_stays_for_inspection(data: bytes) -> None:
    house = House()
    await _plant(house, data)
    visitor = Visitor(house.store)
    exchange = await visitor.arrive(SID)
    assert exchange.session.fresh
    exchange.session["n"] = 1
    await visitor.leave(exchange)
    assert visitor.sid not in {None, SID}
    stored = await house.storage.inner.load(KEY)
    assert isinstance(stored, Stored)
    assert stored.data == data
    with pytest.raises(SessionNotFound):
        await house.store.get_by_id(SID)
    assert len(house.told(EventKind.CORRUPT)) == 2
    assert [event.handle for event in house.events if event.kind is EventKind.CORRUPT] == [KEY[8:]] * 2


async def test_a_record_of_a_newer_format_says_so_in_its_event() -> None:
    house = House()
    await _plant(house, FUTURE)
    with pytest.raises(SessionNotFound):
        await house.store.get_by_id(SID)
    assert "has format 99 of a newer sessioncore" in house.told(EventKind.CORRUPT)[0]


async def test_a_damaged_record_can_be_deleted() -> None:
    house = House()
    await _plant(house, b"\xc1")
    assert await house.store.delete(SID)
    assert len(house.storage.inner) == 0


async def test_a_record_that_became_unreadable_while_a_request_worked_is_not_overwritten() -> None:
    house = House()
    sid = await _stored(house)
    exchange = await Visitor(house.store).arrive(sid)
    exchange.session["n"] = 2
    key = "session:" + exchange.session.handle

    async def rewrite() -> None:
        stored = await house.storage.inner.load(key)
        assert isinstance(stored, Stored)
        await house.storage.inner.replace(key, FUTURE, 600, version=stored.version)

    house.storage.before["replace"] = rewrite
    with pytest.raises(StorageError, match="cannot be read here") as caught:
        await exchange.commit(200)
    assert response_to(exchange, caught.value).status == 500
    await exchange.finish(failed=True)
    stored = await house.storage.inner.load(key)
    assert isinstance(stored, Stored)
    assert stored.data == FUTURE


async def test_a_session_that_is_too_large_is_refused_before_any_write_and_the_stored_one_stays() -> None:
    house = House(max_size=1000)
    sid = await _stored(house)
    exchange = await Visitor(house.store).arrive(sid)
    exchange.session["n"] = "x" * 2000
    house.storage.calls.clear()
    with pytest.raises(SessionTooLarge, match=r"max_size is 1000; store less"):
        await exchange.commit(200)
    await exchange.finish(failed=True)
    assert house.storage.calls == []
    with pytest.raises(SessionTooLarge):
        await house.store.create({"n": "x" * 2000})
    await _unharmed(house, sid)


async def test_a_smaller_max_size_than_before_leaves_the_stored_session_alone() -> None:
    house = House()
    session = await house.store.create({"n": "x" * 2000})
    smaller = SessionStore(SessionConfig(storage=house.storage, max_size=1000))
    with pytest.raises(SessionNotFound):
        await smaller.get_by_id(session.id)
    assert len((await house.store.get_by_id(session.id))["n"]) == 2000


async def test_a_cyclic_value_is_a_clear_error_and_nothing_is_written() -> None:
    house = House()
    sid = await _stored(house)
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    deep: Any = 0
    for _ in range(5000):
        deep = [deep]
    for value in (cyclic, deep):
        exchange = await Visitor(house.store).arrive(sid)
        exchange.session["loop"] = value
        with pytest.raises(CodecError, match="'loop'"):
            await exchange.commit(200)
        await exchange.finish(failed=True)
    await _unharmed(house, sid)


async def test_text_that_no_database_holds_is_kept_in_values_and_refused_in_keys() -> None:
    house = House()
    session = await house.store.create({"n": "\ud800\0"})
    assert (await house.store.get_by_id(session.id))["n"] == "\ud800\0"
    with pytest.raises(CodecError, match="surrogate"):
        await house.store.create({"\ud800": 1})


async def test_a_storage_that_finds_itself_misconfigured_says_so() -> None:
    house = House()
    sid = await _stored(house)

    async def complain() -> None:
        raise ConfigError("this storage needs another setting")

    house.storage.before["load"] = complain
    with pytest.raises(ConfigError, match="another setting"):
        await house.store.get_by_id(sid)
    assert house.events == []


@pytest.mark.parametrize("wrong", [None, 5, b"a" * 43, ["a" * 43]])
async def test_what_is_no_text_names_no_session(wrong: Any) -> None:
    store = SessionStore()
    with pytest.raises(SessionNotFound):
        await store.get_by_id(wrong)
    assert not await store.delete(wrong)
    assert not await store.revoke(wrong)
    with pytest.raises(ConfigError, match="an owner is a str"):
        await store.sessions_of(wrong)
    with pytest.raises(ConfigError, match="an owner is a str"):
        await store.revoke_all(wrong)


@pytest.mark.parametrize("operation", ["load", "create", "replace", "move", "touch", "delete", "owned_keys", "check"])
@pytest.mark.parametrize("kind", [SpyStorage, PromptStorage])
async def test_a_storage_that_raises_its_drivers_error_has_failed_like_any_other(
    kind: type[SpyStorage], operation: str
) -> None:
    clock = ManualClock()
    events: list[SessionEvent] = []
    storage = kind(clock)
    store = SessionStore(SessionConfig(storage=storage, clock=clock, on_event=events.append))
    sid = (await store.create({"n": 1}, owner="ada")).id
    session = await store.get_by_id(sid)
    clock.advance(100)
    storage.fail(operation, error=ConnectionError("refused"))
    doings: dict[str, Callable[[], Awaitable[object]]] = {
        "load": lambda: store.get_by_id(sid),
        "create": lambda: store.create({"n": 2}),
        "delete": lambda: store.delete(sid),
        "owned_keys": lambda: store.sessions_of("ada"),
        "check": store.check,
    }
    if operation in {"replace", "move"}:
        session["n"] = 2
        if operation == "move":
            await session.regenerate()
    if operation == "touch":
        await session.save()  # told, not raised: nothing that was stored depends on it
    else:
        with pytest.raises(StorageUnavailable) as caught:
            await doings.get(operation, session.save)()
        assert isinstance(caught.value.__cause__, ConnectionError)
    assert [(event.kind.value, event.detail) for event in events][-1:] == [
        ("storage_error", f"{operation}: ConnectionError")
    ]


class RaisesBeforeItIsAwaited(MemoryStorage):
    def load(self, key: str, *, renew: float | None = None) -> NoReturn:
        raise ConnectionError("refused")


async def test_a_method_that_raises_before_it_is_awaited_has_failed_too() -> None:
    store = SessionStore(SessionConfig(storage=RaisesBeforeItIsAwaited()))
    with pytest.raises(StorageUnavailable) as caught:
        await store.get_by_id("a" * 43)
    assert isinstance(caught.value.__cause__, ConnectionError)
