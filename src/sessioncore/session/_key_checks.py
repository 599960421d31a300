"""Refuses to write a value with a typed key if the key could not read it back."""

from collections.abc import Callable
from typing import Any

from sessioncore._errors import CodecError
from sessioncore.codec._codec import Codec
from sessioncore.session._annotations import matches
from sessioncore.session._keys import SessionKey

__all__ = ["check_value", "checked"]


def check_value(key: SessionKey[Any], value: Any, codec: Codec) -> None:
    """Raise if neither `value` nor what is read back in its place is of the key's type.

    The two can differ with `builtin_subclasses="flatten"`: a numpy.float64 is read back as a float, which
    SessionKey("price", float) accepts.

    Raises:
        CodecError: both are of another type.
    """
    if matches(value, key.type) or matches(_read_back(key.name, value, codec), key.type):
        return
    raise CodecError(
        f"session key {key.name!r}: a {type(value).__name__} does not match {key!r}, which could not read it back; "
        "store a value of that type, or write it by the key's plain name"
    )


def _read_back(name: str, value: Any, codec: Codec) -> Any:
    try:
        return codec.decode(name, codec.encode(name, value))
    except CodecError:
        return value


def checked(key: SessionKey[Any], function: Callable[[Any], Any], codec: Codec) -> Callable[[Any], Any]:
    """Return `function` with a check of each value that it returns."""

    def apply(value: Any) -> Any:
        result = function(value)
        check_value(key, result, codec)
        return result

    return apply
