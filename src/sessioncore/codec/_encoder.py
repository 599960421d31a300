"""Turns values into ones that msgspec can encode, without losing types."""

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

from msgspec import Raw
from msgspec.msgpack import Encoder as MessagePack
from msgspec.msgpack import Ext

from sessioncore._errors import UnregisteredType
from sessioncore.codec._builtin_values import (
    BUILTIN,
    COMPOSITES,
    FLATTENED,
    LEAVES,
    PLAIN_COPIES,
    REGISTERED,
    Composite,
    Leaf,
    keys_and_values,
)
from sessioncore.codec._classes import class_access, plain_base
from sessioncore.codec._refusals import Label, Refused, advice, entry, item, key_or_value, member, name_of
from sessioncore.codec._registry import Entry, Registry
from sessioncore.codec._times import real_date

__all__ = ["MAX_DEPTH", "Encoder", "ReadBack"]

# Encoding and decoding use at most 4 Python frames for each level, so at most half of the
# default recursion limit; the other half is for the handler.
MAX_DEPTH = 128

_TUPLE, _SET, _FROZENSET, _DICT = (COMPOSITES[cls].code for cls in (tuple, set, frozenset, dict))
_ONLY_STR = frozenset({str})

_pack = MessagePack().encode


class Encoder:
    """Turns a value into one that msgspec can encode without losing types.

    Types are compared exactly, because a subclass would be decoded as its base class. With
    `read_back`, registered values that might not come back as they are get decoded and compared.
    """

    __slots__ = ("_flatten", "_keys_are_utf8", "_plain", "_read_back", "_registry", "_table")

    def __init__(
        self, registry: Registry, plain: frozenset[type], flatten: bool, read_back: "ReadBack | None" = None
    ) -> None:
        self._registry = registry
        self._plain = plain
        self._keys_are_utf8 = str in plain  # assumed, for speed: msgspec raises where they are not
        self._flatten = flatten
        self._read_back = read_back
        self._table: dict[type, Callable[[Any, int], Any]] = {
            **_LEAVES,
            **{cls: self._composite_encoder(kind) for cls, kind in COMPOSITES.items()},
            int: _encode_int,
            str: _encode_str,
            list: self._encode_list,
            dict: self._encode_dict,
            tuple: lambda v, d: Ext(_TUPLE, _pack(self._encode_list(v, d))),
            set: lambda v, d: Ext(_SET, self._encode_set(v, d)),
            frozenset: lambda v, d: Ext(_FROZENSET, self._encode_set(v, d)),
        }

    def to_wire(self, value: object, depth: int) -> Any:
        """Return a value that msgspec can encode in place of this one, which is nested `depth` levels deep.

        Raises:
            Refused: there is none that could be decoded to the same value.
        """
        kind = type(value)
        if kind in self._plain:
            return value
        encode = self._table.get(kind)
        return self._encode_registered(value, depth) if encode is None else encode(value, depth)

    def _encode_items(self, values: Iterable[object], depth: int, label: Label) -> list[Any]:
        _check_depth(depth)
        done: list[Any] = []
        try:
            done.extend(map(self.to_wire, values, repeat(depth + 1)))
        except Refused as exc:
            exc.path.append((label, len(done)))
            raise
        return done

    def _encode_list(self, value: "list[Any] | tuple[Any, ...]", depth: int) -> Any:
        if self._plain.issuperset(map(type, value)):
            return value
        return self._encode_items(value, depth, item)

    def _encode_dict(self, value: dict[Any, Any], depth: int) -> Any:
        if _ONLY_STR.issuperset(map(type, value)) and (self._keys_are_utf8 or all(map(_is_utf8, value))):
            if self._plain.issuperset(map(type, value.values())):
                return value
            return dict(zip(value, self._encode_items(value.values(), depth, entry), strict=True))
        return Ext(_DICT, _pack(self._encode_items(keys_and_values(value), depth, key_or_value)))

    def _encode_set(self, value: Iterable[Any], depth: int) -> bytes:
        """Sort the members by their bytes: set order differs between processes, and the encoding must not."""
        return _pack([Raw(part) for part in sorted(map(_pack, self._encode_items(value, depth, member)))])

    def _composite_encoder(self, kind: Composite) -> Callable[[Any, int], Ext]:
        code, take_apart, label = kind.code, kind.take_apart, kind.label
        return lambda value, depth: Ext(code, _pack(self._encode_items(take_apart(value), depth, label)))

    def _encode_registered(self, value: object, depth: int) -> Any:
        known = self._registry.by_class.get(type(value))
        if known is None:
            return self._encode_unregistered(value, depth)
        _check_depth(depth)
        try:
            parts = known.access.take_apart(value)
        except Refused:
            raise
        except Exception as exc:
            raise Refused(f"encode of {known.name} failed ({type(exc).__name__})") from exc
        try:
            packed = _pack([known.name, self.to_wire(parts, depth + 1)])
        except Refused as exc:
            if known.access.name_part is not None and exc.path:
                known.access.name_part(exc.path, parts)
                exc.path[-1] = f"{exc.path[-1]} of {known.name}"
            raise
        if known.access.same is not None and self._read_back is not None:
            self._read_back.check(known, value, packed, depth)
        return Ext(REGISTERED, packed)

    def _encode_unregistered(self, value: object, depth: int) -> Any:
        if (moment := real_date(value)) is not None:
            return self.to_wire(moment, depth)
        cls = type(value)
        base = plain_base(cls)
        may_flatten = issubclass(cls, FLATTENED)
        if may_flatten and self._flatten and base is not None:
            return self.to_wire(PLAIN_COPIES[base](value), depth)
        base = next((one for one in cls.__mro__[1:-1] if one in BUILTIN), None)
        advised = advice(value, base, may_flatten, class_access)
        raise Refused(f"{name_of(cls)} is not registered; {advised}", UnregisteredType)


