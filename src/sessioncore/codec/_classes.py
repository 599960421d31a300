"""How instances of common kinds of classes are taken apart into fields and built from them.

Stored field values are put back unchanged: converters and validators do not run again on
values that have passed them once. attrs and pydantic are not dependencies; their classes
are recognised by their attributes.
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

__all__ = ["FieldAccess", "field_access", "is_supported_class"]

FieldAccess: TypeAlias = tuple[Callable[[Any], Any], Callable[[Any], Any]]
Default: TypeAlias = Callable[[Any], Any] | None  # called with the instance; None: the field may stay unset

_MISSING = object()
_MUTABLE = (dict, list, set)
_CACHED_HASH = "_attrs_cached_hash"  # set by attrs' constructor if cache_hash=True


def is_supported_class(cls: Any) -> bool:
    """Tell whether `cls` needs no `encode` and `decode` functions."""
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
    """Return a function that takes an instance apart into its fields, and one that builds an instance from them.

    Raises:
        ConfigError: the fields alone are not enough to build an instance.
    """
    if not is_supported_class(cls):
        raise ConfigError(
            f"{cls.__qualname__} is no Struct, dataclass, attrs class, NamedTuple, Enum or pydantic model; "
            "pass encode= and decode="
        )
    if issubclass(cls, enum.Flag):
        return _flag_bits, cls
    if issubclass(cls, enum.Enum):
        return _member_name, lambda name: cls[name]
    if issubclass(cls, msgspec.Struct):
        return _struct_access(cls)
    if hasattr(cls, "__pydantic_fields_set__"):
        return _model_access(cls)
    if hasattr(cls, "__attrs_attrs__"):
        return _fields_access(cls, _attrs_defaults(cls), "__attrs_post_init__")
    if dataclasses.is_dataclass(cls):
        return _fields_access(cls, _dataclass_defaults(cls), "__post_init__")
    return _named_tuple_access(cls)


def _flag_bits(member: Any) -> int:
    return int(member._value_)  # a class may override `value`, and `name` below


def _member_name(member: Any) -> str:
    name: str = member._name_
    if member.__class__.__members__.get(name) is not member:
        raise ValueError("a member that _missing_ created cannot be looked up by its name; pass encode= and decode=")
    return name


def _raise_missing(_: object) -> Any:
    raise TypeError("a field without a default is missing")


def _constant(value: Any) -> Default:
    return lambda _: value


def _from_factory(factory: Callable[[], Any]) -> Default:
    return lambda _: factory()


def _field_reader(names: "Mapping[str, Any] | tuple[str, ...]") -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: part for name in names if (part := getattr(value, name, _MISSING)) is not _MISSING}


def _copy_containers(parts: Iterable[Any]) -> list[tuple[Any, Any]]:
    """Return each container in `parts` that `__post_init__` could change in place, with a copy of its contents."""
    found: list[tuple[Any, Any]] = []
    queue = [*parts]
    while queue:
        part = queue.pop()
        if type(part) in _MUTABLE:
            found.append((part, copy.copy(part)))
        if type(part) is dict:
            queue += part.values()
        elif type(part) is list or type(part) is tuple:
            queue += part
    return found


def _restore_containers(copies: list[tuple[Any, Any]]) -> None:
    for part, before in copies:
        if type(part) is list:
            part[:] = before
        else:
            part.clear()
            part.update(before)


def _struct_access(cls: Any) -> FieldAccess:
    names: tuple[str, ...] = cls.__struct_fields__
    put = msgspec.structs.force_setattr
    hooked = hasattr(cls, "__post_init__")

    def build(parts: dict[str, Any]) -> Any:
        known = {name: parts[name] for name in names if name in parts}
        if not hooked:
            return cls(**known)
        copies = _copy_containers(known.values())
        try:
            value = cls(**known)
        except Exception as exc:
            value = _rejected_instance(cls, exc)
            if value is None:
                raise
        _restore_containers(copies)  # __post_init__ may have changed stored values in place
        for name, part in known.items():
            put(value, name, part)
        return value

    return _field_reader(names), build


def _rejected_instance(cls: Any, error: Exception) -> Any:
    """Return the instance that `__post_init__` rejected, from its frame: msgspec creates none without that call."""
    hook = error.__traceback__ and error.__traceback__.tb_next
    value = hook and next(iter(hook.tb_frame.f_locals.values()), None)
    return value if type(value) is cls else None


def _named_tuple_access(cls: Any) -> FieldAccess:
    names: tuple[str, ...] = cls._fields
    defaults: dict[str, Any] = cls._field_defaults

    def take_apart(value: Any) -> dict[str, Any]:
        return dict(zip(names, value, strict=True))  # not by attribute, because a property may hide a field

    def build(parts: dict[str, Any]) -> Any:
        return cls._make([parts[name] if name in parts else defaults[name] for name in names])

    return take_apart, build


def _fields_access(cls: Any, defaults: Mapping[str, Default], hook: str) -> FieldAccess:
    """Access a dataclass or attrs class. Its constructor is not called: converters may reject converted values."""
    builtins = [base.__name__ for base in cls.__mro__[:-1] if base.__module__ == "builtins"]
    if builtins:
        raise ConfigError(f"{cls.__qualname__} inherits from {builtins[0]}; pass encode= and decode=")
    post_init = getattr(cls, hook, None)
    if post_init is not None and len(inspect.signature(post_init).parameters) > 1:
        raise ConfigError(f"{cls.__qualname__} has an InitVar, which instances do not keep; pass encode= and decode=")
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
        if post_init is not None:
            # It sets attributes that are not fields. It may also reject stored fields, or convert them a second time.
            copies = _copy_containers(parts.values())
            with contextlib.suppress(Exception):
                post_init(value)
            _restore_containers(copies)
            for name in defaults:
                if name in parts:
                    object.__setattr__(value, name, parts[name])
        return value

    return _field_reader(defaults), build


def _dataclass_defaults(cls: Any) -> dict[str, Default]:
    found: dict[str, Default] = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            found[field.name] = _constant(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = _from_factory(field.default_factory)
        else:
            found[field.name] = _raise_missing if field.init else None
    return found


def _attrs_defaults(cls: Any) -> dict[str, Default]:
    import attr  # noqa: PLC0415 - already imported, because `cls` is an attrs class

    found: dict[str, Default] = {}
    for field in cls.__attrs_attrs__:
        if field.default is attr.NOTHING:
            found[field.name] = _raise_missing if field.init else None
        elif isinstance(field.default, attr.Factory):  # type: ignore[arg-type]  # a class, declared as a function
            make = field.default
            found[field.name] = make.factory if make.takes_self else _from_factory(make.factory)
        else:
            found[field.name] = _constant(field.default)
    return found


def _model_access(cls: Any) -> FieldAccess:
    """Access a pydantic model by the state that `copy` and `==` use: fields, which were set, extra and private ones."""

    def take_apart(value: Any) -> list[Any]:
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
                _raise_missing(field)
            else:
                # Before pydantic 2.10, factories could not take the validated data, and this argument did not exist.
                takes_data = getattr(field, "default_factory_takes_validated_data", False)
                given = {"validated_data": fields} if takes_data else {}
                fields[name] = field.get_default(call_default_factory=True, **given)
        value = cls.__new__(cls)
        value.__setstate__(
            {
                "__dict__": fields,
                "__pydantic_fields_set__": ({*stored} & {*fields} | {*(extra or ())}) - {*unset},
                "__pydantic_extra__": {} if extra is None and cls.model_config.get("extra") == "allow" else extra,
                "__pydantic_private__": _private_attributes(cls, fields, private),
            }
        )
        return value

    return take_apart, build


def _private_attributes(cls: Any, fields: dict[str, Any], stored: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the stored private attributes that the class still has, and defaults for those that it gained."""
    from pydantic_core import PydanticUndefined  # noqa: PLC0415 - already imported, like attr above

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
