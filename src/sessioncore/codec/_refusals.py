"""Why a value cannot be encoded or decoded: the exception that collects the path to it, and advice on its type.

A path consists of positions and of names that the program has chosen: fields and classes. The
keys of dicts are data of visitors, so an entry is named by its position, counted from zero.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

from sessioncore._errors import CodecError, ConfigError

__all__ = ["Label", "Path", "Refused", "advice", "entry", "item", "key_or_value", "member", "name_of"]

Label: TypeAlias = Callable[[int], str]  # returns what the part with this number is called
Path: TypeAlias = list["tuple[Label, int] | str"]  # from the inside out


class Refused(Exception):
    """Raised inside the codec, which turns it into a public error that names the session key.

    `path` leads from the part that cannot be encoded outwards.
    """

    def __init__(self, text: str, error: type[CodecError] = CodecError, *, too_deep: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.error = error
        self.too_deep = too_deep  # then the path is as long as the value is deep, so the text leaves it out
        self.path: Path = []

    def public(self, key: str) -> CodecError:
        """Return the public error."""
        steps = [] if self.too_deep else self.path[::-1]
        place = "".join(f", {step if isinstance(step, str) else step[0](step[1])}" for step in steps)
        return self.error(f"session key {key!r}{place}: {self.text}")


# The built-in type to store in place of a value that a session cannot hold, such as a range.
_COPIES: Final = ((bytearray | memoryview, "bytes"), (Mapping, "dict"), (Iterable, "list"))


def item(number: int) -> str:
    """Name an item of a sequence."""
    return f"item {number}"


def entry(number: int) -> str:
    """Name a value of a dict."""
    return f"entry {number}"


def key_or_value(number: int) -> str:
    """Name a part of a dict whose keys and values are encoded in turn."""
    return f"the key of entry {number // 2}" if number % 2 == 0 else entry(number // 2)


def member(_: int) -> str:
    """Name a member of a set, which has no position."""
    return "a member"


def name_of(cls: type) -> str:
    """Return the full name of a class: the short one may mean another class, such as `bool` and `numpy.bool`."""
    return f"{cls.__module__}.{cls.__qualname__}"


def advice(value: object, base: type | None, flattened: bool, access: Callable[[Any], object]) -> str:
    """Return what to do about a value of an unregistered type.

    `base` is the built-in type from which it inherits; `flattened`: the configuration could store
    the value as that; `access` raises ConfigError for a class that has to be registered with functions.
    """
    cls = type(value)
    if inspect.isawaitable(value):
        return "it looks as if an `await` were missing"
    if cls.__module__ == "builtins":  # a function, a generator, a module
        copy = next((name for kind, name in _COPIES if isinstance(value, kind)), None)
        held = "a value that can be stored, such as a str or a list" if copy is None else f"{copy}(value)"
        return f"no session can hold one; store {held}"
    register = f"call store.register_type({name_of(cls)}"
    if hasattr(cls, "tolist"):  # scalars and arrays of numpy and its like
        return f"store what its tolist() returns, or {register}, encode=..., decode=...)"
    try:
        access(cls)
    except ConfigError as exc:
        if base is not None:
            return f"store a plain {base.__name__} in its place, or {register}, encode=..., decode=...)"
        return f"{register}, encode=..., decode=...), or store a plain value in its place; {exc}"
    other = f", or store a plain {base.__name__} in its place" if base else ""
    return f"{register}){other}" + (", or set builtin_subclasses='flatten'" if flattened else "")
