"""How instances are taken apart into named fields and built from them: what the kinds of classes have in common."""

import copy
import inspect
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import contextmanager
from types import MemberDescriptorType
from typing import Any

from msgspec import Struct

from sessioncore._errors import ConfigError
from sessioncore.codec._refusals import Path, Refused, name_of

__all__ = [
    "ClassAccess", "assume_same", "check_new", "contents_kept", "field_reader", "missing_field", "name_field",
    "refuse_hidden_fields", "stored_fields", "type_of", "unset_field",
]  # fmt: skip

type_of: Callable[[Any], Any] = type  # for type checkers, which would take the type of Any for partly unknown
_UNSET = object()
_MAPPINGS: frozenset[type] = frozenset({dict, OrderedDict, defaultdict, Counter})
_SEQUENCES: frozenset[type] = frozenset({list, deque})
_MUTABLE: frozenset[type] = _MAPPINGS | _SEQUENCES | {set}


class ClassAccess(Struct, frozen=True):
    """What the codec does with the instances of one class.

    `name_part` puts the names of fields into a path that leads into the result of `take_apart`.
    `same` compares an instance with one that was read back; None: building one cannot fail, so none is read back.
    """

    take_apart: Callable[[Any], Any]
    build: Callable[[Any], Any]
    name_part: Callable[[Path, Any], None] | None = None
    same: Callable[[Any, Any], bool] | None = None


def assume_same(_value: object, _again: object) -> bool:
    """Return True: the `same` of classes whose instances are right if they can be built at all."""
    return True


def name_field(path: Path, parts: Any) -> None:
    """Replace the position of a field by its name."""
    step = path.pop()
    path.append(step if isinstance(step, str) else f"field {[*parts][step[1]]!r}")


def missing_field(cls: type, name: str) -> Refused:
    """Return the error for stored data without a field that the class needs."""
    return Refused(f"{name_of(cls)} has the field {name!r} without a default, which was not stored")


def field_reader(
    cls: type, names: Collection[str], may_be_unset: Collection[str] = ()
) -> Callable[[Any], dict[str, Any]]:
    """Return the function that reads the fields of an instance, and refuses one that could not be built again."""
    required = [name for name in names if name not in may_be_unset]

    def take_apart(value: Any) -> dict[str, Any]:
        parts = {name: part for name in names if (part := getattr(value, name, _UNSET)) is not _UNSET}
        if len(parts) < len(names):
            for name in required:
                if name not in parts:
                    raise unset_field(cls, name)
        return parts

    return take_apart


def unset_field(cls: type, name: str) -> Refused:
    """Return the error for an instance that lacks a field."""
    return Refused(f"the field {name!r} of {name_of(cls)} is not set, so the value could not be read back; set it")


def stored_fields(cls: type, parts: Any) -> dict[str, Any]:
    """Return the fields that were stored, perhaps while the class was of another kind."""
    if type_of(parts) is list and len(parts) == 4:
        parts = parts[0]  # it was a pydantic model
    if type_of(parts) is not dict:
        raise Refused(f"{name_of(cls)} has fields, but what was stored has none")
    fields: dict[str, Any] = parts
    return fields


def refuse_hidden_fields(cls: Any, names: Iterable[str]) -> None:
    """Refuse a class whose fields are not plain attributes, because a value could be lost on its way in or out.

    Raises:
        ConfigError: something else stands between the field and its value.
    """
    for name in names:
        found: Any = inspect.getattr_static(cls, name, None)
        if isinstance(found, MemberDescriptorType):
            continue  # a slot
        kind = type_of(found)
        if hasattr(kind, "__set__") or hasattr(kind, "__delete__"):
            raise ConfigError(
                f"the field {name!r} of {name_of(cls)} is hidden by a descriptor ({kind.__name__}), as in rows "
                "of an ORM; store the key of the row or a plain copy, or pass encode= and decode="
            )
        if cls.__dictoffset__ == 0:
            raise ConfigError(f"the field {name!r} of {name_of(cls)} has no slot; pass encode= and decode=")


@contextmanager
def contents_kept(parts: Iterable[Any]) -> Generator[None]:
    """Undo what is changed in place, in any container in `parts`: `__post_init__` may do so."""
    found: list[tuple[Any, Any]] = []
    queue = [*parts]
    while queue:
        part = queue.pop()
        kind = type_of(part)
        if kind in _MUTABLE:
            found.append((part, copy.copy(part)))
        if kind in _MAPPINGS:
            queue += part.values()
        elif kind in _SEQUENCES or kind is tuple:
            queue += part
    yield
    for part, before in found:
        part.clear()
        if type(part) in _SEQUENCES:
            part.extend(before)
        else:
            part.update(before)


def check_new(cls: Any) -> None:
    """Refuse a class whose `__new__` cannot make the instances into which fields are put."""
    if cls.__new__ is object.__new__ or inspect.isabstract(cls):
        return
    try:
        one, other = cls.__new__(cls), cls.__new__(cls)
    except Exception as exc:  # noqa: BLE001 - a user's `__new__` can raise anything
        raise ConfigError(
            f"__new__ of {cls.__qualname__} needs arguments ({type(exc).__name__}); pass encode= and decode="
        ) from None
    if one is other or type(one) is not cls:
        raise ConfigError(f"__new__ of {cls.__qualname__} makes no new instance; pass encode= and decode=")
