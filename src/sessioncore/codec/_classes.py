"""How classes of the common kinds are taken apart into plain parts and put together again.

What a value held goes back as it was: no converter or validator sees values a second
time that went through it before. attrs and pydantic are not dependencies; their
classes are known by what they carry.
"""

import contextlib
import copy
import dataclasses
import enum
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from sessioncore._errors import ConfigError

__all__ = ["FieldAccess", "field_access", "has_shape"]

FieldAccess: TypeAlias = tuple[Callable[[Any], Any], Callable[[Any], Any]]
Default: TypeAlias = Callable[[Any], Any] | None  # from the instance; None: the field may stay unset

_ABSENT = object()
_CHANGING = (dict, list, set)
_CACHED_HASH = "_attrs_cached_hash"  # what attrs' constructor prepares where cache_hash=True


def has_shape(cls: Any) -> bool:
    """Tell whether `cls` is of a kind that this module takes apart by itself."""
    if cls in {msgspec.Struct, enum.Enum, enum.Flag, enum.IntEnum, enum.IntFlag, enum.StrEnum}:
        return False
    return (
        issubclass(cls, (msgspec.Struct, enum.Enum))
        or dataclasses.is_dataclass(cls)
        or hasattr(cls, "__attrs_attrs__")
        or hasattr(cls, "__pydantic_fields_set__")
        or hasattr(cls, "_field_defaults")
    )


def field_access(cls: Any) -> FieldAccess:
    """Return the pair of functions that takes an instance apart and builds it again.

    Raises:
        ConfigError: it takes more than the fields to build one.
    """
    if not has_shape(cls):
        raise ConfigError(
            f"{cls.__qualname__} is no Struct, dataclass, attrs class, NamedTuple, Enum or pydantic model: "
            "pass encode= and decode="
        )
    if issubclass(cls, enum.Flag):
        return _flag_bits, cls
    if issubclass(cls, enum.Enum):
        return _member_name, lambda name: cls[name]
    if issubclass(cls, msgspec.Struct):
        return _struct(cls)
    if hasattr(cls, "__pydantic_fields_set__"):
        return _model(cls)
    if hasattr(cls, "__attrs_attrs__"):
        return _record(cls, _attrs_defaults(cls), "__attrs_post_init__")
    if dataclasses.is_dataclass(cls):
        return _record(cls, _dataclass_defaults(cls), "__post_init__")
    return _named_tuple(cls)


def _flag_bits(member: Any) -> int:
    return int(member._value_)  # not `value`, nor `name` below: those a class may overrule


def _member_name(member: Any) -> str:
    name: str = member._name_
    if member.__class__.__members__.get(name) is not member:
        raise ValueError("a member that _missing_ made cannot be found again by its name")
    return name


def _required(_: object) -> Any:
    raise TypeError("a field without a default is missing")


def _constant(value: Any) -> Default:
    return lambda _: value


def _made(factory: Callable[[], Any]) -> Default:
    return lambda _: factory()


def _read(names: "Mapping[str, Any] | tuple[str, ...]") -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: part for name in names if (part := getattr(value, name, _ABSENT)) is not _ABSENT}


