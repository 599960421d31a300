"""The sessions that were stored in the first format: what each of them holds, and its owner."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from sessioncore import SessionStore

__all__ = ["LONG", "SESSIONS", "START", "Colour", "Item", "Point", "Stored", "User", "Vanished", "register", "sid_of"]

START = 1_800_000_000.0  # the time at which all of them were written
LONG = "ö" * 1024  # too long for an index of PostgreSQL, which holds its digest


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: Any


class Item(msgspec.Struct):
    sku: str
    price: Decimal


class Pair(NamedTuple):
    left: int
    right: str


class User:
    """A class that is registered with functions of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"User({self.name!r})"


@dataclass
class Vanished:
    """A class that the store no longer knows when it reads the records."""

    what: str


def register(store: SessionStore) -> SessionStore:
    """Register all classes but `Vanished`."""
    for cls in (Colour, Point, Item, Pair):
        store.register_type(cls, name=f"first.{cls.__name__}")
    store.register_type(User, name="first.User", encode=lambda user: user.name, decode=User)
    return store


class Stored(NamedTuple):
    data: Mapping[str, Any]
    owner: str | None = None
    details: Mapping[str, Any] = {}


SESSIONS: dict[str, Stored] = {
    "anonymous": Stored({"n": 1, "cart": ["book", "pen"]}),
    "phone": Stored({"n": 1}, "ada", {"device": "phone"}),  # moved: the visitor logged in
    "laptop": Stored(
        {
            "n": 1,
            "none": None,
            "numbers": [True, -1, 2**63, -(2**200), 1.5, float("inf")],
            "text": "grüße \N{DOG FACE} \x00",
            "bytes": b"\x00\xff",
            "nested": ({"a", "b"}, frozenset({1}), {1: "one", (1, 2): [()]}),
            "times": [
                datetime(2026, 1, 2, 3, 4, 5, 6),
                datetime(2026, 1, 2, tzinfo=UTC),
                datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=5, minutes=30))),
                date(2026, 1, 2),
                time(3, 4, 5),
                timedelta(days=-1, microseconds=1),
            ],
            "exact": [Decimal("1.10"), UUID(int=5)],
            "registered": [Colour.RED, Point(1, Item("pen", Decimal("0.50"))), Pair(1, "two"), User("ada")],
        },
        "ada",
        {"device": "laptop", "at": datetime(2026, 1, 2, tzinfo=UTC)},
    ),
    "old": Stored({"n": 1}, "ada", {"device": "desktop"}),  # a minute before its absolute deadline
    "quick": Stored({"n": 1}, "grüße \N{DOG FACE}"),  # has an idle timeout of five minutes
    "long": Stored({"n": 1}, LONG),
}


def sid_of(name: str) -> str:
    """Return the ID of a session."""
    return f"first-format-{name}".ljust(43, "0")
