"""The types that a store knows: each by name, with a way to take it apart and to build it again.

A registry belongs to one store. Names come from the program, never from stored
bytes: decoding looks a name up here and imports nothing.
"""

import dataclasses
import enum
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from sessioncore._errors import ConfigError

__all__ = ["Entry", "Registry"]


class Entry(msgspec.Struct, frozen=True):
    """One registered type: `encode` gives a supported value, `decode` takes it back."""

    name: str
    cls: type
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    learned: bool  # from an annotation, not by the user's own word


class Registry:
    """Maps classes to names and names to classes, one to one but for aliases."""

    __slots__ = ("_builtin", "_learned", "by_class", "by_name")

    def __init__(self, builtin: frozenset[type]) -> None:
        self._builtin = builtin
        self._learned: set[Any] = set()
        self.by_class: dict[type, Entry] = {}
        self.by_name: dict[str, Entry] = {}

    def register(
        self,
        cls: type,
        *,
        name: str | None = None,
        aliases: Iterable[str] = (),
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
    ) -> None:
        """Add a type; the same call again has no effect.

        Raises:
            ConfigError: the name or the class already means something else, the
                class is built in, or nothing is known about taking it apart.
        """
        if cls in self._builtin:
            raise ConfigError(f"{cls.__name__} is supported as it is and cannot be registered")
        if (encode is None) != (decode is None):
            raise ConfigError(f"give both encode= and decode= for {cls.__qualname__}, or neither")
        name = name or f"{cls.__module__}.{cls.__qualname__}"
        known = self.by_class.get(cls)
        if encode is not None and decode is not None:
            entry = Entry(name, cls, encode, decode, learned=False)
        else:
            entry = Entry(name, cls, *_accessors(cls), learned=False)
        if known is not None and not known.learned:
            self._check_same(known, entry, custom=encode is not None)
            entry = known
        for label in (name, *aliases):
            taken = self.by_name.get(label)
            if taken is not None and taken.cls is not cls:
                raise ConfigError(f"the type name {label!r} is already taken by another class; pass name=")
        self.by_class[cls] = entry
        for label in (name, *aliases):
            self.by_name[label] = entry
        if encode is None:
            self._learn_fields(cls)

    def learn(self, annotation: Any) -> None:
        """Register the classes that an annotation names, where they are plain records or enums."""
        try:
            if annotation in self._learned:
                return
            self._learned.add(annotation)
        except TypeError:  # unhashable, such as Annotated[int, []]: nothing to remember it by
            pass
        for part in typing.get_args(annotation):
            self.learn(part)
        cls = typing.get_origin(annotation) or annotation
        if not isinstance(cls, type) or cls in self._builtin or cls in self.by_class or not _has_shape(cls):
            return
        name = f"{cls.__module__}.{cls.__qualname__}"
        if name in self.by_name:
            return  # an explicit registration holds the name; the class stays unregistered and says so when used
        entry = Entry(name, cls, *_accessors(cls), learned=True)
        self.by_class[cls] = self.by_name[name] = entry
        self._learn_fields(cls)

    def _learn_fields(self, cls: type) -> None:
        try:
            hints = typing.get_type_hints(cls)
        except Exception:  # noqa: BLE001 - annotations are the user's, and may fail in any way; fields then need a word
            return
        for hint in hints.values():
            self.learn(hint)

    @staticmethod
    def _check_same(known: Entry, entry: Entry, *, custom: bool) -> None:
        same = known.name == entry.name and (
            not custom or (known.encode is entry.encode and known.decode is entry.decode)
        )
        if not same:
            raise ConfigError(f"{known.cls.__qualname__} is already registered as {known.name!r} with another meaning")


def _has_shape(cls: type) -> bool:
    return (
        issubclass(cls, (msgspec.Struct, enum.Enum))
        or dataclasses.is_dataclass(cls)
        or hasattr(cls, "__attrs_attrs__")
        or hasattr(cls, "model_fields")
        or (issubclass(cls, tuple) and hasattr(cls, "_fields"))
    ) and cls is not msgspec.Struct


def _accessors(cls: type) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return the pair that takes apart and rebuilds a class of a known shape."""
    if not _has_shape(cls):
        raise ConfigError(
            f"{cls.__qualname__} is no Struct, dataclass, attrs class, NamedTuple, Enum or pydantic model: "
            "pass encode= and decode="
        )
    if issubclass(cls, enum.Flag):
        return _flag_bits, cls
    if issubclass(cls, enum.Enum):
        return _member_name, cls.__getitem__
    if issubclass(cls, msgspec.Struct):
        return _by_fields(cls, dict.fromkeys(cls.__struct_fields__), msgspec.structs.force_setattr)
    if hasattr(cls, "model_fields"):
        return _pydantic(cls)
    if hasattr(cls, "__attrs_attrs__"):
        names = {a.name: (a.alias if a.init else "") for a in cls.__attrs_attrs__}
        return _by_fields(cls, names, object.__setattr__)
    if dataclasses.is_dataclass(cls):
        inits = {f.name: (None if f.init else "") for f in dataclasses.fields(cls)}
        return _by_fields(cls, inits, object.__setattr__)
    fields: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]  # a NamedTuple, by _has_shape
    return lambda value: dict(zip(fields, value, strict=True)), lambda stored: cls(**_known(stored, fields))


def _flag_bits(member: Any) -> int:
    return int(member.value)


def _member_name(member: Any) -> str:
    return str(member.name)


def _known(stored: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """Drop the fields that a newer version of the class wrote and this one does not have."""
    return {name: stored[name] for name in fields if name in stored}


def _by_fields(
    cls: type, arguments: Mapping[str, str | None], put: Callable[[Any, str, Any], None]
) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Take apart by field name; rebuild through the constructor, then put back exactly what was stored.

    `arguments` maps a field to its constructor argument: None for the same name, ""
    for a field that the constructor does not take. The constructor gives new fields
    their defaults and derived attributes their values; a `__post_init__` that
    changes fields would otherwise be applied twice.
    """

    def encode(value: Any) -> dict[str, Any]:
        return {name: getattr(value, name) for name in arguments}

    def decode(stored: Mapping[str, Any]) -> Any:
        known = _known(stored, arguments)
        value = cls(**{arguments[n] or n: v for n, v in known.items() if arguments[n] != ""})
        for name, field in known.items():
            put(value, name, field)
        return value

    return encode, decode


def _pydantic(cls: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def encode(value: Any) -> dict[str, Any]:
        extra = value.model_extra
        return {**{name: getattr(value, name) for name in cls.model_fields}, **(extra or {})}

    def decode(stored: Mapping[str, Any]) -> Any:
        return cls.model_validate(dict(stored), by_name=True)

    return encode, decode
