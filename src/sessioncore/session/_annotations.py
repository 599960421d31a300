"""Tells whether a value matches the annotation of a typed key.

Values are decoded with their exact types, so this only compares. It converts nothing and
copies nothing, so that changes in place are still detected.
"""

import functools
import types
import typing
from collections import Counter, deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import msgspec

from sessioncore._errors import ConfigError

__all__ = ["matches"]


def matches(value: object, annotation: Any) -> bool:
    """Return whether `value` matches `annotation`; unknown kinds of annotations match every value.

    Raises:
        ConfigError: it has a constraint that cannot be checked of a value of this type.
    """
    if annotation is Any or annotation is object:
        return True
    if annotation is None:
        return value is None
    origin = typing.get_origin(annotation)
    if origin is None:
        return _matches_plain(value, annotation)
    arguments = typing.get_args(annotation)
    matcher = _MATCHERS.get(origin)
    if matcher is not None:
        return matcher(value, arguments)
    if not isinstance(origin, type):
        return matches(value, _named_by(origin, arguments))
    return _is_instance(value, origin) and _matches_parts(value, origin, arguments)


def _matches_parts(value: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    """Compare the items of a container; instances of a user's generic class do not know their type arguments."""
    if origin.__module__ not in _OF_CONTAINERS:
        return not typing.is_typeddict(origin) or _matches_typed_dict(value, origin)
    if origin is tuple:
        return _matches_tuple(value, arguments)
    parts: Any = value
    if isinstance(value, Mapping) and len(arguments) == 2:
        key, item = arguments
        return all(matches(k, key) and matches(v, item) for k, v in parts.items())
    if isinstance(value, (list, tuple, deque, AbstractSet, Counter)) and len(arguments) == 1:
        return all(matches(part, arguments[0]) for part in parts)
    return True


def _matches_tuple(value: tuple[Any, ...], arguments: tuple[Any, ...]) -> bool:
    if any(getattr(one, "__unpacked__", False) or typing.get_origin(one) is typing.Unpack for one in arguments):
        return True  # as for a TypeVarTuple
    if len(arguments) == 2 and arguments[1] is ...:
        return all(matches(item, arguments[0]) for item in value)
    return len(value) == len(arguments) and all(map(matches, value, arguments))


def _matches_plain(value: object, annotation: Any) -> bool:
    if isinstance(annotation, typing.NewType):
        return matches(value, annotation.__supertype__)
    if typing.is_typeddict(annotation):
        return _matches_typed_dict(value, annotation)
    if not isinstance(annotation, type):
        return matches(value, _named_by(annotation, ()))
    if annotation is float:
        return type(value) in {float, int}  # PEP 484: int is acceptable for float
    if annotation is int:
        return type(value) is int  # a bool does not match int
    return _is_instance(value, annotation)


def _is_instance(value: object, kind: type) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # a Protocol without @runtime_checkable
        return True


def _named_by(alias: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the type that a `type` statement names, with its arguments; Any for a TypeVar or a forward reference."""
    named: Any = getattr(alias, "__value__", Any)
    declared = getattr(alias, "__type_params__", ())
    if not all(isinstance(parameter, typing.TypeVar) for parameter in declared):
        return Any  # how a TypeVarTuple takes its arguments is not looked at
    if len(declared) != len(arguments):  # no arguments, or fewer because of defaults
        return named
    given = dict(zip(declared, arguments, strict=True))
    if named in declared:
        return given[named]
    parameters = getattr(named, "__parameters__", ())
    return named[tuple(given[parameter] for parameter in parameters)] if parameters else named


def _matches_typed_dict(value: Any, annotation: Any) -> bool:
    entries, fields = value, _typed_dict_fields(annotation)
    if not isinstance(value, dict):
        return False
    if not annotation.__required_keys__ <= entries.keys() <= fields.keys():
        return False
    return all(matches(item, fields[name]) for name, item in entries.items())


@functools.cache
def _typed_dict_fields(annotation: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(annotation)
    except Exception:  # noqa: BLE001 - a name cannot be resolved here, but the keys can be compared
        return dict.fromkeys(annotation.__annotations__, Any)


def _matches_union(value: object, arguments: tuple[Any, ...]) -> bool:
    return any(matches(value, argument) for argument in arguments)


def _matches_literal(value: object, arguments: tuple[Any, ...]) -> bool:
    return any(type(value) is type(argument) and value == argument for argument in arguments)


def _matches_annotated(value: object, arguments: tuple[Any, ...]) -> bool:
    base, *metadata = arguments
    if not matches(value, base):
        return False
    if value is None:  # as a union may allow
        return True
    # The items were compared above, and msgspec cannot convert all of them: enum members and models, for example.
    # Nor does it take constraints on a union.
    if type(value) in _CONTAINERS or _MATCHERS.get(typing.get_origin(base)) is _matches_union:
        base = type(value)
    for item in metadata:
        if isinstance(item, msgspec.Meta):
            try:
                msgspec.convert(value, typing.Annotated[base, item])
            except msgspec.ValidationError:
                return False
            except TypeError as exc:
                raise ConfigError(
                    f"{item!r} in the type of a SessionKey cannot be checked for a value of type "
                    f"{type(value).__name__}; remove it, or put it on one type of a union"
                ) from exc
    return True


_OF_CONTAINERS = frozenset({"builtins", "collections", "collections.abc"})
_CONTAINERS = frozenset({list, dict, tuple, set, frozenset})
_MATCHERS: dict[Any, Callable[[object, tuple[Any, ...]], bool]] = {
    typing.Union: _matches_union,
    types.UnionType: _matches_union,
    typing.Literal: _matches_literal,
    typing.Annotated: _matches_annotated,
}
