"""How pydantic models are taken apart and built, by the state that `copy` and `==` use.

Fields, which were set, extra and private attributes are kept; validators do not run again.
pydantic is not a dependency; its models are recognised by their attributes.
"""

from types import NoneType
from typing import Any

from sessioncore.codec._fields import (
    ClassAccess,
    assume_same,
    check_new,
    missing_field,
    refuse_hidden_fields,
    stored_fields,
    type_of,
    unset_field,
)
from sessioncore.codec._refusals import Path, Refused, name_of

__all__ = ["model_access"]

_FIELDS, _UNSET, _EXTRA, _PRIVATE = range(4)


def model_access(cls: Any) -> ClassAccess:
    """Return how a pydantic model is taken apart and built."""
    refuse_hidden_fields(cls, cls.model_fields)
    check_new(cls)

    def take_apart(value: Any) -> list[Any]:
        names, there = cls.model_fields, value.__dict__
        fields = {name: there[name] for name in names if name in there}
        if len(fields) < len(names):
            raise unset_field(cls, next(name for name in names if name not in there))
        extra: dict[str, Any] | None = value.__pydantic_extra__
        unset = [name for name in (*fields, *(extra or ())) if name not in value.__pydantic_fields_set__]
        return [fields, unset, extra, value.__pydantic_private__]

    def build(parts: Any) -> Any:
        stored = stored_fields(cls, parts)
        # What is not a list was stored while the class was of another kind.
        others: Any = parts[1:] if type_of(parts) is list else ([], None, None)
        unset, extra, private = others
        # Iterating over something else might not end: an IP network has up to 2**128 addresses.
        if type_of(unset) is not list or not {type_of(extra), type_of(private)} <= {dict, NoneType}:
            raise Refused(f"{name_of(cls)} is a pydantic model, but something else was stored")
        fields: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            if name in stored:
                fields[name] = stored[name]
            elif field.is_required():
                raise missing_field(cls, name)
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

    own_state = cls.__setstate__.__module__ != "pydantic.main"  # then it may fail
    return ClassAccess(take_apart, build, _name_part, assume_same if own_state else None)


def _name_part(path: Path, parts: Any) -> None:
    """Name a field or private attribute; the names of extra attributes may be data."""
    step = path.pop()
    part = step if isinstance(step, str) else step[1]
    if part == _EXTRA:
        path.append("the extra attributes")
    elif path and part in {_FIELDS, _PRIVATE}:
        inner = path.pop()
        path.append(inner if isinstance(inner, str) else f"field {[*parts[part]][inner[1]]!r}")


def _private_attributes(cls: Any, fields: dict[str, Any], stored: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the stored private attributes that the class still has, and defaults for those that it gained."""
    from pydantic_core import PydanticUndefined  # noqa: PLC0415 - already imported, like attr in `_dataclasses`

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
