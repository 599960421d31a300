"""How instances of common kinds of classes are taken apart into supported values and built from them.

Stored field values are put back unchanged: converters and validators do not run again on
values that have passed them once.
"""

import dataclasses
import enum
import traceback
import typing
from contextlib import suppress
from inspect import getattr_static
from typing import Any

import msgspec

from sessioncore._errors import ConfigError
from sessioncore.codec._builtin_values import PLAIN_COPIES
from sessioncore.codec._dataclasses import attrs_access, dataclass_access
from sessioncore.codec._fields import (
    ClassAccess,
    assume_same,
    contents_kept,
    field_reader,
    missing_field,
    name_field,
    refuse_hidden_fields,
    stored_fields,
    type_of,
)
from sessioncore.codec._models import model_access
from sessioncore.codec._refusals import Refused, name_of

__all__ = ["class_access", "plain_base"]


_BASES = {msgspec.Struct, enum.Enum, enum.Flag, enum.IntEnum, enum.IntFlag, enum.StrEnum}  # without instances


def plain_base(cls: type) -> type | None:
    """Return the built-in type from which a class inherits, if a value of that type can be made of its instances."""
    return next((base for base in cls.__mro__[1:] if base in PLAIN_COPIES), None)


def class_access(cls: Any) -> ClassAccess:
    """Return how an instance is taken apart, and how one is built.

    Raises:
        ConfigError: the class is of no known kind, or what could be stored of an instance is not enough to build it.
    """
    if cls not in _BASES and not typing.is_typeddict(cls):
        if issubclass(cls, enum.Enum):
            return _flag_access(cls) if issubclass(cls, enum.Flag) else _enum_access(cls)
        if issubclass(cls, msgspec.Struct):
            return _struct_access(cls)
        if hasattr(cls, "__pydantic_fields_set__"):
            return model_access(cls)
        if hasattr(cls, "__attrs_attrs__"):
            return attrs_access(cls)
        if dataclasses.is_dataclass(cls):
            return dataclass_access(cls)
        if plain_base(cls) is not None:
            return _named_tuple_access(cls) if hasattr(cls, "_field_defaults") else _subclass_access(cls)
    raise ConfigError(
        f"{cls.__qualname__} is not a Struct, dataclass, attrs class, NamedTuple, Enum, pydantic model or "
        "subclass of a built-in value; pass encode= and decode="
    )


# -- enums


def _flag_access(cls: Any) -> ClassAccess:
    def build(bits: Any) -> Any:
        with suppress(ValueError):
            flags = cls(bits)
            if getattr(flags, "_value_", flags) == bits:  # a class with boundary=CONFORM drops some
                return flags
        raise Refused(f"{name_of(cls)} lacks flags that were stored")

    return ClassAccess(lambda member: int(member._value_), build)  # a class may override `value`, and `name` below


def _enum_access(cls: Any) -> ClassAccess:
    def take_apart(member: Any) -> str:
        name: str = member._name_
        if cls.__members__.get(name) is not member:
            raise Refused(
                f"a member of {name_of(cls)} that _missing_ created cannot be looked up by its name; register the "
                "class with encode= and decode="
            )
        return name

    def build(name: Any) -> Any:
        member = cls.__members__.get(name) if type(name) is str else None
        if member is None:
            raise Refused(f"{name_of(cls)} lacks the member that was stored")
        return member

    return ClassAccess(take_apart, build)


# -- structs and named tuples


def _struct_access(cls: Any) -> ClassAccess:
    names: tuple[str, ...] = cls.__struct_fields__
    with_default = names[len(names) - len(cls.__struct_defaults__) :]
    optional = {
        name
        for name, default in zip(with_default, cls.__struct_defaults__, strict=True)
        if default is not msgspec.NODEFAULT
    }
    put = msgspec.structs.force_setattr
    hooked = hasattr(cls, "__post_init__")
    refuse_hidden_fields(cls, names)

    def build(stored: Any) -> Any:
        parts = stored_fields(cls, stored)
        known = {name: parts[name] for name in names if name in parts}
        if len(known) < len(names):
            for name in names:
                if name not in known and name not in optional:
                    raise missing_field(cls, name)
        if not hooked:
            return cls(**known)
        with contents_kept(known.values()):
            try:
                value = cls(**known)
            except Exception as exc:
                value = _rejected_instance(cls, exc)
                if value is None:
                    raise
        for name, part in known.items():
            put(value, name, part)
        return value

    return ClassAccess(field_reader(cls, names), build, name_field, assume_same if hooked else None)


def _rejected_instance(cls: Any, error: Exception) -> Any:
    """Return the instance that `__post_init__` rejected, from its frame: msgspec creates none without that call."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for value in frame.f_locals.values():
            if type(value) is cls:
                return value
    return None


def _named_tuple_access(cls: Any) -> ClassAccess:
    names: tuple[str, ...] = cls._fields
    defaults: dict[str, Any] = cls._field_defaults
    base: Any = tuple

    def take_apart(value: Any) -> dict[str, Any]:
        return dict(zip(names, PLAIN_COPIES[tuple](value), strict=True))  # a property may hide a field

    def build(stored: Any) -> Any:
        parts = stored_fields(cls, stored)
        for name in names:
            if name not in parts and name not in defaults:
                raise missing_field(cls, name)
        return base.__new__(cls, [parts[name] if name in parts else defaults[name] for name in names])

    return ClassAccess(take_apart, build, name_field)


# -- subclasses of built-in types


def _subclass_access(cls: Any) -> ClassAccess:
    """Store an instance as a value of its built-in base, from which the class's constructor makes one."""
    base: Any = plain_base(cls)

    def build(plain: Any) -> Any:
        if type(plain) is not base:
            raise Refused(f"{name_of(cls)} is a {base.__name__}, but what was stored is none")
        return cls(plain)

    def attributes(value: Any) -> Any:
        state: Any = object.__getstate__(value)
        if type_of(state) is not dict:
            return state or {}
        # The value of a cached_property is computed again when it is needed.
        return {name: part for name, part in state.items() if not hasattr(getattr_static(cls, name, None), "__get__")}

    def same(value: Any, again: Any) -> bool:
        # The caller compares the encodings of the plain values.
        return bool(attributes(again) == attributes(value))

    return ClassAccess(PLAIN_COPIES[base], build, same=same)
