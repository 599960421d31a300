"""Typed keys: their defaults, and what happens if a value of another type was stored."""

from collections.abc import Callable
from typing import Annotated, Any

import pytest
from msgspec import Meta
from tests.kit import Lab
from tests.models import Item, Point
from tests.views import Visitor

from sessioncore import CodecError, ConfigError, CorruptRecord, ResponseStarted, Session, SessionKey, UnregisteredType
from sessioncore.testing import sign_in

pytestmark = pytest.mark.anyio

CART: SessionKey[list[Item]] = SessionKey("cart", list[Item], default_factory=list[Item])
COUNT: SessionKey[int] = SessionKey("count", int, default=0)
NAME: SessionKey[str] = SessionKey("name", str)


async def test_a_typed_key_gives_its_default_and_stores_nothing(lab: Lab) -> None:
    async with lab.visitor.request() as session:
        assert session[COUNT] == 0
        assert session[CART] == []
        assert session[CART] is session[CART]
        with pytest.raises(KeyError, match="name"):
            session[NAME]
        assert (session.get(NAME), session.get(NAME, "nobody")) == (None, "nobody")
        assert (session.get(COUNT), session.get(COUNT, 7)) == (0, 7)
        assert CART not in session
        assert not session.modified
    assert lab.calls == []


async def test_a_default_that_is_changed_is_stored_like_any_value(lab: Lab) -> None:
    looks: list[Callable[[Session], bool]] = [
        lambda session: session.modified, lambda session: list(session) == ["cart"],
        lambda session: session["cart"] == [Item("tea")],
    ]  # fmt: skip
    for look in looks:
        async with Visitor(lab.store).request() as session:
            cart = session[CART]
            assert list(session) == []
            cart.append(Item("tea"))
            assert look(session)
    async with lab.visitor.request() as session:
        session[CART].append(Item("tea"))
    async with lab.visitor.request() as session:
        session[CART].append(Item("milk"))
    async with lab.visitor.request() as session:
        assert session[CART] == [Item("tea"), Item("milk")]


async def test_a_changed_default_can_be_removed_again(lab: Lab) -> None:
    removals: list[Callable[[Session], Any]] = [
        lambda session: session.__delitem__(CART), lambda session: session.__delitem__("cart"),
        lambda session: session.delete(CART), lambda session: session.pop(CART),
        lambda session: session.clear(), lambda session: session.popitem(),
    ]  # fmt: skip
    for remove in removals:
        async with lab.visitor.request() as session:
            session[CART].append(Item("tea"))
            remove(session)
            assert CART not in session
    assert lab.calls == []


async def test_a_default_that_is_changed_after_the_response_started_is_an_error(lab: Lab) -> None:
    exchange = await lab.visitor.arrive()
    assert exchange.session[CART] == []
    assert await exchange.commit(200) == []
    exchange.session[CART].append(Item("tea"))
    with pytest.raises(ResponseStarted):
        await exchange.finish()
    exchange = await lab.visitor.arrive()
    assert exchange.session[CART] == []  # only read: no error
    await lab.visitor.leave(exchange)
    assert lab.calls == []


async def test_pop_and_setdefault_treat_a_typed_default_as_no_value() -> None:
    async with Lab().visitor.request() as session:
        assert session.pop(CART, None) is None
        assert session.pop(COUNT, 9) == 9
        with pytest.raises(KeyError):
            session.pop(COUNT)
        assert session.setdefault(COUNT, 5) == session.setdefault(COUNT, 6) == 5
        assert session.pop(COUNT) == 5
        session[CART].append(Item("tea"))
        assert session.setdefault(CART, []) == [Item("tea")]
        del session[CART]
        assert session.setdefault(CART) == session["cart"] == []
        with pytest.raises(KeyError):
            session.setdefault(NAME)
        assert session.setdefault("name") is session["name"] is None


async def test_typed_keys_are_written_changed_and_deleted(lab: Lab) -> None:
    async with lab.visitor.request() as session:
        session[COUNT] = 1
        session.set(NAME, "ada")
        assert COUNT in session
    async with lab.visitor.request() as session:
        assert (session[COUNT], session[NAME]) == (1, "ada")
        session[COUNT] += 1
        assert session.mutate(COUNT, lambda n: n * 10) == 20
        del session[NAME]
        session.delete(NAME)
    assert await lab.data() == {"count": 20}


