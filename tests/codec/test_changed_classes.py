"""Docs: what happens to stored values when their class changes. Each row of the page's table is a test."""

import collections
import dataclasses
import enum
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import attrs
import msgspec
import pydantic
import pytest

from sessioncore import CorruptRecord, UnregisteredType
from sessioncore.codec._codec import Codec

PAGE = Path(__file__).parents[2] / "docs" / "changing-classes.md"
NO: Final[Any] = object()  # no default


def make(kind: str, cls_name: str = "Line", options: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Make a class of this kind, with fields that have these defaults or none, and with the kind's own options."""
    options = {"kw_only": True} if options is None else options
    given = {name: {} if default is NO else {"default": default} for name, default in fields.items()}
    fields = {name: default for name, default in fields.items() if default is NO} | fields  # required ones come first
    rest = [default for default in fields.values() if default is not NO]
    if kind == "dataclass":
        parts: list[Any] = [(name, Any, dataclasses.field(**more)) for name, more in given.items()]
        return dataclasses.make_dataclass(cls_name, parts, **options)
    if kind == "Struct":
        return msgspec.defstruct(cls_name, [(name, Any, *more.values()) for name, more in given.items()], **options)
    if kind == "attrs":
        return attrs.make_class(cls_name, {name: attrs.field(**more) for name, more in given.items()}, **options)
    new: Any = collections.namedtuple if kind == "NamedTuple" else pydantic.create_model
    if kind == "NamedTuple":
        return new(cls_name, [*fields], defaults=rest)
    config = {name: value for name, value in options.items() if name != "kw_only"}
    return new(cls_name, __config__=config or None, **{n: (Any, ... if d is NO else d) for n, d in fields.items()})


KINDS = ["dataclass", "Struct", "attrs", "NamedTuple", "pydantic"]


def codec_with(cls: type, **options: Any) -> Codec:
    codec = Codec()
    given: dict[str, Any] = {"name": "shop.Line", **options}
    codec.registry.register(cls, **given)
    return codec


def reread(value: Any, cls: Any, **options: Any) -> Any:
    """Store a value with its former class, and read it with today's."""
    return codec_with(cls, **options).decode("k", codec_with(value.__class__).encode("k", value))


def refuses(value: Any, cls: Any, *names: str, error: type[Exception] = CorruptRecord, **options: Any) -> None:
    with pytest.raises(error) as caught:
        reread(value, cls, **options)
    assert all(name in str(caught.value) for name in names), str(caught.value)
    assert "CaNaRy" not in str(caught.value)


def added_with_default() -> None:
    for kind in KINDS:
        cls = make(kind, sku=NO, count=7)
        again = reread(make(kind, sku=NO)(sku="tea"), cls)
        assert type(again) is cls
        assert (again.sku, again.count) == ("tea", 7)


def added_without_default() -> None:
    for kind in KINDS:
        refuses(make(kind, sku=NO)(sku="CaNaRy"), make(kind, sku=NO, count=NO), ".Line ", "'count'")


def removed() -> None:
    for kind in KINDS:
        again = reread(make(kind, sku=NO, count=1)(sku="tea"), make(kind, sku=NO))
        assert again == type(again)(sku="tea")
        assert not hasattr(again, "count") or kind == "NamedTuple"  # tuples have a method of this name


def renamed() -> None:
    for kind in KINDS:
        old = make(kind, sku=NO, price=NO)(sku="tea", price=5)
        assert reread(old, make(kind, sku=NO, cost=None)).cost is None
        refuses(old, make(kind, sku=NO, cost=NO), "'cost'")


def retyped() -> None:
    class Strict(pydantic.BaseModel):
        price: str

        @pydantic.field_validator("price")
        @classmethod
        def check(cls, value: str) -> str:
            raise ValueError(value)

    @dataclasses.dataclass
    class Parsed:
        price: str

        def __post_init__(self) -> None:
            self.price = f"{self.price}!"

    for kind in KINDS:
        for cls in (Strict, Parsed, make(kind, price=NO)):
            assert reread(make(kind, price=NO)(price=5), cls).price == 5


def default_changed() -> None:
    for kind in KINDS:
        assert reread(make(kind, n=1)(), make(kind, n=2)).n == 1


def reordered() -> None:
    for kind in KINDS:
        again = reread(make(kind, a=NO, b=NO)(a=1, b=2), make(kind, b=NO, a=NO))
        assert (again.a, again.b) == (1, 2)


def decorated() -> None:
    frozen: Any = dataclasses.make_dataclass("Line", ["sku"], frozen=True, slots=True)
    assert reread(make("dataclass", sku=NO)(sku=1), frozen) == frozen(1)
    assert reread(frozen(1), make("dataclass", sku=NO)).sku == 1


def moved() -> None:
    for kind in KINDS:
        cls = make(kind, sku=NO)
        assert reread(cls(sku=1), cls, name="basket.Line", aliases=["shop.Line"]) == cls(sku=1)
        assert b"shop" not in bytes(codec_with(cls, name="basket.Line", aliases=["shop.Line"]).encode("k", cls(sku=1)))
        refuses(cls(sku=1), cls, "'shop.Line'", error=UnregisteredType, name="basket.Line")


def started_as_a_program() -> None:
    old, new = make("dataclass", sku=NO), make("dataclass", sku=NO)
    stored = codec_with(old, name="__main__.Line").encode("k", old(sku=1))
    with pytest.raises(UnregisteredType, match=r"'__main__\.Line' is not .* run as a program: pass name= .*aliases="):
        codec_with(new).decode("k", stored)
    refuses(old(sku=1), new, "run as a program", error=UnregisteredType, name="__main__.Line")
    assert codec_with(new, aliases=["__main__.Line"]).decode("k", stored) == new(sku=1)


def class_renamed() -> None:
    new = make("Struct", "Position", sku=NO)
    old = make("Struct", sku=NO)(sku=1)
    assert reread(old, new) == new(sku=1)
    assert reread(old, new, name="shop.Position", aliases=["shop.Line"]) == new(sku=1)
    refuses(old, new, "'shop.Line'", error=UnregisteredType, name="shop.Position")


def deleted() -> None:
    assert Codec().decode("k", codec_with(make("attrs", sku=NO)).encode("k", [1])) == [1]
    refuses(make("attrs", sku=NO)(sku=1), make("attrs", sku=NO), error=UnregisteredType, name="another")


def of_another_kind() -> None:
    for before in KINDS:
        for after in KINDS:
            cls = make(after, sku=NO, count=7)
            assert reread(make(before, sku=NO, lost=1)(sku="tea"), cls) == cls(sku="tea", count=7)


class Colour(enum.Enum):
    RED = "CaNaRy"
    BLUE = 2


class Words(str):
    __slots__ = ()


class Numbers(list[int]):
    pass


def of_no_fields() -> None:
    for kind in KINDS:
        value = make(kind, sku=NO)(sku="CaNaRy")
        refuses(value, Colour, "Colour lacks the member")
        refuses(value, Words, "Words is a str")
        refuses(Colour.RED, type(value), "Line has fields")


def members_added() -> None:
    class Today(enum.StrEnum):
        GREEN = "g"
        RED = "r"

    assert reread(Colour.RED, Today) is Today.RED


def members_lost() -> None:
    refuses(Colour.RED, enum.Enum("Colour", ["BLUE", "ROUGE"]), "Colour lacks the member")


def renumbered() -> None:
    flag: Any = enum.Flag
    old = flag("Right", {"READ": 1, "WRITE": 4})
    for boundary in (enum.STRICT, enum.CONFORM):  # Flag's default, from Python 3.11.4 on and before
        new = flag("Right", {"WRITE": 1, "READ": 2}, boundary=boundary)
        assert reread(old.READ, new) is new.WRITE
        refuses(old.WRITE, new, "Right lacks flags")


def other_base() -> None:
    refuses(Words("CaNaRy"), Numbers, "Numbers is a list")
    refuses(Numbers([1]), Words, "Words is a str")


class Line:
    def __init__(self, fields: Any) -> None:
        self.fields = fields


def functions_given() -> None:
    functions: dict[str, Any] = {"encode": vars, "decode": Line}
    for kind in KINDS[:-1]:
        assert reread(make(kind, sku=NO)(sku="tea"), Line, **functions).fields == {"sku": "tea"}
    assert reread(Colour.RED, Line, **functions).fields == "RED"


def decode_changed() -> None:
    def decode(parts: Any) -> Any:
        return parts["none"]

    refuses(make("Struct", sku=NO)(sku="CaNaRy"), Line, "shop.Line", encode=vars, decode=decode)


CHANGES: list[tuple[str, Callable[[], None]]] = [
    ("a field is added, with a default", added_with_default),
    ("a field is added, without a default", added_without_default),
    ("a field is removed", removed),
    ("a field is renamed", renamed),
    ("the type of a field is changed", retyped),
    ("a default is changed", default_changed),
    ("fields are reordered", reordered),
    ("methods, validators, `frozen` or `slots` are changed", decorated),
    ("the class is moved to another module", moved),
    ("its file is started as a program: `python shop.py` instead of `uvicorn shop:app`", started_as_a_program),
    ("the class is renamed", class_renamed),
    ("the class is deleted, or no longer registered", deleted),
    ("the class is replaced by one of another kind", of_another_kind),
    ("the class is replaced by an enum, or by a subclass of a built-in type", of_no_fields),
    ("an enum gains a member, or the value of one is changed", members_added),
    ("an enum loses or renames a member", members_lost),
    ("a flag is renumbered", renumbered),
    ("a subclass of a built-in type gets another base", other_base),
    ("`encode=` and `decode=` are given to a class that had none", functions_given),
    ("`decode=` no longer takes what the old `encode=` returned", decode_changed),
]


@pytest.mark.parametrize(("change", "check"), CHANGES, ids=[check.__name__ for _, check in CHANGES])
def test_a_changed_class_does_to_stored_values_what_the_page_says(change: str, check: Callable[[], None]) -> None:
    check()


def test_the_page_has_these_changes() -> None:
    rows = [line[2:].split(" | ")[0] for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    assert rows[1:] == [change for change, _ in CHANGES]


def test_a_field_that_was_added_has_what_its_factory_makes() -> None:
    doubled: Any = attrs.Factory(lambda line: [line.sku * 2], takes_self=True)
    classes: list[Any] = [
        dataclasses.make_dataclass("Line", ["sku", ("more", Any, dataclasses.field(default_factory=lambda: [6]))]),
        msgspec.defstruct("Line", ["sku", ("more", Any, msgspec.field(default_factory=lambda: [6]))]),
        attrs.make_class("Line", {"sku": attrs.field(), "more": attrs.field(default=doubled)}),
    ]
    for cls in classes:
        one, two = [reread(make("dataclass", sku=NO)(sku=3), cls) for _ in range(2)]
        assert (one, one.more) == (cls(3), [6])
        assert one.more is not two.more
