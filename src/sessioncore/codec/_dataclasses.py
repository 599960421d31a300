"""How dataclasses and attrs classes are taken apart and built.

Their constructor is not called, because converters may reject converted values. attrs is not a
dependency; its classes are recognised by their attributes.
"""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from sessioncore._errors import ConfigError
from sessioncore.codec._fields import (
    ClassAccess,
    check_new,
    contents_kept,
    field_reader,
    missing_field,
    name_field,
    refuse_hidden_fields,
    stored_fields,
)

__all__ = ["attrs_access", "dataclass_access"]

Default: TypeAlias = Callable[[Any], Any] | None  # called with the instance; None: the field may stay unset

_CACHED_HASH = "_attrs_cached_hash"  # set by attrs' constructor if cache_hash=True


def dataclass_access(cls: Any) -> ClassAccess:
    """Return how a dataclass is taken apart and built."""
    defaults: dict[str, Default] = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = _constant(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = _from_factory(field.default_factory)
        else:
            defaults[field.name] = _required(cls, field.name) if field.init else None
    return _access(cls, defaults, "__post_init__")


def attrs_access(cls: Any) -> ClassAccess:
    """Return how an attrs class is taken apart and built."""
    import attr  # noqa: PLC0415 - already imported, because `cls` is an attrs class

    defaults: dict[str, Default] = {}
    for field in cls.__attrs_attrs__:
        if field.default is attr.NOTHING:
            defaults[field.name] = _required(cls, field.name) if field.init else None
        elif isinstance(field.default, attr.Factory):  # type: ignore[arg-type]  # a class, declared as a function
            make = field.default
            defaults[field.name] = make.factory if make.takes_self else _from_factory(make.factory)
        else:
            defaults[field.name] = _constant(field.default)
    return _access(cls, defaults, "__attrs_post_init__")


def _required(cls: type, name: str) -> Default:
    def raise_missing(_: object) -> Any:
        raise missing_field(cls, name)

    return raise_missing


def _constant(value: Any) -> Default:
    return lambda _: value


def _from_factory(factory: Callable[[], Any]) -> Default:
    return lambda _: factory()


def _access(cls: Any, defaults: Mapping[str, Default], hook: str) -> ClassAccess:
    builtins = [base.__name__ for base in cls.__mro__[:-1] if base.__module__ == "builtins"]
    if builtins:
        raise ConfigError(f"{cls.__qualname__} inherits from {builtins[0]}; pass encode= and decode=")
    post_init = getattr(cls, hook, None)
    if post_init is not None and len(inspect.signature(post_init).parameters) > 1:
        raise ConfigError(f"{cls.__qualname__} has an InitVar, which instances do not keep; pass encode= and decode=")
    refuse_hidden_fields(cls, defaults)
    check_new(cls)
    caches_hash = _CACHED_HASH in getattr(getattr(cls.__hash__, "__code__", None), "co_names", ())

    def build(stored: Any) -> Any:
        parts = stored_fields(cls, stored)
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
            with contents_kept(parts.values()), contextlib.suppress(Exception):
                post_init(value)
            for name in defaults:
                if name in parts:
                    object.__setattr__(value, name, parts[name])
        return value

    may_be_unset = [name for name, default in defaults.items() if default is None]
    return ClassAccess(field_reader(cls, defaults, may_be_unset), build, name_field)
