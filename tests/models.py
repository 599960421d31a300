"""Classes of every kind that a session can hold, for tests of fidelity."""

import dataclasses
import enum
from decimal import Decimal
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import msgspec
import pydantic
from markupsafe import Markup

from sessioncore.codec._registry import Registry

__all__ = [
    "SHAPED", "Account", "Address", "Badge", "Bit", "Box", "Claims", "Colour", "Frozen", "HandMade", "Item", "Level",
    "Line", "Markup", "Mode", "Money", "Normalised", "Pair", "Parsed", "Point", "Renamed", "Right", "Tags",
    "register_all",
]  # fmt: skip

T = TypeVar("T")


class Item(msgspec.Struct):
    sku: str
    count: int = 1
    note: Any = None


class Frozen(msgspec.Struct, frozen=True):
    name: Any


class Renamed(msgspec.Struct, rename="camel", kw_only=True, tag="renamed"):
    unit_price: Decimal
    in_stock: bool | msgspec.UnsetType = msgspec.UNSET


class Normalised(msgspec.Struct):
    raw: str
    seen: int = 0

    def __post_init__(self) -> None:
        self.seen += 1


class Box(msgspec.Struct, Generic[T]):
    value: T


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass(kw_only=True)
class Line:
    points: list[Point] = dataclasses.field(default_factory=list[Point])
    length: float = dataclasses.field(init=False, default=0.0)
    label: str = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.length += 1.0
        self.cache = {"built": True}


@dataclasses.dataclass
class Parsed:
    """Its `__post_init__` fails on a value that it has already converted."""

    parts: Any

    def __post_init__(self) -> None:
        self.parts = self.parts.split(",")


@dataclasses.dataclass(init=False)
class HandMade:
    total: int

    def __init__(self, *numbers: int) -> None:
        self.total = sum(numbers)


def _split(text: str) -> list[str]:
    return text.split(",")


@attrs.define
class Tags:
    names: list[str] = attrs.field(converter=_split)
    _owner: str = "nobody"
    size: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.size = len(self.names)


@attrs.frozen(kw_only=True)
class Badge:
    level: int = attrs.field(alias="rank", default=1)
    extra: Any = attrs.field(factory=list[Any])
    twice: int = attrs.field(default=attrs.Factory(lambda self: self.level * 2, takes_self=True))
    label: str = ""  # a fourth field, because a pydantic model is stored in four parts, too


class Pair(NamedTuple):
    left: Any
    right: Any = None


class Colour(enum.Enum):
    RED = "r"
    GREEN = ("g", 2)
    ROUGE = "r"  # noqa: PIE796 - an alias is meant


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mode(enum.StrEnum):
    FAST = "fast"


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Bit(enum.IntFlag):
    A = 1
    B = 2


class Address(pydantic.BaseModel):
    street: str = pydantic.Field(alias="Street", default="unknown")


class Account(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    name: str
    address: Address = pydantic.Field(default_factory=Address)
    anything: Any = None
    _secret: int = pydantic.PrivateAttr(default=7)

    @pydantic.field_validator("name", mode="before")
    @classmethod
    def _shout(cls, value: str) -> str:
        return value + "!"


class Money:
    """A class that the codec cannot take apart: it needs `encode` and `decode`."""

    def __init__(self, cents: int, currency: str) -> None:
        self.cents = cents
        self.currency = currency

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((self.cents, self.currency))


class Claims(dict[str, Any]):
    """Like Authlib's UserInfo: the claims of a token."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


SHAPED: tuple[type, ...] = (
    Item, Frozen, Renamed, Normalised, Box, Point, Line, Parsed, HandMade, Tags, Badge,
    Pair, Colour, Level, Mode, Right, Bit, Address, Account, Claims, Markup,
)  # fmt: skip


def register_all(registry: Registry) -> None:
    for cls in SHAPED:
        registry.register(cls)
    registry.register(Money, name="money", encode=lambda m: (m.cents, m.currency), decode=lambda parts: Money(*parts))
