"""No value is accepted that cannot be read back; the error says where it is, and never shows it."""

import asyncio
import collections
import dataclasses
import enum
import functools
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any, ClassVar, NamedTuple

import attrs
import msgspec
import pydantic
import pytest
import sqlmodel
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column
from tests import models
from tests.codec.test_changed_classes import KINDS, NO, make
from tests.numbers import scaled
from tests.values import exact_text, values

from sessioncore import CodecError, ConfigError, SessionConfig, SessionStore, UnregisteredType
from sessioncore.codec._codec import Codec

CANARY = "CaNaRyVaLuE"


def codec_with(*classes: type, flatten: bool = False) -> Codec:
    codec = Codec(flatten=flatten)
    for cls in classes:
        codec.registry.register(cls)
    return codec


def through(codec: Codec, value: Any) -> Any:
    return codec.decode("k", codec.encode("k", value))


# -- refused when it is registered


class Hero(sqlmodel.SQLModel, table=True):
    id: int | None = sqlmodel.Field(default=None, primary_key=True)
    name: str


class Base(MappedAsDataclass, DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row"
    id: Mapped[int] = mapped_column(primary_key=True)


class Upper:
    """A descriptor that stores another value than it is given."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = f"_{name}"

    def __get__(self, value: Any, owner: type) -> Any:
        return getattr(value, self.name, "")

    def __set__(self, value: Any, text: str) -> None:
        setattr(value, self.name, text.upper())


@dataclasses.dataclass
class Described:
    text: Any = Upper()


StructMeta: Any = type(models.Item)
Hiding: Any = StructMeta("Hiding", (models.Item,), {"sku": property(lambda _: CANARY), "__module__": __name__})


@dataclasses.dataclass
class Slotted:
    __slots__ = ("a",)
    a: int
    b: int = dataclasses.field(default=1, init=False)


@dataclasses.dataclass
class Needy:
    a: int = 0

    def __new__(cls, a: int) -> Any:
        return object.__new__(cls)


@attrs.define(slots=False)
class Single:
    a: int = 0
    one: ClassVar[Any] = None

    def __new__(cls, *_: Any) -> Any:
        cls.one = cls.one or object.__new__(cls)
        return cls.one


class NeedyModel(pydantic.BaseModel):
    a: int = 0

    def __new__(cls, a: int) -> Any:
        return super().__new__(cls)


UNFIT: list[tuple[Any, str]] = [
    (Hero(name=CANARY), r"'id' of .*\.Hero .*ORM"), (Row(id=1), r"'id' of .*\.Row .*ORM"),
    (Described(), r"'text' of .*\.Described .*Upper"), (Hiding("a"), r"'sku' of .*\.Hiding .*property"),
    (Slotted(1), r"'b' of .*\.Slotted has no slot"), (Needy(1), "needs arguments"),
    (NeedyModel(a=1), "needs arguments"), (Single(), "makes no new instance"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "reason"), UNFIT, ids=lambda part: type(part).__name__)
def test_a_class_whose_instances_could_not_be_built_from_fields_is_refused_at_once(value: Any, reason: str) -> None:
    codec, cls = Codec(), value.__class__
    with pytest.raises(ConfigError, match=reason):
        codec.registry.register(cls)
    codec.registry.register_annotation(cls)
    with pytest.raises(UnregisteredType, match=cls.__name__):
        codec.encode("k", value)
    codec.registry.register(cls, encode=lambda _: 1, decode=lambda _: value)
    assert through(codec, value) is value


# -- refused when it is committed


class Sku(pydantic.BaseModel):
    code: str
    note: Any = None


class Odd(pydantic.BaseModel):
    a: int = 0

    def __setstate__(self, state: Any) -> None:
        raise KeyError(CANARY)


class Shout(str):
    __slots__ = ()

    def __new__(cls, text: str) -> Any:
        return str.__new__(cls, f"{text}!")


class Tagged(str):
    tag: str | None = None


class Cached(str):
    @functools.cached_property
    def length(self) -> int:
        return len(self)


class Pages(list[int]):
    def __init__(self, count: int) -> None:
        super().__init__(range(count))


def traced(function: Any) -> Any:
    def wrapper(*given: Any) -> None:
        function(*given)

    return wrapper


class Strict(msgspec.Struct):
    """Its `__post_init__` refuses one value; a wrapper keeps the instance out of the traceback's first frame."""

    a: Any

    @traced
    def __post_init__(self) -> None:
        if self.a == CANARY:
            raise ValueError(CANARY)


class Sealed(msgspec.Struct):
    """Like `Strict`, but no traceback leads to the instance."""

    a: Any

    def __post_init__(self) -> None:
        value = self.a
        del self
        if value == CANARY:
            raise ValueError(CANARY)


Unset: Any = attrs.make_class("Unset", {"a": attrs.field(init=False)})


class Float64(float):
    """Like numpy's."""

    def tolist(self) -> float:
        return float(self)


NumpyBool: Any = type("bool", (), {"__module__": "numpy", "tolist": bool})


class Nested(dict[str, Any]):
    """Converts the dicts in its argument to its own class, but not those that are added later."""

    def __init__(self, pairs: Any = ()) -> None:
        super().__init__({key: Nested(part) if type(part) is dict else part for key, part in dict(pairs).items()})


def without(value: Any, name: str) -> Any:
    remove: Any = delattr if isinstance(value, (msgspec.Struct, pydantic.BaseModel)) else object.__delattr__
    remove(value, name)
    return value


def changed(value: Any, **parts: Any) -> Any:
    for name, part in parts.items():
        setattr(value, name, part)
    return value


def late(value: Any) -> Any:
    value["late"] = {"a": 1}
    return value


BUILTINS: list[tuple[Any, Any]] = [
    (int, 3), (complex, 1j), (bytes, b"ab"), (tuple, "ab"), (set, "ab"), (frozenset, "ab"), (Decimal, "1.50"),
    (Fraction, "1/3"), (collections.OrderedDict, {2: 1, 1: 2}), (collections.Counter, "aab"), (collections.deque, "ab"),
]  # fmt: skip
READABLE: list[Any] = [
    Sku.model_construct(code=CANARY), Tagged(CANARY), Nested({"a": {"b": {}}}), Strict(1), Markup("<b>"),
    models.Claims(sub=float("nan")), Float64("nan"), models.Line(), changed(Strict(1), a=CANARY),
    changed(Cached(CANARY), length=len(CANARY)),
    Unset(),
    *(type(f"My{base.__name__}", (base,), {})(value) for base, value in BUILTINS),
]  # fmt: skip
UNREADABLE: list[tuple[Any, str]] = [
    (Sku.model_construct(note=CANARY), r"field 'code' of .*\.Sku is not set"),
    (Sku.model_construct(), r"field 'code' of .*\.Sku is not set"),
    (without(Sku(code=CANARY), "note"), r"field 'note' of .*\.Sku is not set"),
    (without(models.Item(CANARY), "sku"), r"field 'sku' of .*\.Item is not set"),
    (without(models.Point(CANARY), "y"), r"field 'y' of .*\.Point is not set"),
    (without(models.Badge(), "level"), r"field 'level' of .*\.Badge is not set"),
    (changed(Sealed(1), a=CANARY), r"could not be read back \(.*\.Sealed could not be made"),
    (Odd(), r"could not be read back \(.*\.Odd could not be made .*\(KeyError\)"),
    (Shout(CANARY), r"\.Shout would come back as another value"),
    (changed(Tagged("a"), tag=CANARY), r"\.Tagged would come back as another value"),
    (Pages(2), r"could not be read back \(.*\.Pages could not be made"),
    (late(Nested()), r"\.Nested would come back as another value"),
    (type("Last", (collections.deque,), {})("a", 2), r"\.Last would come back as another value"),  # without its maxlen
]  # fmt: skip
PLACES: list[tuple[Callable[[Any], Any], str]] = [
    (lambda v: v, ": "), (lambda v: [0, v], ", item 1: "), (lambda v: {"a": 0, CANARY: (v,)}, ", entry 1, item 0: "),
    (lambda v: {1: v}, ", entry 0: "), (lambda v: collections.deque([0, v]), ", item 1: "),
    (lambda v: collections.defaultdict(list, a=1, b=v), ", entry 1: "),
    (lambda v: collections.OrderedDict[str, Any](a=[v]), ", entry 0, item 0: "),
    (lambda v: models.Pair(0, v), r", field 'right' of tests\.models\.Pair: "),
    (lambda v: models.Item("a", note=[v]), r", field 'note' of tests\.models\.Item, item 0: "),
    (lambda v: models.Account(name="a", anything=v), r", field 'anything' of tests\.models\.Account: "),
    (lambda v: models.Account.model_validate({"name": "a", CANARY: v}), ", the extra attributes of .*, entry 0: "),
    (lambda v: changed(models.Account(name="a"), _secret=v), ", field '_secret' of .*Account: "),
    (lambda v: models.Claims(a=v), ", entry 0: "),
    (lambda v: Wrapped(v), ", what encode= returned of wrapped, item 0: "),  # noqa: PLW0108 - it comes later
]  # fmt: skip


class Wrapped:
    def __init__(self, inner: Any) -> None:
        self.inner = inner


def codec_of_all() -> Codec:
    kinds = [value.__class__ for value in READABLE] + [value.__class__ for value, _ in UNREADABLE]
    codec = codec_with(*{*kinds, *models.SHAPED})
    codec.registry.register(Wrapped, name="wrapped", encode=lambda v: [v.inner], decode=lambda parts: Wrapped(*parts))
    return codec


def test_what_would_not_come_back_is_refused_and_the_way_to_it_named_but_no_value() -> None:
    codec = codec_of_all()
    for wrap, place in PLACES:
        for value, reason in [*UNREADABLE, (object(), r"builtins\.object is not registered")]:
            with pytest.raises(CodecError, match=f"^session key 'k'{place}.*{reason}") as caught:
                codec.encode("k", wrap(value))
            assert CANARY not in str(caught.value)
        for value in READABLE:
            assert exact_text(through(codec, wrap(value))) == exact_text(wrap(value)) or type(wrap(value)) is Wrapped
    keys: list[tuple[Any, str]] = [({object()}, "a member"), ({1: 2, (1, object()): 1}, "the key of entry 1, item 1")]
    for part, place in keys:
        with pytest.raises(UnregisteredType, match=f"^session key 'k', {place}"):
            codec.encode("k", part)


def test_bytes_that_are_only_compared_are_not_read_back() -> None:
    calls: list[Any] = []
    codec = Codec()

    def decode(inner: Any) -> Wrapped:
        calls.append(inner)
        return Wrapped(inner)

    codec.registry.register(Wrapped, encode=lambda v: v.inner, decode=decode)
    value = Wrapped({1})
    assert codec.encode("k", value, checked=False) == codec.encode("k", value)
    assert calls == [{1}]


# -- what to do about a type that is not registered


ADVICE: list[tuple[Any, str]] = [
    (NumpyBool(), r"numpy\.bool is .* what its tolist\(\) returns, or call store\.register_type\(numpy\.bool, encode"),
    (Float64(1), r"Float64 is not registered; store what its tolist"),
    (models.Item("a"), r"call store\.register_type\(tests\.models\.Item\)$"),
    (Markup("a"), r"register_type\(markupsafe\.Markup\), or store a plain str in its place, or set builtin_subclasses"),
    (models.Level.LOW, r"register_type\(tests\.models\.Level\), or store a plain int in its place, or set builtin_"),
    (type("MyCount", (collections.Counter,), {})(), "or store a plain Counter in its place"),
    (models.Money(1, "EUR"), r"Money, encode=\.\.\., decode=\.\.\.\), or store a plain value"),
    (print, "no session can hold one; store a value that can"), (bytearray(), r"can hold one; store bytes\(value\)$"),
    ({}.keys(), r"store list\(value\)$"), (type.__dict__, r"store dict\(value\)$"),
    (Hero(name=CANARY), r"Hero, encode=.*'id' of .*hidden by a descriptor \(InstrumentedAttribute\), as in rows of an"),
]  # fmt: skip


def test_the_advice_fits_the_type() -> None:
    for value, advice in ADVICE:
        with pytest.raises(UnregisteredType, match=advice) as caught:
            Codec().encode("k", value)
        assert CANARY not in str(caught.value)
    coroutine = asyncio.sleep(0)
    with pytest.raises(UnregisteredType, match="`await`"):
        Codec().encode("k", coroutine)
    coroutine.close()


# -- subclasses of built-in types, flattened


class Place(NamedTuple):
    city: str
    zone: Any


class Kind(str, enum.Enum):  # noqa: UP042 - the older spelling, which applications have
    A = "a"


FLAT: list[tuple[Any, Any]] = [
    (Kind.A, "a"), (models.Mode.FAST, "fast"), (models.Level.HIGH, 2), (models.Bit(3), 3), ({Kind.A: 1}, {"a": 1}),
    (Place("b", Kind.A), ("b", "a")), (models.Claims(a=[Markup("x")]), {"a": ["x"]}), (Markup("x"), "x"),
    (Float64(1.5), 1.5), (type("B", (bytes,), {})(b"x"), b"x"), (type("S", (set,), {})([1]), {1}), (Pages(2), [0, 1]),
    (Shout("a"), "a!"), (Nested({"a": {}}), {"a": {}}),
    (type("C", (collections.Counter,), {})("a"), collections.Counter("a")),
]  # fmt: skip


def test_flatten_stores_an_unregistered_subclass_as_its_base_and_nothing_else() -> None:
    codec = codec_with(flatten=True)
    for value, flat in FLAT:
        assert exact_text(through(codec, [value, {1: value}])) == exact_text([flat, {1: flat}])
        with pytest.raises(UnregisteredType):
            Codec().encode("k", value)
    registered = codec_with(models.Claims, Place, Kind, flatten=True)
    for value in (models.Claims(a=1), Place("b", 1), Kind.A):
        assert exact_text(through(registered, value)) == exact_text(value)
    others: list[Any] = [models.Item("a"), type("F", (frozenset,), {})(), type("D", (models.Money,), {})(1, "")]
    for value in others:
        with pytest.raises(UnregisteredType):
            codec.encode("k", value)


# -- generated classes


FLAGS = st.booleans()


@st.composite
def generated(draw: st.DrawFn) -> Any:
    """An instance of a new class of any kind, perhaps with a field that is not set."""
    fields = draw(st.dictionaries(st.sampled_from("abcd"), st.sampled_from([NO, None, 7]), max_size=3))
    kind, frozen = draw(st.sampled_from(KINDS)), draw(FLAGS)
    options: dict[str, Any] = {} if kind == "NamedTuple" else {"frozen": frozen}
    match kind:
        case "dataclass" | "attrs":
            options |= {"kw_only": True, "slots": draw(FLAGS)}
        case "Struct":
            options |= {"kw_only": True, "rename": draw(st.sampled_from([None, "upper"]))}
        case "pydantic":
            options |= {"extra": draw(st.sampled_from(["allow", "ignore"]))}
        case _:
            pass
    made = make(kind, "Made", options, **fields)
    parts = {name: draw(values) for name, default in fields.items() if default is NO or draw(FLAGS)}
    lost = next((name for name in fields if fields[name] is NO), None) if draw(FLAGS) else None
    if kind == "pydantic":
        parts.pop(lost or "", None)
        return made.model_construct(**parts)
    value = made(**parts)
    if lost is not None and kind != "NamedTuple" and not frozen:
        delattr(value, lost)
    return value


@given(generated())
@settings(max_examples=scaled(300))
def test_every_accepted_value_can_be_read_back(value: Any) -> None:
    codec = Codec()
    models.register_all(codec.registry)
    codec.registry.register(value.__class__)
    unset = [name for name in names_of(value) if not hasattr(value, name)]
    if unset:
        with pytest.raises(CodecError, match=rf"item 0: the field '{unset[0]}' of .*\.Made is not set"):
            codec.encode("k", [value])
        return
    encoded = codec.encode("k", [value])
    [again] = codec.decode("k", encoded)
    assert type(again) is type(value)
    assert [exact_text(getattr(again, name, ...)) for name in names_of(value)] == [
        exact_text(getattr(value, name, ...)) for name in names_of(value)
    ]
    assert codec.encode("k", [again]) == encoded


def names_of(value: Any) -> list[str]:
    cls = value.__class__
    found: Any = (
        getattr(cls, "model_fields", None) or getattr(cls, "__struct_fields__", None) or getattr(cls, "_fields", None)
        or getattr(cls, "__dataclass_fields__", None) or [field.name for field in getattr(cls, "__attrs_attrs__", ())]
    )  # fmt: skip
    return [*found]


# -- in a session


@pytest.mark.anyio
async def test_a_value_that_became_unreadable_in_place_is_refused_and_the_record_stays_as_it_was() -> None:
    store = SessionStore()
    for cls in (Sku, Tagged):
        store.register_type(cls)
    sid = (await store.create({"sku": Sku(code="a"), "tag": [Tagged("a")], "n": 1})).id
    spoils: list[tuple[Callable[[Any], object], str]] = [
        (lambda s: s.update(n=2, sku=Sku.model_construct()), "'sku': the field 'code'"),
        (lambda s: without(s["sku"], "code"), "'sku': the field 'code'"),
        (lambda s: s["tag"].append(changed(Tagged("b"), tag=CANARY)), "'tag', item 1: .*Tagged would"),
        (lambda s: s.mutate("sku", functools.partial(without, name="note")), "'sku': the field 'note'"),
        (lambda s: s.bind_owner("ada", n=1, sku=Sku.model_construct()), "'details.sku': the field 'code'"),
    ]  # fmt: skip
    for spoil, reason in spoils:
        with pytest.raises(CodecError, match=reason):
            async with store.open(sid) as session:
                spoil(session)
        assert dict(await store.get_by_id(sid)) == {"sku": Sku(code="a"), "tag": ["a"], "n": 1}


@pytest.mark.anyio
async def test_a_flattening_store_stores_the_base_and_is_not_modified_by_that() -> None:
    store = SessionStore(SessionConfig(builtin_subclasses="flatten"))
    sid = (await store.create({"user": models.Claims({models.Mode.FAST: Kind.A}), "place": Place("b", Markup("x"))})).id
    async with store.open(sid) as session:
        assert exact_text(dict(session)) == exact_text({"user": {"fast": "a"}, "place": ("b", "x")})
        assert not session.modified
