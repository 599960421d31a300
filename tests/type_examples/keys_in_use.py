"""Typed keys where their values are used as wider types, and as the keys of mappings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from sessioncore import Session, SessionKey, SessionStore
from sessioncore.testing import sign_in


class Item(Struct):
    name: str


CART = SessionKey("cart", list[Item], default_factory=list[Item])
NOTES = SessionKey("notes", list[str], default_factory=list[str])
SCORES = SessionKey("scores", dict[str, int], default_factory=dict[str, int])
VISITS = SessionKey("visits", int, default=0)

store = SessionStore()
store.register_key(CART, NOTES)
store.register_key(VISITS)


def names(items: Iterable[Item]) -> Sequence[str]:
    return [item.name for item in items]


async def reads(session: Session) -> None:
    text = ",".join(session[NOTES])
    text += ",".join(session.get(NOTES) or [])
    text += ",".join(session.get(NOTES, []))
    text += ",".join(session.setdefault(NOTES, []))
    text += ",".join(session.mutate(NOTES, lambda notes: [*notes, "a note"]))
    text += ",".join(session.mutate(NOTES, lambda notes: notes[:1], []))
    text += ",".join(names(session[CART]))
    text += ",".join(session.pop(NOTES))
    text += ",".join(session.pop(NOTES, []))
    text += ",".join(session.pop(NOTES, ()))
    scores: Mapping[str, float] = session[SCORES]
    best = max(session[SCORES].values(), default=0)
    floats: Sequence[float] = session.get(SessionKey("floats", list[int]), [])
    perhaps: Iterable[str] | None = session.get(NOTES)
    ratio: float = session[VISITS]
    assert [text, scores, best, floats, perhaps, ratio]


async def writes(session: Session, plain: dict[str, str], typed: dict[SessionKey[Any], object]) -> None:
    session.update({CART: [Item("tea")], NOTES: ["a"]})
    session.update({CART: [Item("tea")]}, plain=1)
    session.update({CART: [Item("tea")], "plain": 1})
    session.update([(CART, [Item("tea")]), ("plain", 2)])
    session.update({"plain": 1}, other=2)
    session.update([("plain", 1)])
    session.update(other=2)
    session.update()
    session.update(session)
    session.update(plain)
    session.update(typed)
    session |= {CART: [Item("tea")], VISITS: 3}
    session |= {CART: [Item("tea")], "plain": 1}
    session |= plain


async def main() -> None:
    session = await store.create({CART: [Item("tea")]})
    await reads(session)
    await writes(session, {"a": "b"}, {VISITS: 1})
    both: dict[str | SessionKey[Any], Any] = {CART: [Item("tea")], "plain": 1}
    plain = {"plain": 1}
    lists: dict[SessionKey[list[Item]], list[Item]] = {CART: [Item("tea")]}
    for data in (both, plain, lists, None):
        await store.create(data, owner="ada")
    await store.create({CART: [Item("tea")], VISITS: 3}, owner="ada")
    await store.create({CART: [Item("tea")], VISITS: 3, "plain": 1})
    await store.create({})
    await sign_in(store, "ada", {CART: [Item("tea")], NOTES: []})
    await sign_in(store, "ada", {CART: [Item("tea")], "plain": 1})
