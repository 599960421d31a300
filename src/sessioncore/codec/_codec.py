"""Values to bytes and back, with their types.

MessagePack carries None, bool, int, float, str, bytes, list and dict; everything
else travels as a MessagePack extension, so that decoding is one pass of
msgspec's C code that calls back for extensions only. No pickle, no eval, no
import by name: a stranger's bytes can at worst be refused.
"""

import struct
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from types import NoneType
from typing import Any, TypeVar
from uuid import UUID

from msgspec import UNSET, Raw, UnsetType
from msgspec.msgpack import Decoder, Encoder, Ext

from sessioncore._errors import CodecError, CorruptRecord, UnregisteredType
from sessioncore.codec._registry import MAX_NAME, Registry

__all__ = ["IMMUTABLE", "Codec"]

# Encoding and decoding take at most 4 frames for each level: half of the interpreter's
# default recursion limit is left to the handler that reads.
MAX_DEPTH = 128

_TUPLE, _SET, _FROZENSET, _DICT, _INT, _STR, _COMPLEX = range(1, 8)
_DATETIME, _DATE, _TIME, _TIMEDELTA, _UUID, _DECIMAL, _UNSET = range(8, 15)
_REGISTERED = 32

# What msgspec writes natively and gives back as it was. Integers and text are here for speed:
# the few that MessagePack cannot carry raise, and the value is then walked with care.
_PLAIN = frozenset({NoneType, bool, int, float, str, bytes})
_PLAIN_CAREFUL = frozenset({NoneType, bool, float, bytes})
_TEXT = frozenset({str})

# Values of these types cannot change in place, so what was read needs no second look at the commit.
IMMUTABLE = _PLAIN | {complex, datetime, date, time, timedelta, UUID, Decimal, UnsetType}
_BUILTIN = IMMUTABLE | {list, dict, tuple, set, frozenset, object}

_Moment = TypeVar("_Moment", datetime, time)

_pack = Encoder().encode
_FLOATS = struct.Struct(">dd")
_SPAN = struct.Struct(">iii")
_MICROSECOND = timedelta(microseconds=1)


class Codec:
    """Encodes and decodes single values; knows the registered types of one store."""

    __slots__ = ("_careful", "_decode", "_fast", "registry")

    def __init__(self) -> None:
        self.registry: Registry = Registry(_BUILTIN)
        self._fast = _Encoder(self.registry, _PLAIN)
        self._careful = _Encoder(self.registry, _PLAIN_CAREFUL)
        self._decode = _decoder(self.registry)

    def encode(self, key: str, value: object) -> Raw:
        """Return the bytes of the value under `key`; the key is for the error's text only.

        Raises:
            UnregisteredType: the value, or something in it, is of an unknown type.
            CodecError: it is cyclic or nested deeper than 128, or a registered `encode` failed.
        """
        try:
            try:
                return Raw(_pack(self._fast.to_wire(value, 0)))
            except (OverflowError, UnicodeEncodeError):
                return Raw(_pack(self._careful.to_wire(value, 0)))
        except UnregisteredType as exc:
            raise UnregisteredType(f"session key {key!r}: {exc}") from None
        except CodecError as exc:
            raise CodecError(f"session key {key!r}: {exc}") from exc.__cause__
        except RecursionError:
            raise CodecError(f"session key {key!r}: nested too deep, or cyclic") from None
        except Exception as exc:  # such as a tzinfo of the user's that raises
            raise CodecError(f"session key {key!r} cannot be encoded ({type(exc).__name__})") from exc

    def decode(self, key: str, raw: Raw) -> Any:
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


class _Encoder:
    """Turns a value into what msgspec writes without losing its type.

    Types are compared exactly: a subclass would come back as its base.
    """

    __slots__ = ("_plain", "_registry", "_table")

    def __init__(self, registry: Registry, plain: frozenset[type]) -> None:
        self._registry = registry
        self._plain = plain
        self._table: dict[type, Callable[[Any, int], Any]] = {
            **_LEAVES,
            list: self._list,
            dict: self._dict,
            tuple: lambda v, d: Ext(_TUPLE, _pack(self._list(v, d))),
            set: lambda v, d: Ext(_SET, self._members(v, d)),
            frozenset: lambda v, d: Ext(_FROZENSET, self._members(v, d)),
        }

    def to_wire(self, value: object, depth: int) -> Any:
        kind = type(value)
        if kind in self._plain:
            return value
        step = self._table.get(kind)
        return self._registered(value, depth) if step is None else step(value, depth)

    def _list(self, value: "list[Any] | tuple[Any, ...]", depth: int) -> Any:
        if self._plain.issuperset(map(type, value)):
            return value
        _check_depth(depth)
        return [self.to_wire(item, depth + 1) for item in value]

    def _dict(self, value: dict[Any, Any], depth: int) -> Any:
        if _TEXT.issuperset(map(type, value)) and (self._plain is _PLAIN or all(map(_is_utf8, value))):
            if self._plain.issuperset(map(type, value.values())):
                return value
            _check_depth(depth)
            return {key: self.to_wire(item, depth + 1) for key, item in value.items()}
        _check_depth(depth)
        return Ext(_DICT, _pack([self.to_wire(part, depth + 1) for pair in value.items() for part in pair]))

    def _members(self, value: Iterable[Any], depth: int) -> bytes:
        """Sorted by their bytes: the order of a set changes from process to process, its encoding must not."""
        _check_depth(depth)
        return _pack([Raw(part) for part in sorted([_pack(self.to_wire(item, depth + 1)) for item in value])])

    def _registered(self, value: object, depth: int) -> Ext:
        cls = type(value)
        entry = self._registry.by_class.get(cls)
        if entry is None:
            raise UnregisteredType(
                f"{cls.__module__}.{cls.__qualname__} is not registered; call store.register_type({cls.__name__}), "
                "with encode= and decode= if it is not a dataclass, Struct, Enum or the like"
            )
        _check_depth(depth)
        try:
            parts = entry.encode(value)
        except Exception as exc:
            raise CodecError(f"encode of {entry.name} failed ({type(exc).__name__})") from exc
        return Ext(_REGISTERED, _pack([entry.name, self.to_wire(parts, depth + 1)]))


