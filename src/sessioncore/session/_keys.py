"""Typed keys: the name of a session key together with the type of its value."""

import builtins
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar, overload

from msgspec import UNSET

from sessioncore._callables import is_sync_callable
from sessioncore._errors import ConfigError
from sessioncore.codec._builtin_values import BUILTIN

if TYPE_CHECKING:
    from typing_extensions import TypeForm  # part of each type checker

__all__ = ["AnyKey", "KeyFor", "KeyedValues", "SessionKey"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class KeyFor(Generic[T, T_co]):
    """What type checkers see of a `SessionKey[T]`: `KeyFor[T, T]`.

    The first type is what can be written, and must match exactly. The second is what a read
    returns, and may be used as any wider type: `",".join(session[NOTES])` needs an Iterable[str]
    and gets a list[str].
    """

    __slots__ = ()


class SessionKey(KeyFor[T, T]):
    """A session key that knows the type of its value: `CART = SessionKey("cart", list[Item], default_factory=list)`.

    Reading with it returns a value of that type. Reads and writes check the type at run time. A missing
    key returns the default; a default from `default_factory` is stored once it is changed, also
    in place. Using a key registers the types in its annotation with the store.

    Raises:
        ConfigError: there is no name, or a value such as `"int"` instead of a type, or there are both
            kinds of default, or `default` can change in place, or `default_factory` cannot be called.
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
    @overload  # type checkers that know no TypeForm need SessionKey[int | None]("age", int | None)
    def __init__(
        self,
        name: str,
        annotation: "TypeForm[T]",
        /,
        *,
        default: T = ...,
        default_factory: Callable[[], T] | None = None,
    ) -> None: ...
    def __init__(
        self, name: str, annotation: Any, /, *, default: Any = UNSET, default_factory: Callable[[], T] | None = None
    ) -> None:
        if not isinstance(name, str) or not name:  # pyright: ignore[reportUnnecessaryIsInstance]  # not every caller is type-checked
            raise ConfigError("a SessionKey needs a name, a non-empty str")
        if annotation is not None and type(annotation) in BUILTIN:
            raise ConfigError(
                f"SessionKey {name!r}: pass the type itself, such as list[str], not a {type(annotation).__name__}, "
                "which nothing can check"
            )
        if default is not UNSET and default_factory is not None:
            raise ConfigError(f"SessionKey {name!r}: pass default= or default_factory=, not both")
        if default_factory is not None and not is_sync_callable(default_factory):
            raise ConfigError(
                f"SessionKey {name!r}: default_factory= takes a class or a function that is not async, such as list"
            )
        if not _is_hashable(default):
            raise ConfigError(f"SessionKey {name!r}: all sessions would share a mutable default; use default_factory=")
        self.name: str = name
        self.type: Any = annotation
        self.default: Any = default
        self.default_factory: Callable[[], T] | None = default_factory

    # Two keys with the same name and type are equal. The hash leaves the type out, because it may be unhashable.

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SessionKey):
            return NotImplemented
        return bool(self.name == other.name and self.type == other.type)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"SessionKey({self.name!r}, {self.type!r})"


def _is_hashable(value: object) -> bool:
    """Return whether `value` can be hashed, which usually means that it cannot change."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


AnyKey: TypeAlias = str | KeyFor[Any, Any]


class KeyedValues(Protocol):
    """A mapping whose keys are plain or typed, or both; unlike Mapping, it is covariant in its keys."""

    def keys(self) -> Iterable[str | SessionKey[Any]]:
        """Return the keys."""
        ...

    def __getitem__(self, key: Any, /) -> Any:
        """Return the value under a key."""
        ...
