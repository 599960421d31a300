"""Encodes values to bytes and decodes them, with their types.

None, bool, int, float, str, bytes, list and dict are plain MessagePack. Every other type is
a MessagePack extension, so decoding is one pass of msgspec's C code that calls Python for
extensions only. There is no pickle, no eval and no import by name: forged bytes can make
decoding fail, but never run code.
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

# Encoding and decoding use at most 4 Python frames for each level, so at most half of the
# default recursion limit; the other half is for the handler.
MAX_DEPTH = 128

_TUPLE, _SET, _FROZENSET, _DICT, _INT, _STR, _COMPLEX = range(1, 8)
_DATETIME, _DATE, _TIME, _TIMEDELTA, _UUID, _DECIMAL, _UNSET = range(8, 15)
_REGISTERED = 32

# Types that msgspec encodes natively and decodes to the same type. int and str are among them for
# speed: MessagePack cannot hold very large integers and lone surrogates. Encoding one of those
# raises, and the value is then encoded again with a check of each int and str.
_PLAIN = frozenset({NoneType, bool, int, float, str, bytes})
_PLAIN_CAREFUL = frozenset({NoneType, bool, float, bytes})
_ONLY_STR = frozenset({str})

# Values of these types cannot change in place, so the commit need not compare the ones that were read.
IMMUTABLE = _PLAIN | {complex, datetime, date, time, timedelta, UUID, Decimal, UnsetType}
_BUILTIN = IMMUTABLE | {list, dict, tuple, set, frozenset, object}

_TimeT = TypeVar("_TimeT", datetime, time)

_pack = Encoder().encode
_COMPLEX_STRUCT = struct.Struct(">dd")
_TIMEDELTA_STRUCT = struct.Struct(">iii")
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
        """Return the bytes of the value under `key`; error texts name the key.

        Raises:
            UnregisteredType: the value, or a part of it, has an unknown type.
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
            raise CodecError(f"session key {key!r}: nested too deep, or cyclic; store a flatter value") from None
        except Exception as exc:  # for example, a user's tzinfo raised
            raise CodecError(f"session key {key!r} cannot be encoded ({type(exc).__name__})") from exc

    def decode(self, key: str, raw: Raw) -> Any:
        """Return the value that `raw` holds.

        Raises:
            UnregisteredType: it contains a type that is not registered in this process.
            CorruptRecord: the bytes are damaged, or no longer fit the registered class.
        """
        try:
            return self._decode(raw)
        except UnregisteredType as exc:
            raise UnregisteredType(f"session key {key!r}: {exc}") from None
        except Exception as exc:  # noqa: BLE001 - damaged bytes can raise anything, also in a user's decode=
            # No cause, because its text may contain the value.
            raise CorruptRecord(
                f"session key {key!r} cannot be read ({type(exc).__name__}); delete it, or restore its class"
            ) from None


class _Encoder:
    """Turns a value into one that msgspec can encode without losing types.

    Types are compared exactly, because a subclass would be decoded as its base class.
    """

    __slots__ = ("_plain", "_registry", "_table")

    def __init__(self, registry: Registry, plain: frozenset[type]) -> None:
        self._registry = registry
        self._plain = plain
        self._table: dict[type, Callable[[Any, int], Any]] = {
            **_ENCODERS,
            list: self._encode_list,
            dict: self._encode_dict,
            tuple: lambda v, d: Ext(_TUPLE, _pack(self._encode_list(v, d))),
            set: lambda v, d: Ext(_SET, self._encode_set(v, d)),
            frozenset: lambda v, d: Ext(_FROZENSET, self._encode_set(v, d)),
        }

    def to_wire(self, value: object, depth: int) -> Any:
        kind = type(value)
        if kind in self._plain:
            return value
        encode = self._table.get(kind)
        return self._encode_registered(value, depth) if encode is None else encode(value, depth)

    def _encode_list(self, value: "list[Any] | tuple[Any, ...]", depth: int) -> Any:
        if self._plain.issuperset(map(type, value)):
            return value
        _check_depth(depth)
        return [self.to_wire(item, depth + 1) for item in value]

    def _encode_dict(self, value: dict[Any, Any], depth: int) -> Any:
        if _ONLY_STR.issuperset(map(type, value)) and (self._plain is _PLAIN or all(map(_is_utf8, value))):
            if self._plain.issuperset(map(type, value.values())):
                return value
            _check_depth(depth)
            return {key: self.to_wire(item, depth + 1) for key, item in value.items()}
        _check_depth(depth)
        return Ext(_DICT, _pack([self.to_wire(part, depth + 1) for pair in value.items() for part in pair]))

    def _encode_set(self, value: Iterable[Any], depth: int) -> bytes:
        """Sort the members by their bytes: set order differs between processes, and the encoding must not."""
        _check_depth(depth)
        return _pack([Raw(part) for part in sorted([_pack(self.to_wire(item, depth + 1)) for item in value])])

    def _encode_registered(self, value: object, depth: int) -> Ext:
        cls = type(value)
        entry = self._registry.by_class.get(cls)
        if entry is None:
            raise UnregisteredType(
                f"{cls.__module__}.{cls.__qualname__} is not registered; call store.register_type({cls.__name__}), "
                "with encode= and decode= unless it is a dataclass, Struct, Enum or similar"
            )
        _check_depth(depth)
        try:
            parts = entry.encode(value)
        except Exception as exc:
            raise CodecError(f"encode of {entry.name} failed ({type(exc).__name__})") from exc
        return Ext(_REGISTERED, _pack([entry.name, self.to_wire(parts, depth + 1)]))