def _check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise CodecError(f"nested deeper than {MAX_DEPTH}, or cyclic")


def _is_utf8(text: str) -> bool:
    return text.isascii() or type(_text(text, 0)) is str


def _text(text: str, _: int) -> "str | Ext":
    """Text with lone surrogates is legal in Python and illegal in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return Ext(_STR, text.encode("utf-8", "surrogatepass"))
    return text


def _int(value: int, _: int) -> "int | Ext":
    if -(1 << 63) <= value < 1 << 64:
        return value
    return Ext(_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _format_datetime(value: "datetime | time") -> bytes:
    """ISO text of the wall clock; a star for the second of two equal times; the offset in microseconds.

    The offset stands apart because `fromisoformat` reads one of less than a second as UTC.
    """
    offset = value.utcoffset()
    if offset is None and value.tzinfo is not None:
        raise CodecError(
            f"a {type(value).__name__} whose zone has no offset by itself; store it without tzinfo, or as a datetime"
        )
    zone = "" if offset is None else f"@{offset // _MICROSECOND}"
    return f"{value.replace(tzinfo=None).isoformat()}{'*' * value.fold}{zone}".encode()


def _parse_datetime(parse: Callable[[str], _Moment], data: memoryview) -> _Moment:
    text, at, offset = bytes(data).decode("ascii").partition("@")
    zone = timezone(timedelta(microseconds=int(offset))) if at else None
    return parse(text.removesuffix("*")).replace(tzinfo=zone, fold=int(text.endswith("*")))


_LEAVES: dict[type, Callable[[Any, int], Any]] = {
    int: _int,
    str: _text,
    complex: lambda v, _: Ext(_COMPLEX, _FLOATS.pack(v.real, v.imag)),
    datetime: lambda v, _: Ext(_DATETIME, _format_datetime(v)),
    date: lambda v, _: Ext(_DATE, v.isoformat().encode()),
    time: lambda v, _: Ext(_TIME, _format_datetime(v)),
    timedelta: lambda v, _: Ext(_TIMEDELTA, _SPAN.pack(v.days, v.seconds, v.microseconds)),
    UUID: lambda v, _: Ext(_UUID, v.bytes),
    Decimal: lambda v, _: Ext(_DECIMAL, str(v).encode()),
    UnsetType: lambda _v, _: Ext(_UNSET, b""),
}

_DECODERS: dict[int, Callable[[memoryview], Any]] = {
    _INT: lambda data: int.from_bytes(data, "big", signed=True),
    _STR: lambda data: bytes(data).decode("utf-8", "surrogatepass"),
    _COMPLEX: lambda data: complex(*_FLOATS.unpack(data)),
    _DATETIME: lambda data: _parse_datetime(datetime.fromisoformat, data),
    _DATE: lambda data: date.fromisoformat(bytes(data).decode("ascii")),
    _TIME: lambda data: _parse_datetime(time.fromisoformat, data),
    _TIMEDELTA: lambda data: timedelta(*_SPAN.unpack(data)),
    _UUID: lambda data: UUID(bytes=bytes(data)),
    _DECIMAL: lambda data: Decimal(bytes(data).decode("ascii")),
    _UNSET: lambda _: UNSET,
}

_SEQUENCES: dict[int, Callable[[list[Any]], Any]] = {_TUPLE: tuple, _SET: set, _FROZENSET: frozenset}


def _decoder(registry: Registry) -> Callable[[Raw], Any]:
    """Return the function from bytes to a value; one Python frame for each level of nesting."""
    by_name = registry.by_name

    def ext_hook(code: int, data: memoryview) -> Any:
        if code == _REGISTERED:
            name, parts = named(data)
            entry = by_name.get(name)
            if entry is not None:
                return entry.decode(parts)
            if len(name) > MAX_NAME or not name.isprintable():
                raise CorruptRecord("a type's name is damaged")
            raise UnregisteredType(f"the type {name!r} is not registered in this process; call store.register_type()")
        if (sequence := _SEQUENCES.get(code)) is not None:
            return sequence(items(data))
        if code == _DICT:
            flat = items(data)
            return dict(zip(flat[::2], flat[1::2], strict=True))
        leaf = _DECODERS.get(code)
        if leaf is None:
            raise CorruptRecord("a value of a kind that this version does not know")
        return leaf(data)

    items = Decoder(list[Any], ext_hook=ext_hook).decode
    named = Decoder(tuple[str, Any], ext_hook=ext_hook).decode
    return Decoder(ext_hook=ext_hook).decode
