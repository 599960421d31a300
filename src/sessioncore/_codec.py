"""Values to bytes and back, with their types.

MessagePack carries None, bool, int, float, str, bytes, list and dict; everything
else travels as a MessagePack extension, so that decoding is one pass of
msgspec's C code that calls back for extensions only. No pickle, no eval, no
import by name: a stranger's bytes can at worst be refused.
"""

import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from msgspec.msgpack import Ext

from sessioncore._errors import CodecError, CorruptRecord, UnregisteredType
from sessioncore._registry import Registry

__all__ = ["IMMUTABLE", "Codec"]

MAX_DEPTH = 128  # well inside the interpreter's own recursion limit, also when decoding under a deep stack

_TUPLE, _SET, _FROZENSET, _DICT, _INT, _STR, _COMPLEX = range(1, 8)
_DATETIME, _DATE, _TIME, _TIMEDELTA, _UUID, _DECIMAL = range(8, 14)
_REGISTERED = 32

# What msgspec writes natively and gives back as it was. Integers and text are here for speed:
# the few that MessagePack cannot carry raise, and the value is then walked with care.
_PLAIN = frozenset({NoneType, bool, int, float, str, bytes})
_PLAIN_CAREFUL = frozenset({NoneType, bool, float, bytes})
_TEXT = frozenset({str})

# Values of these types cannot change in place, so what was read needs no second look at the commit.
IMMUTABLE = frozenset({NoneType, bool, int, float, str, bytes, complex, datetime, date, time, timedelta, UUID, Decimal})
_BUILTIN = IMMUTABLE | {list, dict, tuple, set, frozenset, object}

Moment = TypeVar("Moment", datetime, time)

_pack = msgspec.msgpack.Encoder().encode


class Codec:
    """Encodes and decodes single values; knows the registered types of one store."""

    __slots__ = ("_careful", "_decode", "_fast", "registry")

    def __init__(self) -> None:
        self.registry = Registry(_BUILTIN)
        self._fast = _Lowering(self.registry, _PLAIN)
        self._careful = _Lowering(self.registry, _PLAIN_CAREFUL)
        raisers = _raisers(self)
        unknown = CorruptRecord("a value of a kind that this version does not know")

        def ext_hook(code: int, data: memoryview) -> Any:
            raiser = raisers.get(code)
            if raiser is None:
                raise unknown.with_traceback(None)
            return raiser(data)

        self._decode = msgspec.msgpack.Decoder(ext_hook=ext_hook).decode

    def encode(self, key: str, value: object) -> msgspec.Raw:
        """Return the bytes of the value under `key`; the key is for the error's text only.

        Raises:
            UnregisteredType: the value, or something in it, is of an unknown type.
            CodecError: it is cyclic or nested deeper than 128, or a registered `encode` failed.
        """
        try:
            try:
                return msgspec.Raw(_pack(self._fast.lower(value, 0)))
            except (OverflowError, UnicodeEncodeError):
                return msgspec.Raw(_pack(self._careful.lower(value, 0)))
        except UnregisteredType as exc:
            raise UnregisteredType(f"session key {key!r}: {exc}") from None
        except CodecError as exc:
            raise CodecError(f"session key {key!r}: {exc}") from exc.__cause__
        except RecursionError:
            raise CodecError(f"session key {key!r}: nested too deep, or cyclic") from None

    def decode(self, key: str, raw: msgspec.Raw) -> Any:
        """Return the value that `raw` holds.

        Raises:
            UnregisteredType: it was written by a process that knows more types.
            CorruptRecord: the bytes are damaged, or no longer fit the registered class.
        """
        try:
            return self._decode(raw)
        except UnregisteredType as exc:
            raise UnregisteredType(f"session key {key!r}: {exc}") from None
        except Exception as exc:  # noqa: BLE001 - whatever damaged bytes provoke, also in a user's decode=, is one thing here
            # No cause is attached: its text may quote the value.
            raise CorruptRecord(f"session key {key!r} cannot be read ({type(exc).__name__})") from None

    def nested(self, data: memoryview | msgspec.Raw) -> Any:
        """Decode the inside of an extension; errors pass as they are."""
        return self._decode(data)


