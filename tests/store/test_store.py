"""The store: registered types, sessions by their ID, and work in the background."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.kit import Lab
from tests.models import Colour, Item, Money, Point
from tests.views import PlainView

from sessioncore import ConfigError, SessionConfig, SessionGone, SessionNotFound, SessionReleased, SessionStore
from sessioncore.storage import MemoryStorage

pytestmark = pytest.mark.anyio


async def test_a_type_is_registered_by_call_and_by_decorator() -> None:
    store = SessionStore()
    assert store.register_type(Item) is store.register_type(Item) is Item

    @store.register_type
    class Plain(msgspec.Struct):
        n: int

    @store.register_type(name="tagged", aliases=["old"])
    class Tagged(msgspec.Struct):
        n: int

    assert store.register_type(Colour, name="colour") is Colour
    store.register_type(Money, name="money", encode=vars, decode=lambda parts: Money(**parts))
    values = [Item("tea"), Plain(1), Tagged(2), Colour.RED, Money(5, "EUR")]
    found = (await store.get_by_id((await store.create({"values": values})).id))["values"]
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_the_registry_belongs_to_the_store_and_takes_classes_alone() -> None:
    first, second = SessionStore(), SessionStore()
    first.register_type(Item, name="thing")
    second.register_type(Point, name="thing")
    with pytest.raises(ConfigError, match="taken"):
        first.register_type(Point, name="thing")
    no_class: Any = "Item"
    with pytest.raises(ConfigError):
        first.register_type(name="other")(no_class)


def test_a_store_and_its_configuration_cannot_be_sent_to_another_process_and_say_what_to_do() -> None:
    config = SessionConfig()
    assert copy.copy(config) is copy.deepcopy(config) is config
    for copying in (copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"SessionStore cannot .* build one in each process"):
            copying(SessionStore(config))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for one in (config, SessionStore(config)):
            with pytest.raises(TypeError, match=rf"{type(one).__name__} cannot .* in each process"):
                pickle.dumps(one, protocol)


def test_a_store_takes_a_configuration_and_nothing_else() -> None:
    with pytest.raises(ConfigError, match=r"SessionConfig\(storage="):
        SessionStore(MemoryStorage())  # type: ignore[arg-type]
    store = SessionStore()
    assert isinstance(store.storage, MemoryStorage)
    assert store.config.storage is store.storage


async def test_a_created_session_is_stored_at_once_also_an_empty_one() -> None:
    lab = Lab()
    session = await lab.store.create()
    assert (session.fresh, session.empty, lab.calls) == (False, True, ["create"])
    owned = await lab.store.create({"n": 1}, owner="ada", device="laptop")
    found = await lab.store.get_by_id(owned.id)
    assert (dict(found), found.owner, found.details) == ({"n": 1}, "ada", {"device": "laptop"})
    with pytest.raises(ConfigError, match=r"device.*owner="):
        await lab.store.create({"n": 1}, device="laptop")
    assert lab.kinds().count("created") == 2


async def test_a_session_by_its_id_or_for_a_request_is_the_callers_to_save_and_release() -> None:
    lab = Lab()
    sid = (await lab.begin()).sid or ""
    gets: list[Callable[[], Any]] = [
        lambda: lab.store.get_by_id(sid), lambda: lab.store.get(PlainView([f"__Host-session_id={sid}".encode()])),
    ]  # fmt: skip
    for number, get in enumerate(gets, start=1):
        session = await get()
        session["n"] = number + 1
        assert await lab.data() == {"n": number}
        await session.save()
        assert await lab.data() == {"n": number + 1}
        session["n"] = 9
        session.release()
        with pytest.raises(SessionReleased):
            await session.save()
        assert await lab.data() == {"n": number + 1}
    session = await gets[1]()
    await session.regenerate()
    await session.save()
    assert await lab.data(session.id) == {"n": 3}
    assert await lab.found() is None
    assert (await lab.store.get(PlainView())).fresh


async def test_an_id_that_nobody_has_is_not_found() -> None:
    lab = Lab()
    wrong: list[Any] = ["", "x", "a" * 21, "a" * 257, "ä" * 43, "a b" * 15, None, 5, b"a" * 43, ["a" * 43]]
    for sid in wrong:
        with pytest.raises(SessionNotFound, match="no live session") as caught:
            await lab.store.get_by_id(sid)
        with pytest.raises(LookupError):
            async with lab.store.open(sid):
                raise AssertionError
        assert await lab.store.delete(sid) is False
        assert not isinstance(sid, str) or len(sid) < 2 or sid not in str(caught.value)
    assert lab.calls == []  # what cannot be an ID costs no call
    with pytest.raises(SessionNotFound) as caught:
        await lab.store.get_by_id("s" * 43)
    assert "s" * 43 not in str(caught.value)
    assert await lab.store.delete("s" * 43) is False
    assert lab.calls == ["load", "delete"]
    session = await lab.store.create({"n": 1})
    for call in (lab.store.get_by_id, lab.store.delete, lab.store.revoke):
        with pytest.raises(ConfigError, match=r"pass session\.(id|handle) instead"):
            await call(session)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


async def test_open_saves_on_a_clean_exit_and_releases_always() -> None:
    lab = Lab()
    sid = (await lab.begin()).sid or ""
    async with lab.store.open(sid) as session:
        session["n"] = 2
    assert await lab.data() == dict(session) == {"n": 2}
    with pytest.raises(SessionReleased):
        session["n"] = 3
    with pytest.raises(ZeroDivisionError):
        async with lab.store.open(sid) as session:
            session["n"] = 3 // 0
    assert await lab.data() == dict(session) == {"n": 2}
    with pytest.raises(SessionReleased):
        session["n"] = 3
    async with lab.store.open(sid) as session:
        session["n"] = 3
        session.release()
    assert await lab.data() == dict(session) == {"n": 2}
    with pytest.raises(SessionGone):
        async with lab.store.open(sid) as session:
            session["n"] = 4
            assert await lab.store.delete(sid) is True
    assert dict(session) == {}
    assert await lab.store.delete(sid) is False
    assert lab.kinds().count("destroyed") == 1


async def test_purge_returns_how_many_expired_records_it_removed() -> None:
    lab = Lab()
    for _ in range(3):
        await lab.store.create()
    lab.clock.advance(3600)
    assert await lab.store.purge_expired() == 3
    assert len(lab.storage.inner) == 0
    await lab.store.check()
