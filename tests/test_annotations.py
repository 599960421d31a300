"""Whether a value fits the annotation of a typed key: it is compared, never converted."""

import enum
import typing
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Annotated, Any, ClassVar, Literal, NewType, NotRequired, Protocol, TypedDict, TypeVar, TypeVarTuple

import anyio
import msgspec
import pytest
from tests.models import Account, Box, Colour, Item, Level, Line, Mode, Pair, Point
from typing_extensions import TypeAliasType

from sessioncore import ConfigError, SessionKey
from sessioncore.session._annotations import matches

T: Any = TypeVar("T")  # type: ignore[misc]  # used as a value here
UserID = NewType("UserID", int)
Numbers = TypeAliasType("Numbers", list[int])  # what the statement `type Numbers = list[int]` makes
U = TypeVar("U")
V = TypeVar("V")
Ts = TypeVarTuple("Ts")
Twice = TypeAliasType("Twice", tuple[U, U], type_params=(U,))
Swapped = TypeAliasType("Swapped", tuple[V, U], type_params=(U, V))
Same = TypeAliasType("Same", U, type_params=(U,))
Several = TypeAliasType("Several", tuple[*Ts], type_params=(Ts,))
Positive = Annotated[int, msgspec.Meta(gt=0), "a note of somebody else's"]


class Cart(TypedDict):
    items: list[Item]
    note: NotRequired[str | None]


class Entry(TypedDict, typing.Generic[U, V]):
    key: U
    value: V


class Sized(typing.NamedTuple, typing.Generic[U]):
    size: U
    unit: str


class Labels(list[str], typing.Generic[U]):
    """Its argument says nothing about its items."""


Unresolved = TypedDict("Unresolved", {"a": "NoSuchName"})  # type: ignore[name-defined]  # noqa: F821, UP013  # pyright: ignore[reportUndefinedVariable]  # that is the point


class HasSku(Protocol):
    sku: str


class Holds(Protocol[U]):
    sku: U


class Named(enum.Enum):
    A = 1


# As older code writes them.
LIST, DICT, OPTIONAL = (getattr(typing, name) for name in ("List", "Dict", "Optional"))
TUPLE, UNPACK = (getattr(typing, name) for name in ("Tuple", "Unpack"))

FITS: list[tuple[Any, Any]] = [
    (1, ClassVar[int]),
    (1, int), (1, float), (1.5, float), (True, bool), ("a", str), (None, None), (None, type(None)), (1, Any),
    ("x", object), (Mode.FAST, str), (datetime(2026, 1, 1), date), ([], list), ([1], list[int]),
    ([1, "a"], list[int | str]), ((), tuple), ((), tuple[()]), ((1, "a"), tuple[int, str]),
    (deque([1]), deque[int]), (Counter("a"), Counter[str]), (defaultdict(int, a=1), defaultdict[str, int]),
    ((1, 2, 3), tuple[int, ...]), ((), tuple[int, ...]), ({1}, set[int]), (frozenset("a"), frozenset[str]),
    ({"a": [1]}, dict[str, list[int]]), ({}, dict[str, int]), ({"a": 1}, Mapping[str, int]), ([1], Sequence[int]),
    ((1, 2), Sequence[int]), ((1, 2), Collection[int]), ((1,), Iterable[int]), ("ab", Sequence[str]),
    ([1], LIST[int]), ([1], LIST), ({"a": 1}, DICT), ({"a": 1}, DICT[str, int]), (None, OPTIONAL[int]),
    (1, int | None), ("a", Literal["a", 1]), (1, Literal["a", 1]), (Colour.RED, Literal[Colour.RED]), (3, Positive),
    (7, UserID), (Item("a"), Item), ([Item("a")], list[Item]), (Box(1), Box[int]), (Box("a"), Box[int]),
    ((1, 2), tuple), (Pair(1, 2), Pair), (Pair(1, 2), tuple), (Colour.RED, Colour), (Level.LOW, Level),
    ({"items": [Item("a")]}, Cart), ({"items": [], "note": None}, Cart), ({"a": 5}, Unresolved), (1, T),
    ([1], list[T]), (1, "Forward"),
    ([1], Numbers), ([1], Numbers | None), ((1, 2), Twice[int]),
    ((1, "a"), Swapped[str, int]), (1, Same[int]), ((1, "a"), Several[int, str]), (("a", 1), Twice),
    (Colour.RED, enum.Enum), (Point(1), Point | None),
    ([1, 2], Annotated[list[int], msgspec.Meta(max_length=2)]), (int, type[int]),
    ({Colour.RED}, Annotated[set[Colour], msgspec.Meta(min_length=1)]),
    ({Colour.RED: Account(name="a")}, Annotated[dict[Colour, Account] | None, msgspec.Meta(max_length=1)]),
    ((Colour.RED, 1), Annotated[tuple[Colour, int], "a note"]),
    (None, Annotated[int | None, msgspec.Meta(gt=1)]), (2, Annotated[int | None, msgspec.Meta(gt=1)]),
    (Item("a"), HasSku), ([Item("a")], list[HasSku]), (Item("a"), Holds[str]),
    ({"key": 1, "value": "a"}, Entry[int, str]), (Sized(1, "cm"), Sized[int]), (Labels(["a"]), Labels[int]),
    ((1, "a", "b"), tuple[int, *tuple[str, ...]]), ((1, "a"), TUPLE[UNPACK[tuple[int, str]]]),
]  # fmt: skip