class _Lowering:
    """Turns a value into what msgspec writes without losing its type.

    Types are compared exactly: a subclass would come back as its base.
    """

    __slots__ = ("_plain", "_registry", "_table")

    def __init__(self, registry: Registry, plain: frozenset[type]) -> None:
        self._registry = registry
        self._plain = plain
        self._table: dict[type, Callable[[Any, int], Any]] = {
            list: self._list,
            dict: self._dict,
            tuple: lambda v, d: Ext(_TUPLE, _pack(self._list(v, d))),
            set: lambda v, d: Ext(_SET, self._members(v, d)),
            frozenset: lambda v, d: Ext(_FROZENSET, self._members(v, d)),
            int: lambda v, _: v if -(1 << 63) <= v < 1 << 64 else Ext(_INT, _int_bytes(v)),
            str: lambda v, _: v if v.isascii() else _text(v),
            complex: lambda v, _: Ext(_COMPLEX, struct.pack(">dd", v.real, v.imag)),
            datetime: lambda v, _: Ext(_DATETIME, _moment(v)),
            date: lambda v, _: Ext(_DATE, v.isoformat().encode()),
            time: lambda v, _: Ext(_TIME, _moment(v)),
            timedelta: lambda v, _: Ext(_TIMEDELTA, _pack([v.days, v.seconds, v.microseconds])),
            UUID: lambda v, _: Ext(_UUID, v.bytes),
            Decimal: lambda v, _: Ext(_DECIMAL, str(v).encode()),
        }

    def lower(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind in self._plain:
            return value
        step = self._table.get(kind)
        return self._registered(value, depth) if step is None else step(value, depth)

    def _list(self, value: "list[Any] | tuple[Any, ...]", depth: int) -> Any:
        if self._plain.issuperset(map(type, value)):
            return value
        _check_depth(depth)
        return [self.lower(item, depth + 1) for item in value]

    def _dict(self, value: dict[Any, Any], depth: int) -> Any:
        if _TEXT.issuperset(map(type, value)) and (self._plain is _PLAIN or all(map(_is_utf8, value))):
            if self._plain.issuperset(map(type, value.values())):
                return value
            _check_depth(depth)
            return {key: self.lower(item, depth + 1) for key, item in value.items()}
        _check_depth(depth)
        return Ext(_DICT, _pack([[self.lower(k, depth + 1), self.lower(v, depth + 1)] for k, v in value.items()]))

    def _members(self, value: "set[Any] | frozenset[Any]", depth: int) -> bytes:
        """Sorted by their bytes: the order of a set changes from process to process, its encoding must not."""
        _check_depth(depth)
        return _pack([msgspec.Raw(part) for part in sorted(_pack(self.lower(item, depth + 1)) for item in value)])

    def _registered(self, value: Any, depth: int) -> Ext:
        cls = type(value)
        entry = self._registry.by_class.get(cls)
        if entry is None:
            raise UnregisteredType(
                f"{cls.__module__}.{cls.__qualname__} is not registered; call store.register_type({cls.__name__})"
            )
        _check_depth(depth)
        try:
            parts = entry.encode(value)
        except Exception as exc:
            raise CodecError(f"encode of {entry.name} failed ({type(exc).__name__})") from exc
        return Ext(_REGISTERED, _pack([entry.name, self.lower(parts, depth + 1)]))


def _raisers(codec: Codec) -> dict[int, Callable[[memoryview], Any]]:
    """How each extension becomes a value again."""
    nested, registry = codec.nested, codec.registry

    def registered(data: memoryview) -> Any:
        name, parts = nested(data)
        entry = registry.by_name.get(name)
        if entry is None:
            raise UnregisteredType(f"the type {name!r} is not registered in this process; call store.register_type()")
        return entry.decode(parts)

    return {
        _TUPLE: lambda data: tuple(nested(data)),
        _SET: lambda data: set(nested(data)),
        _FROZENSET: lambda data: frozenset(nested(data)),
        _DICT: lambda data: {key: value for key, value in nested(data)},  # noqa: C416 - each must be a pair
        _INT: lambda data: int.from_bytes(data, "big", signed=True),
        _STR: lambda data: bytes(data).decode("utf-8", "surrogatepass"),
        _COMPLEX: lambda data: complex(*struct.unpack(">dd", data)),
        _DATETIME: lambda data: _unfold(datetime.fromisoformat, data),
        _DATE: lambda data: date.fromisoformat(bytes(data).decode()),
        _TIME: lambda data: _unfold(time.fromisoformat, data),
        _TIMEDELTA: lambda data: timedelta(*nested(data)),
        _UUID: lambda data: UUID(bytes=bytes(data)),
        _DECIMAL: lambda data: Decimal(bytes(data).decode()),
        _REGISTERED: registered,
    }


def _check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise CodecError(f"nested deeper than {MAX_DEPTH}, or cyclic")


def _int_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _is_utf8(text: str) -> bool:
    return text.isascii() or type(_text(text)) is str


def _text(text: str) -> "str | Ext":
    """Text with lone surrogates is legal in Python and illegal in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return Ext(_STR, text.encode("utf-8", "surrogatepass"))
    return text


def _moment(value: "datetime | time") -> bytes:
    """ISO text, and the fold that it cannot express: which of two equal wall-clock times it was."""
    return value.isoformat().encode() + (b"*" if value.fold else b"")


def _unfold(parse: Callable[[str], Moment], data: memoryview) -> Moment:
    text = bytes(data).decode()
    return parse(text[:-1]).replace(fold=1) if text.endswith("*") else parse(text)
