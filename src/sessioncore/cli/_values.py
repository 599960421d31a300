"""Stored values as strict JSON, decoded without the program that stored them: nothing is imported or built.

A value that JSON cannot express becomes an object with a `type` and a `value`. For a registered type these are its
registered name and the stored fields.
"""

from base64 import b64encode
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from datetime import datetime, time, timedelta
from fractions import Fraction
from math import isfinite
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Raw, Struct, UnsetType
from msgspec.msgpack import Decoder

from sessioncore.codec._builtin_values import COMPOSITES, LEAVES, REGISTERED, pairs, text_from_bytes

__all__ = ["json_value"]

_LARGEST_INT = 14_000  # bits; Python writes no larger ones in decimal, since that takes long


class _Tagged(Struct, frozen=True):
    """A value that JSON cannot express."""

    type: str
    value: Any


def json_value(raw: Raw) -> Any:
    """Return what `raw` holds, as values that JSON has."""
    try:
        return _to_json(_decode(raw))
    except Exception:  # noqa: BLE001 - damaged bytes can raise anything
        return {"type": "unreadable", "value": None}


def _pairs(parts: list[Any]) -> list[list[Any]]:
    return [list(pair) for pair in pairs(parts)]


def _moment(kind: type) -> Callable[[memoryview], str]:
    def read(data: memoryview) -> str:
        value = LEAVES[kind].from_bytes(data)
        zone = value.tzinfo
        suffix = f"[{zone.key}]" if isinstance(zone, ZoneInfo) else ""
        return f"{value.isoformat()}{suffix}"

    return read


# What is not listed is stored as text.
_LEAVES: dict[type, Callable[[memoryview], Any]] = {
    complex: lambda data: str(LEAVES[complex].from_bytes(data)),
    datetime: _moment(datetime),
    time: _moment(time),
    timedelta: lambda data: LEAVES[timedelta].from_bytes(data).total_seconds(),
    UUID: lambda data: str(LEAVES[UUID].from_bytes(data)),
    UnsetType: lambda _: None,
}
_COMPOSITES: dict[type, Callable[[list[Any]], Any]] = {
    dict: _pairs,
    OrderedDict: _pairs,
    Counter: _pairs,
    Fraction: lambda parts: f"{parts[0]}/{parts[1]}",
    defaultdict: lambda parts: {"default_factory": parts[0], "items": _pairs(parts[2:])},
    deque: lambda parts: {"maxlen": parts[0], "items": parts[1:]},
}
_LEAF_TYPES: dict[int, type] = {leaf.code: kind for kind, leaf in LEAVES.items()}
_COMPOSITE_TYPES: dict[int, type] = {composite.code: kind for kind, composite in COMPOSITES.items()}


def _read(code: int, data: memoryview) -> Any:
    if code == REGISTERED:
        return _Tagged(*_decode_registered(data))
    if (kind := _COMPOSITE_TYPES.get(code)) is not None:
        parts = _decode_list(data)
        return _Tagged(kind.__name__, _COMPOSITES.get(kind, list)(parts))
    if (kind := _LEAF_TYPES.get(code)) in {int, str}:
        return LEAVES[kind].from_bytes(data)
    if kind is not None:
        return _Tagged(kind.__name__, _LEAVES.get(kind, text_from_bytes)(data))
    return _Tagged(f"unknown ({code})", bytes(data))


_decode = Decoder(ext_hook=_read).decode
_decode_list = Decoder(list[Any], ext_hook=_read).decode
_decode_registered = Decoder(tuple[str, Any], ext_hook=_read).decode


def _to_json(value: Any) -> Any:
    match value:
        case None | bool() | str():
            return value
        case int() if value.bit_length() <= _LARGEST_INT:
            return value
        case int():
            return {"type": "int", "value": hex(value)}
        case float():
            return value if isfinite(value) else {"type": "float", "value": str(value)}
        case list():
            return list(map(_to_json, value))  # pyright: ignore[reportUnknownArgumentType]
        case _Tagged():
            return {"type": value.type, "value": _to_json(value.value)}
        case bytes():
            return {"type": "bytes", "value": b64encode(value).decode()}
        case dict():
            return _dict_to_json(value)  # pyright: ignore[reportUnknownArgumentType]
        case _:  # a time in MessagePack's own form, which this library does not write
            return {"type": type(value).__name__, "value": str(value)}


def _dict_to_json(value: dict[Any, Any]) -> Any:
    """Return an object; or pairs, if keys are not text or the object would look like a value with its type."""
    if value.keys() != {"type", "value"} and all(isinstance(key, str) for key in value):
        return {key: _to_json(part) for key, part in value.items()}
    return {"type": "dict", "value": [[_to_json(key), _to_json(part)] for key, part in value.items()]}
