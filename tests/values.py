"""Values of every kind that a session can hold: strategies that make them, and an exact comparison."""

import dataclasses
import enum
import ipaddress
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable
from datetime import datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
from hypothesis import strategies as st
from tests import models

__all__ = ["exact_text", "values"]


def exact_text(value: Any) -> str:
    """Return a text that is the same for two values if they are equal and all parts are of the same types."""
    return _describe(value, type(value))


def _describe(value: Any, cls: Any) -> str:
    return f"{cls.__module__}.{cls.__qualname__}({_inside(value, cls)})"


def _inside(value: Any, cls: Any) -> str:
    if isinstance(value, enum.Enum):
        return f"{value.name} {value.value!r}"
    for kinds, write in _WRITERS:
        if isinstance(value, kinds):
            return write(value)
    if dataclasses.is_dataclass(cls):
        return _fields(value, [field.name for field in dataclasses.fields(cls)])
    if attrs.has(cls):
        return _fields(value, [field.name for field in attrs.fields(cls)])
    return _fields(value, value.__dict__) if isinstance(value, models.Money) else repr(value)


def _fields(value: Any, names: Iterable[str]) -> str:
    return ", ".join(f"{name}={exact_text(getattr(value, name, ...))}" for name in names)


_WRITERS: tuple[tuple[Any, Callable[[Any], str]], ...] = (
    (float, lambda v: struct.pack(">d", v).hex()),
    (complex, lambda v: struct.pack(">dd", v.real, v.imag).hex()),
    ((datetime, time), lambda v: f"{v.isoformat()} {v.fold} {v.utcoffset()} {getattr(v.tzinfo, 'key', None)}"),
    (ZoneInfo, lambda v: v.key),
    (deque, lambda v: f"{v.maxlen} {exact_text([*v])}"),
    (defaultdict, lambda v: f"{v.default_factory} {exact_text(dict(v))}"),
    (Decimal, lambda v: repr(v.as_tuple())),
    ((list, tuple), lambda v: ", ".join(map(exact_text, v))),
    ((set, frozenset), lambda v: ", ".join(sorted(map(exact_text, v)))),
    (dict, lambda v: ", ".join(f"{exact_text(k)}: {exact_text(x)}" for k, x in v.items())),
    (msgspec.Struct, lambda v: _fields(v, v.__struct_fields__)),
    (pydantic.BaseModel, lambda v: f"{_fields(v, v.__dict__)}{sorted(v.model_fields_set)}{exact_text(v.model_extra)}"),
    ((bool, int, str, bytes, timedelta), repr),
)

_offsets = st.timedeltas(min_value=timedelta(hours=-23, minutes=-59), max_value=timedelta(hours=23, minutes=59))
_zones = st.none() | _offsets.map(timezone) | st.sampled_from(["Europe/Berlin", "America/Caracas", "UTC"]).map(ZoneInfo)
_folds = st.sampled_from([0, 1])
_texts = st.text(alphabet=st.characters(exclude_categories=()), max_size=12)  # lone surrogates included


def _placed(moment: Any, zone: tzinfo | None, fold: int) -> Any:
    return moment.replace(tzinfo=zone, fold=fold)


_hosts = st.ip_addresses() | st.just(ipaddress.IPv6Address("fe80::1%eth0"))
_paths = st.lists(st.text(alphabet="ab .:/\\\udc80", max_size=4), max_size=3)


_enums: st.SearchStrategy[Any] = st.sampled_from(
    [models.Colour.RED, models.Colour.GREEN, models.Level.HIGH, models.Mode.FAST, models.Right(3), models.Bit(6)]
)

leaves: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(min_value=-(1 << 200), max_value=1 << 200), st.floats(),
    _texts, st.binary(max_size=12), st.complex_numbers(), st.builds(_placed, st.datetimes(), _zones, _folds),
    st.dates(), st.builds(_placed, st.times(), _zones, _folds), st.timedeltas(), st.uuids(),
    st.decimals(allow_nan=False),
    st.sampled_from([Decimal("-0"), Decimal("1E+9999"), Decimal("-Infinity"), Decimal("NaN12"), Decimal("1.10")]),
    st.just(msgspec.UNSET), st.fractions(), st.sampled_from(["Europe/Berlin", "Etc/GMT+1"]).map(ZoneInfo),
    _paths.map(lambda parts: PurePosixPath(*parts)), _paths.map(lambda parts: Path(*parts)),
    _paths.map(lambda parts: PureWindowsPath(*parts)).filter(lambda path: PureWindowsPath(str(path)) == path), _hosts,
    st.ip_addresses().map(ipaddress.ip_network), st.ip_addresses().map(ipaddress.ip_interface),
    st.sampled_from([ipaddress.ip_interface("10.0.0.1/8"), ipaddress.ip_interface("fe80::1%eth0/64")]), _enums,
)  # fmt: skip


def _hashable_layers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(models.Frozen, inner),
        st.builds(models.Point, inner, inner),
        st.builds(models.Pair, inner, inner),
        st.builds(models.Money, st.integers(), _texts),
    )


hashables: st.SearchStrategy[Any] = st.recursive(leaves, _hashable_layers, max_leaves=4)


def _layers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.sets(hashables, max_size=3),
        st.dictionaries(_texts, inner, max_size=3),
        st.dictionaries(hashables, inner, max_size=3),
        st.lists(st.tuples(hashables, inner), max_size=3).map(OrderedDict),
        st.dictionaries(hashables, inner, max_size=3).map(lambda pairs: defaultdict[Any, Any](list, pairs)),
        st.dictionaries(hashables, st.integers(-1, 3), max_size=3).map(Counter),
        st.builds(deque[Any], st.lists(inner, max_size=3), st.none() | st.integers(3, 5)),
        st.builds(models.Markup, _texts),
        st.builds(models.Claims, st.dictionaries(_texts, inner, max_size=3)),
        st.builds(models.Item, st.text(max_size=3), st.integers(), inner),
        st.builds(models.Renamed, unit_price=st.decimals(allow_nan=False)),
        st.builds(models.Normalised, st.text(max_size=3)),
        st.builds(models.Box[Any], inner),
        st.builds(models.Line),
        st.builds(models.Parsed, st.text(max_size=4)),
        st.builds(models.HandMade, st.integers()),
        st.builds(models.Tags, st.text(max_size=4)),
        st.builds(models.Badge, rank=st.integers(), extra=inner),
        st.builds(models.Account, name=st.text(max_size=3), anything=inner),
        inner.map(lambda part: models.Account.model_validate({"name": "a", "more": part})),
    )


values: st.SearchStrategy[Any] = st.recursive(leaves | st.just(Decimal("-sNaN7")), _layers, max_leaves=8)
