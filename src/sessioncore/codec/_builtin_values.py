"""The built-in types of values, in tables: what each consists of, and how it is built again.

A leaf becomes bytes, a composite a list of values; both are MessagePack extensions, told apart
by their code. A code is never used for anything else again, because records outlive releases.
"""

import ipaddress
import pathlib
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from operator import index
from types import NoneType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import UNSET, Struct, UnsetType

from sessioncore._errors import UnregisteredType
from sessioncore.codec._refusals import Label, Refused, item, key_or_value, member
from sessioncore.codec._times import (
    date_from_bytes,
    datetime_from_bytes,
    time_from_bytes,
    time_to_bytes,
    zone_from_key,
    zone_key,
)

__all__ = [
    "BUILTIN", "COMPOSITES", "FLATTENED", "IMMUTABLE", "LEAVES", "PLAIN_COPIES", "REGISTERED", "Composite", "Leaf",
    "keys_and_values", "pairs", "text_from_bytes",
]  # fmt: skip

REGISTERED = 32  # the code of registered types; those of built-in types are in the tables below


class Leaf(Struct, frozen=True):
    """A type whose values are stored as bytes."""

    code: int
    to_bytes: Callable[[Any], bytes]
    from_bytes: Callable[[memoryview], Any]


class Composite(Struct, frozen=True):
    """A type whose values are stored as a list of other values."""

    code: int
    take_apart: Callable[[Any], list[Any]]
    build: Callable[[list[Any]], Any]
    label: Label


_COMPLEX = struct.Struct(">dd")
_TIMEDELTA = struct.Struct(">iii")


# -- collections


def keys_and_values(value: dict[Any, Any]) -> list[Any]:
    """Return the keys and values of a dict in turn."""
    return [part for pair in value.items() for part in pair]


def pairs(parts: list[Any]) -> "zip[tuple[Any, Any]]":
    """Return the pairs of keys and values in what `keys_and_values` has returned."""
    return zip(parts[::2], parts[1::2], strict=True)


_FACTORIES: dict[str, Callable[[], Any]] = {
    cls.__name__: cls
    for cls in (
        bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, timedelta, Decimal, Fraction,
        OrderedDict, defaultdict, Counter, deque,
    )
}  # fmt: skip


def _take_apart_defaultdict(value: "defaultdict[Any, Any]") -> list[Any]:
    factory = value.default_factory
    name = None if factory is None else getattr(factory, "__name__", "")
    if name is not None and _FACTORIES.get(name) is not factory:
        raise Refused(
            "a defaultdict whose default_factory is no built-in type cannot be found again; use one such as list or "
            "int, or store dict(value)",
            UnregisteredType,
        )
    return [name, None, *keys_and_values(value)]  # None: keys and values stay at even and odd positions


def _build_defaultdict(parts: list[Any]) -> "defaultdict[Any, Any]":
    factory = None if parts[0] is None else _FACTORIES[parts[0]]
    return defaultdict(factory, pairs(parts[2:]))


def _build_fraction(parts: list[Any]) -> Fraction:
    numerator, denominator = map(index, parts)  # the text "1e999999999" would become a number that fills the memory
    return Fraction(numerator, denominator)


# -- integers and text


def _int_to_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _text_to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def text_from_bytes(data: memoryview) -> str:
    """Read text that may hold lone surrogates, which Python allows and UTF-8 does not."""
    return bytes(data).decode("utf-8", "surrogatepass")


def _text_leaf(code: int, cls: Callable[[str], Any]) -> Leaf:
    """Return the leaf of a class that is stored as text; paths and IPv6 scopes may hold lone surrogates."""
    return Leaf(code, lambda value: _text_to_bytes(str(value)), lambda data: cls(text_from_bytes(data)))


def _windows_path_to_bytes(value: pathlib.PureWindowsPath) -> bytes:
    text = str(value)
    if type(value)(text) != value:  # ".\\c:x" before Python 3.12
        raise Refused("a Windows path that reads differently as text; make it without a leading '.'")
    return _text_to_bytes(text)


# -- the tables

