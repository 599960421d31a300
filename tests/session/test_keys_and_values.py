"""The session as a mapping: what may be a key, what a change inside a value means, and `mutate`."""

import enum
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.kit import Lab
from tests.models import Item

from sessioncore import CodecError, ConfigError, CorruptRecord, Session, SessionKey, SessionReleased, UnregisteredType

pytestmark = pytest.mark.anyio


class Name(enum.StrEnum):
    CART = "cart"


class Mistake(Exception):
    """An error of the function that was given to `mutate`."""


def spoil(items: list[Any]) -> list[Any]:
    """Fail half-way, with something in the value that could not be stored."""
    items.append(object())
    raise Mistake


def refuse(_: Any) -> Any:
    raise Mistake


async def test_a_str_enum_member_is_the_key_that_its_text_is(lab: Lab) -> None:
    async with lab.visitor.request() as session:
        session[Name.CART] = [1]
        assert session["cart"] == session[Name.CART] == session.get(Name.CART) == [1]
        assert Name.CART in session
    async with lab.visitor.request() as session:
        assert [type(name) for name in session] == [str]
        session.mutate(Name.CART, lambda cart: [*cart, 2])
        assert session.pop(Name.CART) == [1, 2]
        assert "cart" not in session


async def test_keys_that_are_not_text_are_refused() -> None:
    async with Lab().visitor.request() as session:
        keys: list[Any] = [1, None, b"a", ("a",), 1.5]
        for key in keys:
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


async def test_bytes_that_would_pass_for_a_stored_value_are_refused(lab: Lab) -> None:
    session = await lab.store.create()
    lab.forget()
    with pytest.raises(ConfigError, match=r"msgspec\.Raw"):
        session["a"] = msgspec.Raw(b"\xc1")
    with pytest.raises(ConfigError, match=r"msgspec\.Raw"):
        session.mutate("a", lambda _: msgspec.Raw(b"\xc1"), 1)
    session["b"] = [msgspec.Raw(b"\xc1")]
    with pytest.raises(UnregisteredType, match="'b'"):
        await session.save()
    assert lab.calls == []


async def test_msgspecs_unset_is_a_value_like_any_other(lab: Lab) -> None:
    await lab.begin(nick=msgspec.UNSET)
    async with lab.visitor.request() as session:
        assert dict(session) == {"nick": msgspec.UNSET}
        assert session["nick"] is session.get("nick", "nobody") is msgspec.UNSET
        assert session.setdefault("nick", "nobody") is msgspec.UNSET
        assert session.pop("nick") is msgspec.UNSET
        assert session.pop("nick", msgspec.UNSET) is msgspec.UNSET
        assert len(session) == 0


@pytest.mark.proves("AT-73")
async def test_text_with_lone_surrogates_is_kept_in_values_and_refused_in_keys(lab: Lab) -> None:
    await lab.begin(n="\ud800\0")
    assert await lab.data() == {"n": "\ud800\0"}
    with pytest.raises(CodecError, match="surrogate"):
        await lab.store.create({"\ud800": 1})


@pytest.mark.proves("AT-75")
async def test_a_change_inside_a_value_is_stored(lab: Lab) -> None:
    await lab.begin(cart={"tea": [1]})
    async with lab.visitor.request() as session:
        session["cart"]["tea"].append(2)
        assert session.modified
    assert await lab.data() == {"cart": {"tea": [1, 2]}}


@pytest.mark.proves("P5")
async def test_reads_and_values_that_stay_the_same_write_nothing(lab: Lab) -> None:
    await lab.begin(n=1, items=[1, {"a": (2, 3)}])
    async with lab.visitor.request() as session:
        assert session["items"] == [1, {"a": (2, 3)}]
        session.delete("nothing")
        assert not session.modified
        session["n"] = 1
    assert (lab.visitor.headers, lab.calls) == ([], ["load"])


