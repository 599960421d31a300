"""Typed keys: a name and a type that belong together, written down once."""

import builtins
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from msgspec import UNSET

from sessioncore._errors import ConfigError

__all__ = ["SessionKey"]

T = TypeVar("T")


class SessionKey(Generic[T]):
    """A session key that knows the type of its value: `CART = SessionKey("cart", list[Item], default_factory=list)`.

    Reading through it gives a value of that type, for the type checker and at run
    time. A missing key gives the default; one from `default_factory` is stored once
    it is changed, also in place. Using a key teaches the store the types it names.

    Raises:
        ConfigError: no name, or both kinds of default.
    """

    __slots__ = ("default", "default_factory", "name", "type")

    @overload
    def __init__(
        self,
        name: str,
        annotation: builtins.type[T],
        /,
        *,
        default: T = ...,
        default_factory: Callable[[], T] | None = None,
    ) -> None: ...
    @overload  # what is no class, such as `int | None`: write SessionKey[int | None](...) for the type checker
    def __init__(
        self, name: str, annotation: Any, /, *, default: T = ..., default_factory: Callable[[], T] | None = None
    ) -> None: ...
    def __init__(
        self, name: str, annotation: Any, /, *, default: Any = UNSET, default_factory: Callable[[], T] | None = None
    ) -> None:
        if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance]  # not every caller is type-checked
            raise ConfigError("a SessionKey needs a name")
        if default is not UNSET and default_factory is not None:
            raise ConfigError(f"SessionKey {name!r}: give default= or default_factory=, not both")
        if not _is_hashable(default):
            raise ConfigError(f"SessionKey {name!r}: a default that can change is shared by all; use default_factory=")
        self.name: str = name
        self.type: Any = annotation
        self.default: Any = default
        self.default_factory: Callable[[], T] | None = default_factory

    # Two keys of one name and type mean the same, and type checkers let `KEY in session` pass.

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SessionKey):
            return NotImplemented
        return bool(self.name == other.name and self.type == other.type)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"SessionKey({self.name!r}, {self.type!r})"


def _is_hashable(value: object) -> bool:
    """Tell whether this can be hashed, as a rule because it cannot change."""
    try:
        hash(value)
    except TypeError:
        return False
    return True