LEAVES: dict[type, Leaf] = {
    # Integers and text are stored like this only if MessagePack's own cannot hold them.
    int: Leaf(5, _int_to_bytes, lambda data: int.from_bytes(data, "big", signed=True)),
    str: Leaf(6, _text_to_bytes, text_from_bytes),
    complex: Leaf(7, lambda v: _COMPLEX.pack(v.real, v.imag), lambda data: complex(*_COMPLEX.unpack(data))),
    datetime: Leaf(8, time_to_bytes, datetime_from_bytes),
    date: Leaf(9, lambda v: v.isoformat().encode(), date_from_bytes),
    time: Leaf(10, time_to_bytes, time_from_bytes),
    timedelta: Leaf(
        11,
        lambda v: _TIMEDELTA.pack(v.days, v.seconds, v.microseconds),
        lambda data: timedelta(*_TIMEDELTA.unpack(data)),
    ),
    UUID: Leaf(12, lambda v: v.bytes, lambda data: UUID(bytes=bytes(data))),
    Decimal: Leaf(13, lambda v: str(v).encode(), lambda data: Decimal(bytes(data).decode("ascii"))),
    UnsetType: Leaf(14, lambda _: b"", lambda _: UNSET),
    ZoneInfo: Leaf(20, lambda v: zone_key(v).encode(), lambda data: zone_from_key(bytes(data).decode("ascii"))),
    pathlib.PurePosixPath: _text_leaf(21, pathlib.PurePosixPath),
    pathlib.PosixPath: _text_leaf(22, pathlib.PosixPath),
    pathlib.PureWindowsPath: Leaf(23, _windows_path_to_bytes, _text_leaf(23, pathlib.PureWindowsPath).from_bytes),
    pathlib.WindowsPath: Leaf(24, _windows_path_to_bytes, _text_leaf(24, pathlib.WindowsPath).from_bytes),
    ipaddress.IPv4Address: _text_leaf(25, ipaddress.IPv4Address),
    ipaddress.IPv6Address: _text_leaf(26, ipaddress.IPv6Address),
    ipaddress.IPv4Network: _text_leaf(27, ipaddress.IPv4Network),
    ipaddress.IPv6Network: _text_leaf(28, ipaddress.IPv6Network),
    ipaddress.IPv4Interface: _text_leaf(29, ipaddress.IPv4Interface),
    ipaddress.IPv6Interface: _text_leaf(30, ipaddress.IPv6Interface),
}

COMPOSITES: dict[type, Composite] = {
    tuple: Composite(1, list, tuple, item),
    set: Composite(2, list, set, member),
    frozenset: Composite(3, list, frozenset, member),
    dict: Composite(4, keys_and_values, lambda parts: dict(pairs(parts)), key_or_value),  # if a key is not plain text
    Fraction: Composite(15, lambda v: [v.numerator, v.denominator], _build_fraction, item),
    OrderedDict: Composite(16, keys_and_values, lambda parts: OrderedDict[Any, Any](pairs(parts)), key_or_value),
    defaultdict: Composite(17, _take_apart_defaultdict, _build_defaultdict, lambda number: key_or_value(number - 2)),
    Counter: Composite(18, keys_and_values, lambda parts: Counter[Any](dict(pairs(parts))), key_or_value),
    deque: Composite(
        19, lambda v: [v.maxlen, *v], lambda parts: deque(parts[1:], parts[0]), lambda number: item(number - 1)
    ),
}

# Values of these types cannot change in place, so the commit need not compare the ones that were read.
IMMUTABLE: frozenset[type] = frozenset({NoneType, bool, float, bytes, Fraction, *LEAVES})
BUILTIN: frozenset[type] = frozenset({*IMMUTABLE, *COMPOSITES, list, pathlib.Path, pathlib.PurePath})


def _items_of(base: Any) -> Callable[[Any], Any]:
    return lambda value: base(base.__iter__(value))


def _pairs_of(base: Any) -> Callable[[Any], Any]:
    return lambda value: base(base.items(value))


# How an instance of a subclass becomes one of the type itself, whatever methods the subclass overrides.
PLAIN_COPIES: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    complex: complex.__complex__,
    str: str.__str__,
    bytes: lambda v: bytes(memoryview(v)),
    list: _items_of(list),
    tuple: _items_of(tuple),
    dict: _pairs_of(dict),
    set: _items_of(set),
    frozenset: _items_of(frozenset),
    Decimal: Decimal,
    Fraction: lambda v: Fraction(v.numerator, v.denominator),
    OrderedDict: _pairs_of(OrderedDict),
    Counter: lambda v: Counter[Any](PLAIN_COPIES[dict](v)),
    deque: lambda v: deque[Any](_items_of(deque)(v), v.maxlen),
}
FLATTENED = (dict, list, tuple, set, str, bytes, int, float)  # the types to which builtin_subclasses="flatten" applies