async def test_mutate_begins_with_the_default_also_with_one_that_was_changed(lab: Lab) -> None:
    log = SessionKey("log", list[int], default_factory=list[int])
    async with lab.visitor.request() as session:
        assert session.mutate(COUNT, lambda n: n + 1) == 1
        session[CART].append(Item("tea"))
        session.mutate(CART, lambda cart: [*cart, Item("milk")])
        handed = session[log]
        with pytest.raises(ZeroDivisionError):
            session.mutate(log, lambda log: [1 // len(log)])
        handed.append(0)  # still the session's, because that mutate() failed
        session.mutate(log, lambda log: [*log, 1])
        handed.append(99)  # not the session's any more
        with pytest.raises(KeyError):
            session.mutate(NAME, lambda name: name)
        assert session.mutate(NAME, lambda name: name + "!", "ada") == "ada!"
    async with lab.visitor.request() as session:
        assert dict(session) == {"count": 1, "cart": [Item("tea"), Item("milk")], "log": [0, 1], "name": "ada!"}


async def test_an_error_of_a_default_factory_is_not_taken_for_a_missing_default(lab: Lab) -> None:
    failing = SessionKey("settings", dict[str, int], default_factory=lambda: {"a": {"b": 1}["c"]})
    async with lab.visitor.request() as session:
        for read in (session.get, session.__getitem__, session.setdefault):
            with pytest.raises(KeyError, match="c"):
                read(failing)
        assert session.get(failing, {}) == {}


async def test_a_value_of_another_type_is_corrupt_for_its_typed_key_and_readable_by_name(lab: Lab) -> None:
    await lab.begin(count="canary", ok=True)
    async with lab.visitor.request() as session:
        for _ in range(2):
            with pytest.raises(CorruptRecord, match=r"'count' holds a str.*delete the key"):
                session[COUNT]
        with pytest.raises(CorruptRecord):
            session.get(COUNT)
        with pytest.raises(CorruptRecord):
            session.mutate(COUNT, lambda count: count * 2)
        assert session["count"] == "canary"
        assert {(event.kind.value, event.handle) for event in lab.events} == {("corrupt", session.handle)}
        assert "canary" not in repr(lab.events)
        session.delete(COUNT)
        assert session[COUNT] == 0


async def test_a_value_that_a_typed_key_could_not_read_back_is_refused_and_changes_nothing(lab: Lab) -> None:
    age: SessionKey[int] = SessionKey("age", Annotated[int, Meta(ge=0)])
    cart: Any = CART  # type checkers refuse what follows
    count: Any = COUNT
    name: Any = NAME
    visitor = await lab.begin(count=1)
    writes: list[Callable[[Session], object]] = [
        lambda session: session.__setitem__(count, "canary"),
        lambda session: session.set(count, True),
        lambda session: session.setdefault(name, 5),
        lambda session: session.update({name: None}),
        lambda session: session.mutate(count, lambda count: f"canary {count}"),
        lambda session: session.mutate(name, lambda name: 5, "ada"),
        lambda session: session.set(age, -1),
        lambda session: session.set(cart, [Item("tea"), "canary"]),
    ]
    async with visitor.request() as session:
        for write in writes:
            with pytest.raises(CodecError, match=r"session key '\w+': a \w+ does not match SessionKey\(") as refused:
                write(session)
            assert "canary" not in str(refused.value)
        assert not session.modified
        assert dict(session) == {"count": 1}
        session["count"] = "by its plain name"
    with pytest.raises(CodecError, match="a str does not match"):
        await lab.store.create({count: "canary"})
    with pytest.raises(CodecError, match="a str does not match"):
        await sign_in(lab.store, "ada", {count: "canary"})


async def test_a_value_is_judged_by_what_is_read_back() -> None:
    class Price(float):
        """Like numpy.float64."""

    price = SessionKey("price", float)
    async with Lab(builtin_subclasses="flatten").visitor.request() as session:
        session[price] = Price(1.5)
    async with Lab().visitor.request() as session:
        with pytest.raises(CodecError, match="a Price does not match"):
            session[price] = Price(1.5)


async def test_a_repeated_mutate_is_held_to_the_type_too(lab: Lab) -> None:
    await lab.begin(count=1)
    rival = lab.beside()
    with pytest.raises(CodecError, match="a str does not match"):
        async with lab.visitor.request() as session:
            session.mutate(COUNT, lambda count: 10 if count == 1 else str(count))  # type: ignore[arg-type,return-value]  # pyright: ignore[reportArgumentType]
            async with rival.open(session.id) as other:
                other[COUNT] = 2
    assert await lab.data() == {"count": 2}


def test_a_typed_key_equals_another_of_its_name_and_type() -> None:
    assert SessionKey("count", int, default=5) == COUNT
    assert SessionKey("count", float) != COUNT
    assert COUNT != "count"
    assert len({COUNT, SessionKey("count", int)}) == 1
    assert (CART.name, CART.type, CART.default_factory) == ("cart", list[Item], list[Item])
    assert repr(COUNT) == "SessionKey('count', <class 'int'>)"


async def test_typed_keys_are_keys_of_mappings_also_before_anybody_used_them(lab: Lab) -> None:
    cart = [Item("tea")]
    made = await lab.store.create({CART: cart, COUNT: 2, "plain": 1}, owner="ada")
    assert dict(await lab.store.get_by_id(made.id)) == {"cart": cart, "count": 2, "plain": 1}
    visitor = await sign_in(lab.beside(), "ada", {CART: cart})
    assert dict(await lab.store.get_by_id(visitor.session_id)) == {"cart": cart}
    async with lab.beside().open(made.id) as session:
        session.update({CART: [Item("milk")], NAME: "ada"}, plain=2)
        session |= {COUNT: 3}
        session.update([(NAME, "bob")])
    found = await lab.store.get_by_id(made.id)
    assert dict(found) == {"cart": [Item("milk")], "count": 3, "plain": 2, "name": "bob"}


async def test_a_registered_key_is_read_and_written_by_its_plain_name_from_the_start(lab: Lab) -> None:
    maps = SessionKey("maps", dict[str, tuple[Point, ...]])
    taught, untaught = lab.beside(), lab.beside()
    taught.register_key(CART, maps)
    taught.register_key(CART)
    data = {"cart": [Item("tea")], "maps": {"a": (Point(1), Point(2))}}
    made = await taught.create(data)
    assert dict(await taught.get_by_id(made.id)) == data
    stranger = await untaught.get_by_id(made.id)
    for name in data:
        with pytest.raises(UnregisteredType, match=name):
            stranger[name]


def test_register_key_refuses_what_is_no_key_and_registers_nothing() -> None:
    for wrong in ("cart", Item, [CART], None):
        store = Lab().store
        with pytest.raises(ConfigError, match=r"register_key\(CART, NOTES\), or register_type\(Item\)"):
            store.register_key(CART, wrong)  # type: ignore[arg-type]
        assert not store._persistence.codec.registry.by_class  # pyright: ignore[reportPrivateUsage]