def _check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        raise CodecError(f"nested deeper than {MAX_DEPTH} levels, or cyclic; store a flatter value")


def _is_utf8(text: str) -> bool:
    return text.isascii() or type(_encode_str(text, 0)) is str


def _encode_str(text: str, _: int) -> "str | Ext":
    """Encode text with lone surrogates, which Python allows and UTF-8 does not, as an extension."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return Ext(_STR, text.encode("utf-8", "surrogatepass"))
    return text


def _encode_int(value: int, _: int) -> "int | Ext":
    if -(1 << 63) <= value < 1 << 64:
        return value
    return Ext(_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def _format_time(value: "datetime | time") -> bytes:
    """Return the ISO text of the local time, "*" if fold is 1, and "@" with the UTC offset in microseconds.

    The offset is separate because `fromisoformat` reads one of less than a second as UTC.
    """
    offset = value.utcoffset()
    if offset is None and value.tzinfo is not None:
        raise CodecError(
            f"a {type(value).__name__} whose time zone has no fixed offset; store it without tzinfo, or as a datetime"
        )
    zone = "" if offset is None else f"@{offset // _MICROSECOND}"
    return f"{value.replace(tzinfo=None).isoformat()}{'*' * value.fold}{zone}".encode()


def _parse_time(parse: Callable[[str], _TimeT], data: memoryview) -> _TimeT:
    text, at, offset = bytes(data).decode("ascii").partition("@")
    zone = timezone(timedelta(microseconds=int(offset))) if at else None
    return parse(text.removesuffix("*")).replace(tzinfo=zone, fold=int(text.endswith("*")))


_ENCODERS: dict[type, Callable[[Any, int], Any]] = {
    int: _encode_int,
    str: _encode_str,
    complex: lambda v, _: Ext(_COMPLEX, _COMPLEX_STRUCT.pack(v.real, v.imag)),
    datetime: lambda v, _: Ext(_DATETIME, _format_time(v)),
    date: lambda v, _: Ext(_DATE, v.isoformat().encode()),
    time: lambda v, _: Ext(_TIME, _format_time(v)),
    timedelta: lambda v, _: Ext(_TIMEDELTA, _TIMEDELTA_STRUCT.pack(v.days, v.seconds, v.microseconds)),
    UUID: lambda v, _: Ext(_UUID, v.bytes),
    Decimal: lambda v, _: Ext(_DECIMAL, str(v).encode()),
    UnsetType: lambda _v, _: Ext(_UNSET, b""),
}

_DECODERS: dict[int, Callable[[memoryview], Any]] = {
    _INT: lambda data: int.from_bytes(data, "big", signed=True),
    _STR: lambda data: bytes(data).decode("utf-8", "surrogatepass"),
    _COMPLEX: lambda data: complex(*_COMPLEX_STRUCT.unpack(data)),
    _DATETIME: lambda data: _parse_time(datetime.fromisoformat, data),
    _DATE: lambda data: date.fromisoformat(bytes(data).decode("ascii")),
    _TIME: lambda data: _parse_time(time.fromisoformat, data),
    _TIMEDELTA: lambda data: timedelta(*_TIMEDELTA_STRUCT.unpack(data)),
    _UUID: lambda data: UUID(bytes=bytes(data)),
    _DECIMAL: lambda data: Decimal(bytes(data).decode("ascii")),
    _UNSET: lambda _: UNSET,
}

_SEQUENCES: dict[int, Callable[[list[Any]], Any]] = {_TUPLE: tuple, _SET: set, _FROZENSET: frozenset}


def _decoder(registry: Registry) -> Callable[[Raw], Any]:
    """Return the function that decodes a value; it uses one Python frame for each level of nesting."""
    by_name = registry.by_name

    def ext_hook(code: int, data: memoryview) -> Any:
        if code == _REGISTERED:
            name, parts = decode_registered(data)
            entry = by_name.get(name)
            if entry is not None:
                return entry.decode(parts)
            if len(name) > MAX_NAME or not name.isprintable():
                raise CorruptRecord("the name of a type is damaged")
            raise UnregisteredType(f"the type {name!r} is not registered in this process; call store.register_type()")
        if (sequence := _SEQUENCES.get(code)) is not None:
            return sequence(decode_list(data))
        if code == _DICT:
            flat = decode_list(data)
            return dict(zip(flat[::2], flat[1::2], strict=True))
        decode = _DECODERS.get(code)
        if decode is None:
            raise CorruptRecord("the value has a type that this version of sessioncore does not know")
        return decode(data)

    decode_list = Decoder(list[Any], ext_hook=ext_hook).decode
    decode_registered = Decoder(tuple[str, Any], ext_hook=ext_hook).decode
    return Decoder(ext_hook=ext_hook).decode
