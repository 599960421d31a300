"""Registration: one name, one meaning; what a class of each kind keeps; what annotations teach."""

import asyncio
import dataclasses
import enum
from decimal import Decimal
from itertools import permutations
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest
from tests import models
from tests.codec.test_read_back import changed, codec_with, through
from tests.values import exact_text

from sessioncore import CodecError, ConfigError, CorruptRecord, UnregisteredType
from sessioncore.codec._codec import Codec

T = TypeVar("T")
Sku = NewType("Sku", tuple[models.Item, int])


@dataclasses.dataclass
class Secretive:
    shown: str
    given: dataclasses.InitVar[int]

    def __post_init__(self, given: int) -> None:
        self.shown = f"{self.shown}{given}"


@dataclasses.dataclass
class Row(dict[str, int]):
    label: str


class OldModel(pydantic.BaseModel):
    kept: int
    lost: str = "x"


@dataclasses.dataclass
class LoggedData:
    """Like the two classes after it: its hook changes the values that it is given, at several depths."""

    log: list[Any]
    marks: dict[str, set[int]] = dataclasses.field(default_factory=dict[str, set[int]])

    def __post_init__(self) -> None:
        self.log.append("made")
        self.marks.setdefault("seen", set()).add(len(self.log))
        self.last = self.log


@attrs.frozen
class LoggedAttrs:
    log: tuple[list[Any], ...]

    def __attrs_post_init__(self) -> None:
        self.log[0].append("made")


class LoggedStruct(msgspec.Struct, frozen=True):
    log: dict[str, list[str]]

    def __post_init__(self) -> None:
        self.log["a"].append("made")


class ParsedStruct(msgspec.Struct, frozen=True):
    """Its `__post_init__` fails on a value that it has already converted."""

    parts: Any

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "parts", self.parts.split(","))


class Halved(NamedTuple):
    size: int


class Doubled(Halved):
    @property
    def size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return 2 * self[0]


@attrs.frozen(cache_hash=True)
class Hashed:
    size: int


@attrs.define(cache_hash=True, unsafe_hash=True, slots=False)
class HashedWithDict:
    size: int