def _contents(parts: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Return each container in `parts` that a hook could change in place, with a copy of what it holds."""
    found: list[tuple[Any, Any]] = []
    queue = [*parts]
    while queue:
        part = queue.pop()
        if type(part) in _CHANGING:
            found.append((part, copy.copy(part)))
        if type(part) is dict:
            queue += part.values()
        elif type(part) is list or type(part) is tuple:
            queue += part
    return found


def _give_back(contents: list[tuple[Any, Any]]) -> None:
    for part, before in contents:
        if type(part) is list:
            part[:] = before
        else:
            part.clear()
            part.update(before)


def _struct(cls: Any) -> FieldAccess:
    names: tuple[str, ...] = cls.__struct_fields__
    put = msgspec.structs.force_setattr
    hooked = hasattr(cls, "__post_init__")

    def build(parts: dict[str, Any]) -> Any:
        known = {name: parts[name] for name in names if name in parts}
        if not hooked:
            return cls(**known)
        contents = _contents(known.values())
        try:
            value = cls(**known)
        except Exception as exc:
            value = _unfinished(cls, exc)
            if value is None:
                raise
        _give_back(contents)  # the hook may have changed fields that are as they should be
        for name, part in known.items():
            put(value, name, part)
        return value

    return _read(names), build


def _unfinished(cls: Any, error: Exception) -> Any:
    """Return the instance that its `__post_init__` refused: it was finished before. msgspec makes none without that."""
    hook = error.__traceback__ and error.__traceback__.tb_next
    value = hook and next(iter(hook.tb_frame.f_locals.values()), None)
    return value if type(value) is cls else None


def _named_tuple(cls: Any) -> FieldAccess:
    names: tuple[str, ...] = cls._fields
    defaults: dict[str, Any] = cls._field_defaults

    def take(value: Any) -> dict[str, Any]:
        return dict(zip(names, value, strict=True))  # not by attribute: a property may stand before a field

    def build(parts: dict[str, Any]) -> Any:
        return cls._make([parts[name] if name in parts else defaults[name] for name in names])

    return take, build


def _record(cls: Any, defaults: Mapping[str, Default], hook: str) -> FieldAccess:
    """A dataclass or attrs class, built without its constructor, whose converters may not take converted values."""
    foreign = [base.__name__ for base in cls.__mro__[:-1] if base.__module__ == "builtins"]
    if foreign:
        raise ConfigError(f"{cls.__qualname__} inherits from {foreign[0]}: pass encode= and decode=")
    finish = getattr(cls, hook, None)
    if finish is not None and len(inspect.signature(finish).parameters) > 1:
        raise ConfigError(f"{cls.__qualname__} has an InitVar, which no instance keeps: pass encode= and decode=")
    caches_hash = _CACHED_HASH in getattr(getattr(cls.__hash__, "__code__", None), "co_names", ())

    def build(parts: dict[str, Any]) -> Any:
        value = cls.__new__(cls)
        for name, default in defaults.items():
            if name in parts:
                object.__setattr__(value, name, parts[name])
            elif default is not None:
                object.__setattr__(value, name, default(value))
        if caches_hash:
            object.__setattr__(value, _CACHED_HASH, None)
        if finish is not None:
            # For attributes that are no fields. It may refuse finished fields, or finish them again.
            contents = _contents(parts.values())
            with contextlib.suppress(Exception):
                finish(value)
            _give_back(contents)
            for name in defaults:
                if name in parts:
                    object.__setattr__(value, name, parts[name])
        return value

    return _read(defaults), build


def _dataclass_defaults(cls: Any) -> dict[str, Default]:
    found: dict[str, Default] = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            found[field.name] = _constant(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = _made(field.default_factory)
        else:
            found[field.name] = _required if field.init else None
    return found


def _attrs_defaults(cls: Any) -> dict[str, Default]:
    import attr  # noqa: PLC0415 - loaded already, since `cls` is its work; never a dependency

    found: dict[str, Default] = {}
    for field in cls.__attrs_attrs__:
        if field.default is attr.NOTHING:
            found[field.name] = _required if field.init else None
        elif isinstance(field.default, attr.Factory):  # type: ignore[arg-type]  # a class, declared as a function
            make = field.default
            found[field.name] = make.factory if make.takes_self else _made(make.factory)
        else:
            found[field.name] = _constant(field.default)
    return found


def _model(cls: Any) -> FieldAccess:
    """A pydantic model, by its state as `copy` and equality know it: fields, which were set, extra and private ones."""

    def take(value: Any) -> list[Any]:
        fields = {name: value.__dict__[name] for name in cls.model_fields if name in value.__dict__}
        extra: dict[str, Any] | None = value.__pydantic_extra__
        unset = [name for name in (*fields, *(extra or ())) if name not in value.__pydantic_fields_set__]
        return [fields, unset, extra, value.__pydantic_private__]

    def build(parts: list[Any]) -> Any:
        stored, unset, extra, private = parts
        fields: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            if name in stored:
                fields[name] = stored[name]
            elif field.is_required():
                _required(field)
            else:
                # pydantic before 2.10 knows no factory that takes the data, and no such argument.
                takes_data = getattr(field, "default_factory_takes_validated_data", False)
                given = {"validated_data": fields} if takes_data else {}
                fields[name] = field.get_default(call_default_factory=True, **given)
        value = cls.__new__(cls)
        value.__setstate__(
            {
                "__dict__": fields,
                "__pydantic_fields_set__": ({*stored} & {*fields} | {*(extra or ())}) - {*unset},
                "__pydantic_extra__": {} if extra is None and cls.model_config.get("extra") == "allow" else extra,
                "__pydantic_private__": _private(cls, fields, private),
            }
        )
        return value

    return take, build


def _private(cls: Any, fields: dict[str, Any], stored: dict[str, Any] | None) -> dict[str, Any] | None:
    """Private attributes as they were, without those that the class has lost, and with new ones as it makes them."""
    from pydantic_core import PydanticUndefined  # noqa: PLC0415 - loaded already, like attr above

    found: dict[str, Any] = {}
    for name, attribute in cls.__private_attributes__.items():
        make = attribute.default_factory
        if name in (stored or {}):
            found[name] = (stored or {})[name]
        elif make is not None:
            takes_data = getattr(attribute, "default_factory_takes_validated_data", False)
            found[name] = make({**fields, **found}) if takes_data else make()
        elif (default := attribute.get_default()) is not PydanticUndefined:
            found[name] = default
    return found if cls.__private_attributes__ else None