async def test_a_list_that_replaced_an_equal_one_is_watched_and_one_that_was_replaced_is_not(lab: Lab) -> None:
    session = await lab.store.get_by_id((await lab.store.create({"items": [1], "n": [1], "m": 1})).id)
    assert session["n"] == [1]
    session.update(items=[1], n=2)
    await session.save()
    async with lab.store.open(session.id) as other:
        other["n"] = 3
    session["items"].append(2)
    session["m"] = 2
    await session.save()  # what others have stored under "n" is not overwritten
    assert await lab.data(session.id) == dict(session) == {"items": [1, 2], "n": 3, "m": 2}


async def test_modified_is_true_from_each_kind_of_change_until_it_is_saved() -> None:
    changes: list[Callable[[Session], Any]] = [
        lambda session: session.set("n", 2), lambda session: session.delete("n"),
        lambda session: session["items"].append(1), lambda session: session.mutate("n", lambda n: n + 1),
        lambda session: session.bind_owner("ada"), lambda session: session.set_idle_timeout(timedelta(hours=1)),
    ]  # fmt: skip
    for change in changes:
        session = await Lab().store.create({"n": 1, "items": [0]})
        assert session["items"] == [0]
        assert not session.modified
        change(session)
        assert session.modified
        await session.save()
        assert not session.modified


async def test_mutate_adds_to_a_plain_write_and_to_a_change_inside_the_value(lab: Lab) -> None:
    await lab.begin(items=[1], n=1)
    async with lab.visitor.request() as session:
        session["items"].append(2)
        assert session.mutate("items", lambda items: [*items, 3]) == [1, 2, 3]
        session["n"] = 5
        assert session.mutate("n", lambda n: n * 2) == 10
        assert session.mutate("n", lambda n: n + 1) == 11
        with pytest.raises(KeyError):
            session.mutate("other", lambda value: value)
        session.mutate("none", lambda _: None, default=[])
    assert await lab.data() == {"items": [1, 2, 3], "n": 11, "none": None}


async def test_mutate_that_raises_takes_back_what_it_did_and_nothing_else(lab: Lab) -> None:
    await lab.begin(items=[1], own=[2])
    async with lab.visitor.request() as session:
        own = session["own"]
        for key, function in (("items", spoil), ("items", refuse), ("own", refuse)):
            with pytest.raises(Mistake):
                session.mutate(key, function)
        with pytest.raises(Mistake):
            session.mutate("other", spoil, default=[])
        for key in ("items", "other"):
            with pytest.raises(ConfigError, match=f"'{key}': .* changed the list in place .*: return the list"):
                session.mutate(key, lambda items: items.append(2), default=[])
        assert not session.modified
        assert dict(session) == {"items": [1], "own": [2]}
        own.append(3)  # it is still the session's own list
        session["mine"] = mine = ["set"]
        with pytest.raises(Mistake):
            session.mutate("mine", refuse)
        assert session["mine"] is mine
        session.mutate("mine", lambda items: [*items, "more"])
        with pytest.raises(Mistake):
            session.mutate("mine", spoil)
        session["wrong"] = {"key": object()}
        with pytest.raises(Mistake):
            session.mutate("wrong", refuse)
        assert list(session.pop("wrong")) == ["key"]
    assert await lab.data() == {"items": [1], "own": [2, 3], "mine": ["set", "more"]}


@pytest.mark.proves("AT-72")
async def test_a_value_that_cannot_be_stored_fails_before_any_write_and_names_its_key(lab: Lab) -> None:
    await lab.begin()
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    for value, error in ((object(), r"'bad'.*builtins\.object"), (cyclic, "'bad'")):
        with pytest.raises(CodecError, match=error):
            async with lab.visitor.request() as session:
                session.update(n=2, bad=value)
    assert lab.calls == ["load"] * 2
    assert await lab.data() == {"n": 1}