class Spoken(enum.Enum):
    YES = 1

    @property
    def name(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return "yes"


class Marked(enum.Flag):
    A = 1
    B = 2

    @property
    def value(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return "a mark"


class Open(enum.Enum):
    KNOWN = 1

    @classmethod
    def _missing_(cls, value: Any) -> Any:
        member = object.__new__(cls)
        member._name_, member._value_ = f"NUMBER_{value}", value
        return member


class PrivateModel(pydantic.BaseModel):
    kept: int
    _seen: list[int] = pydantic.PrivateAttr(default_factory=list[int])
    _plain: str = "p"
    _unset: int = pydantic.PrivateAttr()


class OpenModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    kept: int


def encode(value: Any) -> Any:
    return value.cents, value.currency


def decode(parts: Any) -> models.Money:
    return models.Money(*parts)


# -- names


def test_the_same_registration_again_has_no_effect_and_an_alias_may_be_added() -> None:
    registry = Codec().registry
    for _ in range(2):
        registry.register(models.Item)
        registry.register(models.Money, name="money", aliases=["old"], encode=encode, decode=decode)
    registry.register(models.Item, aliases=["thing"])
    assert set(registry.by_name) >= {"tests.models.Item", "money", "old"}
    assert registry.by_name["thing"] is registry.by_name["tests.models.Item"]


def test_a_class_registered_twice_with_another_meaning_is_refused() -> None:
    functions = {"encode": encode, "decode": decode}
    meanings: list[dict[str, Any]] = [{}, {"name": "other"}, functions, {"name": "other", **functions}]
    meanings.append({**functions, "decode": str})
    for first, again in permutations(meanings, 2):
        registry = Codec().registry
        registry.register(models.Item, **first)
        with pytest.raises(ConfigError, match="already registered"):
            registry.register(models.Item, **again)


def test_a_name_that_another_class_has_is_refused_and_changes_nothing() -> None:
    registry = Codec().registry
    registry.register(models.Item, name="taken")
    labels: list[dict[str, Any]] = [{"name": "taken"}, {"aliases": ["taken"]}]
    for label in labels:
        with pytest.raises(ConfigError, match="'taken' is already taken"):
            registry.register(models.Point, **label)
    assert models.Point not in registry.by_class


BAD_OPTIONS: list[dict[str, Any]] = [
    {"name": ""}, {"name": 5}, {"name": "a\nb"}, {"aliases": "old"}, {"aliases": [""]}, {"aliases": [None]},
    {"name": "x" * 1001}, {"encode": encode}, {"decode": decode}, {"encode": 1, "decode": 2},
    {"encode": encode, "decode": asyncio.sleep}, {"encode": asyncio.sleep, "decode": decode},
]  # fmt: skip
NO_CLASSES: list[Any] = [models.Item("a"), list[int], "models.Item", None, models.Box[int]]
BUILT_IN: list[Any] = [int, str, dict, tuple, type(None), msgspec.UnsetType]
OF_NO_KIND: list[Any] = [object, models.Money, Exception, msgspec.Struct, enum.Enum, enum.IntFlag]


def test_what_cannot_be_registered_is_refused_with_the_reason() -> None:
    for options in BAD_OPTIONS:
        with pytest.raises(ConfigError):
            Codec().registry.register(models.Item, **options)
    refused: list[tuple[list[Any], str]] = [
        (BUILT_IN, "built-in value type"), (NO_CLASSES, "takes a class"), (OF_NO_KIND, "encode= and decode="),
        ([Secretive], "InitVar"), ([Row], "inherits from dict"),
    ]  # fmt: skip
    for things, text in refused:
        for thing in things:
            with pytest.raises(ConfigError, match=text):
                Codec().registry.register(thing)
    codec = Codec()
    codec.registry.register(Secretive, encode=lambda v: v.shown, decode=lambda text: Secretive(text, 0))
    assert through(codec, Secretive("a", 1)).shown == "a10"


# -- kinds


INSTANCES: list[Any] = [
    models.Item("a", 2, {"x": (1, {2})}), models.Renamed(unit_price=Decimal("1.10"), in_stock=True),
    models.Renamed(unit_price=Decimal("1.10")), models.Normalised("a"), models.Box([models.Box({1})]),
    models.Point((1,), frozenset("a")), changed(models.Line(points=[models.Point(1)]), label="set later"),
    models.Parsed("a,b"), models.HandMade(1, 2),
    models.Tags("a,b", "ada"), models.Badge(rank=3, extra={("t",): {1}}), models.Pair((1, 2), [3]),
    models.Colour.ROUGE, models.Level.LOW, models.Mode.FAST, models.Right.READ | models.Right.WRITE, models.Right(0),
    models.Bit(3), models.Bit(64), models.Address(Street="x"),
    models.Account(name="ada", address=models.Address(), anything=(1, {2})),
    models.Account.model_validate({"name": "ada", "more": {1: (2,)}}), models.Account.model_construct(name="raw"),
    changed(models.Account(name="ada"), _secret=8), models.Money(5, "EUR"),
    # a stored value is not changed by what its class does when an instance is made or read
    LoggedData([[1]], {"seen": {7}}), LoggedAttrs(([],)), LoggedStruct({"a": []}), ParsedStruct("a,b"), Doubled(1),
    {Hashed(1): {Hashed(2)}}, {HashedWithDict(1)}, Spoken.YES, Marked.A | Marked.B,
]  # fmt: skip


@pytest.mark.parametrize("value", INSTANCES, ids=lambda value: type(value).__name__)
def test_an_instance_comes_back_equal_and_exact(value: Any) -> None:
    codec = codec_with(
        LoggedData, LoggedAttrs, LoggedStruct, ParsedStruct, Doubled, Hashed, HashedWithDict, Spoken, Marked
    )
    models.register_all(codec.registry)
    encoded = codec.encode("k", value)
    for _ in range(2):
        again = codec.decode("k", encoded)
        assert again == value
        assert exact_text(again) == exact_text(value)
        assert hasattr(again, "__dict__") == hasattr(value, "__dict__")
        assert codec.encode("k", again) == encoded


def test_enum_members_come_back_as_themselves_or_are_refused() -> None:
    codec = codec_with(models.Colour, models.Right, Open)
    for member in (models.Colour.GREEN, models.Right.READ, Open.KNOWN):
        assert through(codec, member) is member
    with pytest.raises(CodecError, match=r"'k': a member of .*Open that _missing_ created"):
        codec.encode("k", Open(5))  # it could not be found again


def test_attributes_that_are_not_fields_are_rebuilt_by_the_class() -> None:
    line = through(codec_with(models.Line, models.Point), models.Line())
    assert line.cache == {"built": True}
    assert line.length == 1.0
    assert not hasattr(line, "label")


def test_what_a_hook_keeps_of_a_field_stays_the_fields_own_object() -> None:
    again = through(codec_with(LoggedData), LoggedData([]))
    assert again.last is again.log


def test_a_model_that_gained_private_computed_or_extra_attributes_reads_what_lacks_them() -> None:
    class Doubled(pydantic.BaseModel):
        kept: int
        double: int = pydantic.Field(default_factory=lambda data: data["kept"] * 2)
        _half: float = pydantic.PrivateAttr(default_factory=lambda data: data["kept"] / 2)

    before = Codec()
    before.registry.register(OldModel, name="thing")

    def read_as(cls: type) -> tuple[Codec, Any]:
        after = Codec()
        after.registry.register(cls, name="thing")
        return after, after.decode("k", before.encode("k", OldModel(kept=3)))

    after, private = read_as(PrivateModel)
    assert (private == PrivateModel(kept=3), private._plain) == (True, "p")
    with pytest.raises(AttributeError):
        print(private._unset)
    assert before.decode("k", after.encode("k", PrivateModel(kept=1))) == OldModel(kept=1)
    _, doubled = read_as(Doubled)
    assert (doubled.double, doubled._half, doubled.model_fields_set) == (6, 1.5, {"kept"})
    _, opened = read_as(OpenModel)
    opened.more = 2
    assert (opened.kept, opened.model_extra) == (3, {"more": 2})


def test_damaged_parts_of_a_registered_type_are_a_corrupt_record() -> None:
    codec = Codec()
    models.register_all(codec.registry)
    bad: list[Any] = [None, 5, "x", [], {}, {1: 2}, [[], [], [], []]]
    for cls in (*models.SHAPED, models.Money):
        name = codec.registry.by_class[cls].name
        for parts in bad:
            data = msgspec.msgpack.encode(msgspec.msgpack.Ext(32, msgspec.msgpack.encode((name, parts))))
            try:
                codec.decode("k", msgspec.Raw(data))
            except CorruptRecord as exc:
                assert exc.__cause__ is None  # noqa: PT017 - some parts are good enough for some types


# -- annotations


class Wheel(msgspec.Struct):
    size: int


class Car(msgspec.Struct, Generic[T]):
    wheels: list[Wheel]
    colour: Literal[models.Colour.RED, "any"]
    load: T | None = None


class PairCar(Car[models.Pair]):
    pass


class Parcel(pydantic.BaseModel, Generic[T]):
    load: T


class ColourParcel(Parcel[models.Colour]):
    pass


class Garage(TypedDict):
    cars: dict[str, Car[models.Pair]]
    sku: Sku


TAUGHT: list[tuple[Any, set[type]]] = [
    (models.Item, {models.Item}),
    (list[models.Item], {models.Item}),
    (dict[str, tuple[models.Point, ...]] | None, {models.Point}),
    (Annotated[models.Item, msgspec.Meta(), []], {models.Item}),
    (Literal[models.Colour.RED], {models.Colour}),
    (Sku, {models.Item}),
    (Car[models.Pair], {Car, Wheel, models.Colour, models.Pair}),
    (PairCar, {PairCar, Wheel, models.Colour, models.Pair}),
    (Parcel[models.Address], {Parcel[models.Address], models.Address}),
    (ColourParcel, {ColourParcel, models.Colour}),
    (Garage, {Car, Wheel, models.Colour, models.Pair, models.Item}),
    (models.Account, {models.Account, models.Address}),
    *((nothing, set[type]()) for nothing in (list[int], models.Money, Any, T, None, "models.Item", msgspec.Struct)),
]


def test_an_annotation_registers_the_classes_that_it_names() -> None:
    for annotation, taught in TAUGHT:
        registry = Codec().registry
        for _ in range(2):
            registry.register_annotation(annotation)
        assert set(registry.by_class) == taught, annotation


def test_a_registered_class_registers_the_classes_of_its_fields() -> None:
    codec = codec_with(Car)
    car = Car[Any]([Wheel(1)], models.Colour.RED)
    assert through(codec, car) == car


def test_a_users_registration_replaces_that_of_an_annotation_and_old_bytes_stay_readable() -> None:
    codec = Codec()
    codec.registry.register_annotation(models.Item)
    before = codec.encode("k", models.Item("a"))
    codec.registry.register(models.Item, name="item", encode=lambda v: v.sku, decode=models.Item)
    assert b"tests.models" not in bytes(codec.encode("k", models.Item("a")))
    assert codec.decode("k", before) == through(codec, models.Item("a")) == models.Item("a")


def test_a_name_that_the_user_gave_to_another_class_is_not_taken_by_an_annotation() -> None:
    codec = Codec()
    codec.registry.register(models.Point, name="tests.models.Item")
    codec.registry.register_annotation(models.Item)
    with pytest.raises(UnregisteredType):
        codec.encode("k", models.Item("a"))


def test_annotations_that_cannot_be_resolved_or_need_encode_and_decode_register_nothing_and_break_nothing() -> None:
    vague: Any = dataclasses.make_dataclass("Vague", [("part", "NoSuchName")])
    codec = Codec()
    codec.registry.register_annotation(vague)
    codec.registry.register_annotation(list[Secretive])
    assert through(codec, vague(1)) == vague(1)
    with pytest.raises(UnregisteredType):
        codec.encode("k", Secretive("a", 1))