MISFITS: list[tuple[Any, Any]] = [
    (["a"], Numbers), ([["a"]], list[Numbers]), ((1, 2, 3), Twice[int]), ((1, "a"), Twice[int]),
    (("a", 1), Swapped[str, int]), ("a", Same[int]), ([(1, "a")], list[Twice[int]]),
    (True, int), (1.0, int), ("1", int), (True, float), (1, bool), (b"a", str), (None, int), (0, None),
    (deque(["a"]), deque[int]), (Counter("a"), Counter[int]), (defaultdict(int, a=1), defaultdict[str, str]),
    (Level.LOW, int), (["a"], list[int]), ([True], list[int]), ((1,), list[int]), ([1], tuple[int, ...]),
    ((1, 2), tuple[int]), ((), tuple[int]), ((1,), tuple[()]), ((1, "a"), tuple[str, int]), ({"a"}, set[int]),
    ({1}, frozenset[int]), ({1: 1}, dict[str, int]), ({"a": "b"}, dict[str, int]), ({"a": "b"}, Mapping[str, int]),
    (("a",), Sequence[int]), ("a", int | None), ("b", Literal["a"]), (True, Literal[1]), (1, Literal[True]),
    (Colour.GREEN, Literal[Colour.RED]), (0, Positive), ("a", Positive), ("7", UserID), (True, UserID),
    (Item("a"), Point), ([Point(1)], list[Item]), (Colour.RED, Named), ({}, Cart), ({"items": [1]}, Cart),
    ({"items": [], "note": 5}, Cart), ({"items": [], "more": 1}, Cart), ([], Cart), ({}, Unresolved),
    ([1, 2, 3], Annotated[list[int], msgspec.Meta(max_length=2)]), (date(2026, 1, 1), datetime), ((1, 2), Pair),
    ({Colour.RED, Colour.GREEN}, Annotated[set[Colour], msgspec.Meta(max_length=1)]),
    ({1}, Annotated[set[Colour], msgspec.Meta(min_length=1)]),
    ({"key": 1}, Entry[int, str]), ([], Entry[int, str]), ((1, "cm"), Sized[int]), (["a"], Labels[str]),
    (1, Annotated[int | None, msgspec.Meta(gt=1)]),
]  # fmt: skip


def test_a_value_fits_its_type_alone_and_is_never_converted() -> None:
    assert [pair for pair in FITS if not matches(*pair)] == []
    assert [pair for pair in MISFITS if matches(*pair)] == []
    with pytest.raises(ConfigError, match=r"gt=1.* of type date; remove it"):
        matches(date(2026, 1, 1), Annotated[date, msgspec.Meta(gt=1)])


# -- keys


@pytest.mark.parametrize("default", [[], {}, set[int](), bytearray(), ([],), Item("tea"), Line()])
def test_a_default_that_all_sessions_would_share_is_refused(default: object) -> None:
    for kind in (type(default), Any):
        with pytest.raises(ConfigError, match=r"would share a mutable default.*default_factory="):
            SessionKey("n", kind, default=default)


def test_a_key_with_two_defaults_or_no_name_or_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="not both"):
        SessionKey("n", int, default=0, default_factory=int)
    unfit: list[Any] = [[], anyio.sleep_forever]
    for default_factory in unfit:
        with pytest.raises(ConfigError, match="a class or a function that is not async"):
            SessionKey("n", list[int], default_factory=default_factory)
    assert SessionKey("n", Any, default=None).default is None
    values: list[Any] = ["list[int]", [int], (int, str), 5, {}]  # every value would fit
    for value in values:
        with pytest.raises(ConfigError, match="the type itself"):
            SessionKey("n", value)
    for name in ("", None, 5):
        bad: Any = name
        with pytest.raises(ConfigError, match="needs a name"):
            SessionKey(bad, int)