async def test_one_damaged_value_leaves_the_others_usable_and_can_be_replaced(lab: Lab) -> None:
    made = await lab.store.create({"good": [1], "bad": datetime(2020, 1, 1, tzinfo=UTC)})
    there = await lab.stored(made)
    damaged = there.data.replace(b"2020-01-01", b"2020-99-01")
    assert damaged != there.data
    await lab.storage.inner.replace(f"session:{made.handle}", damaged, 1800, version=there.version)
    session = await lab.store.get_by_id(made.id)
    reads: list[Callable[[], Any]] = [
        lambda: session["bad"], lambda: session.get("bad"), lambda: session.mutate("bad", lambda value: value),
    ]  # fmt: skip
    for use in reads:
        with pytest.raises(CorruptRecord, match="'bad'"):
            use()
    assert [event.handle for event in lab.events if event.kind.value == "corrupt"] == [made.handle] * 3
    session["good"].append(2)
    await session.save()
    session = await lab.store.get_by_id(made.id)
    assert list(session) == ["good", "bad"]
    session["bad"] = "whole"
    await session.save()
    assert await lab.data(made.id) == {"good": [1, 2], "bad": "whole"}


async def test_a_key_of_a_type_that_this_process_lacks_is_kept_when_others_are_written_and_after_a_release() -> None:
    lab = Lab()
    newer, older = lab.beside(), lab.beside()
    newer.register_type(Item)
    sid = (await newer.create({"n": 1, "item": Item("tea")})).id
    async with older.open(sid) as session:
        session["n"] = 2
        with pytest.raises(UnregisteredType, match="'item'"):
            session["item"]
    session = await older.get_by_id(sid)
    session.release()
    for name in ("pop", "pop with None", "popitem"):
        with pytest.raises(SessionReleased):
            REMOVALS[name][0](session)
    assert list(session) == ["n", "item"]
    assert dict(await newer.get_by_id(sid)) == {"item": Item("tea"), "n": 2}


Removal = Callable[[Session], Any]
REMOVALS: dict[str, tuple[Removal, Any]] = {
    "pop": (lambda session: session.pop("item"), UnregisteredType),
    "pop with a default": (lambda session: session.pop("item", 7), 7),
    "pop with None": (lambda session: session.pop("item", None), None),
    "pop by a typed key": (lambda session: session.pop(SessionKey("item", int), 7), 7),
    "popitem": (lambda session: session.popitem(), UnregisteredType),
    "del": (lambda session: session.__delitem__("item"), None),
    "delete": (lambda session: session.delete("item"), None),
    "clear": (lambda session: session.clear(), None),
}


@pytest.mark.parametrize("name", REMOVALS)
async def test_a_key_that_cannot_be_read_can_be_removed_in_every_way(name: str) -> None:
    lab, (remove, outcome) = Lab(), REMOVALS[name]
    newer, older = lab.beside(), lab.beside()
    newer.register_type(Item)
    for read_before in (False, True):
        sid = (await newer.create({"item": Item("tea")})).id
        async with older.open(sid) as session:
            if read_before:
                with pytest.raises(UnregisteredType):
                    session["item"]
            if outcome is UnregisteredType:
                with pytest.raises(UnregisteredType, match="'item'"):
                    remove(session)
            else:
                assert remove(session) == outcome
            assert "item" not in session
        assert dict(await newer.get_by_id(sid)) == {}


class Wide(msgspec.Struct):
    name: str
    level: int = 7


class Narrow(msgspec.Struct):
    name: str


async def test_processes_with_two_versions_of_a_class_share_a_session_during_a_deploy(lab: Lab) -> None:
    new, old = lab.beside(), lab.beside()
    new.register_type(Wide, name="user")
    old.register_type(Narrow, name="user")
    sid = (await new.create({"user": Wide("ada", 9), "n": 1})).id
    async with old.open(sid) as session:
        assert session["user"] == Narrow("ada")
        session.mutate("n", lambda n: n + 1)
    assert dict(await new.get_by_id(sid)) == {"user": Wide("ada", 9), "n": 2}  # only read: written back as it was
    async with old.open(sid) as session:
        session["user"].name = "bob"
    session = await new.get_by_id(sid)
    assert session["user"] == Wide("bob")
    assert not session.modified
