"""Typed keys: a name and a type, written down once, and known to the type checker wherever they are used."""

from typing import Annotated, Any, Literal, assert_type

from msgspec import Meta, Struct

from sessioncore import SessionKey, SessionStore


class Item(Struct):
    name: str
    price: int


CART = SessionKey("cart", list[Item], default_factory=list[Item])
VISITS = SessionKey("visits", int, default=0)
NICKNAME = SessionKey("nickname", str | None, default=None)
SIZE = SessionKey("size", Literal["s", "l"])
AGE = SessionKey("age", Annotated[int, Meta(ge=0)])
NOTES = SessionKey("notes", dict[str, list[Item] | None], default_factory=dict[str, list[Item] | None])
BOXED = SessionKey[str | None]("boxed", str | None)  # as other type checkers need it
assert_type(CART, SessionKey[list[Item]])
assert_type(NICKNAME, SessionKey[str | None])
assert_type(SIZE, SessionKey[Literal["s", "l"]])
assert_type(AGE, SessionKey[int])
assert_type(NOTES, SessionKey[dict[str, list[Item] | None]])
assert_type(BOXED, SessionKey[str | None])


async def main() -> None:
    session = await SessionStore().create()
    assert_type(session[CART], list[Item])
    assert_type(session[VISITS], int)
    assert_type(session[NICKNAME], str | None)

    session[CART].append(Item("tea", 4))
    assert_type(session["cart"], Any)
    session[VISITS] = 1
    session.set(NICKNAME, "ada")
    assert_type(session.get(VISITS), int | None)
    assert_type(session.get(VISITS, 7), int)
    assert_type(session.get(VISITS, None), int | None)
    assert_type(session.setdefault(CART, []), list[Item])
    assert_type(session.mutate(CART, lambda items: [*items, Item("milk", 2)]), list[Item])
    assert_type(session.mutate(VISITS, lambda count: count + 1, default=5), int)
    names: list[str] = session.pop("names", [])  # a plain name has no type
    session.mutate("names", lambda names: [*names, "ada"], default=names)
    session.delete("names")
    assert_type(session.get(VISITS, "none yet"), int | str)
    assert_type(session.setdefault(VISITS, 1), int)
    assert_type(session.mutate(VISITS, lambda count: count + 1), int)
    assert_type(session.pop(NICKNAME), str | None)
    assert_type(session.pop(VISITS, None), int | None)

    assert CART in session
    assert dict(session) == {"cart": [Item("tea", 4), Item("milk", 2)]}
    session.delete(CART)
    session |= {"plain": "a key without a type"}
    assert_type(session.popitem(), tuple[str, Any])