class ReadBack:
    """Refuses a registered value that could not be read back, or would be read back as another value."""

    __slots__ = ("_encoder", "_read")

    def __init__(self, encoder: Encoder, read: Callable[[bytes], Any]) -> None:
        self._encoder = encoder  # without checks, because the parts were checked already
        self._read = read

    def check(self, known: Entry, value: object, packed: bytes, depth: int) -> None:
        """Decode what was encoded, and compare it with the value.

        Raises:
            Refused: it cannot be decoded, or is not the same.
        """
        access = known.access
        assert access.same is not None
        try:
            again = self._read(packed)
            same = type(again) is known.cls and access.same(value, again)
            if same and known.origin != "functions":  # `encode=` may encrypt, for example
                same = _pack([known.name, self._encoder.to_wire(access.take_apart(again), depth + 1)]) == packed
        except RecursionError:
            raise
        except Exception as exc:
            text = exc.text if isinstance(exc, Refused) else f"{known.name}: {type(exc).__name__}"
            raise Refused(
                f"the value could not be read back ({text}); register the type with encode= and decode= that fit"
            ) from exc
        if not same:
            raise Refused(f"{known.name} would come back as another value; register it with encode= and decode=")


def _leaf_encoder(leaf: Leaf) -> Callable[[Any, int], Ext]:
    code, to_bytes = leaf.code, leaf.to_bytes
    return lambda value, _: Ext(code, to_bytes(value))


def _check_depth(depth: int) -> None:
    if depth >= MAX_DEPTH:
        text = f"nested deeper than {MAX_DEPTH} levels, or cyclic; store a flatter value"
        raise Refused(text, too_deep=True)


def _is_utf8(text: str) -> bool:
    return text.isascii() or type(_encode_str(text, 0)) is str


def _encode_str(text: str, _: int) -> "str | Ext":
    """Encode text with lone surrogates, which Python allows and UTF-8 does not, as an extension."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return _LEAVES[str](text, 0)
    return text


def _encode_int(value: int, _: int) -> "int | Ext":
    if -(1 << 63) <= value < 1 << 64:
        return value
    return _LEAVES[int](value, 0)


_LEAVES = {cls: _leaf_encoder(leaf) for cls, leaf in LEAVES.items()}
