"""The mapping part of a session: values under plain and typed keys, read and written in memory."""

from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, MutableMapping, ValuesView
from typing import Any, Self, TypeVar, overload

from msgspec import UNSET, Raw

from sessioncore._errors import CodecError, ConfigError, CorruptRecord
from sessioncore.session._annotations import matches
from sessioncore.session._base import SessionBase
from sessioncore.session._key_checks import check_value, checked
from sessioncore.session._keys import AnyKey, KeyedValues, KeyFor, SessionKey
from sessioncore.session._mutate import mutate
from sessioncore.session._pending import DROP, SET
from sessioncore.session._state import SessionState

__all__ = ["SessionMapping"]

T = TypeVar("T")
R = TypeVar("R")
D = TypeVar("D")
_MISSING: Any = object()  # not UNSET, which is a storable value


class SessionMapping(SessionBase, MutableMapping[str, Any]):
    """The part of a `Session` that is a mapping."""

    __slots__ = ()

    @overload
    def __getitem__(self, key: KeyFor[Any, R]) -> R: ...
    @overload
    def __getitem__(self, key: str) -> Any: ...
    def __getitem__(self, key: AnyKey) -> Any:
        state = (self.accessed and self._state) or self._use()  # `_get_state` without a call
        if type(key) is not str:
            return self._get_typed(key)
        values = state.values
        value = values.items.get(key, _MISSING)
        if type(value) is Raw:
            return self._decode(state, key, value)
        if value is _MISSING:
            if values.issued_defaults is None:
                raise KeyError(key)
            return self._current_items()[key]
        return value

    @overload
    def __setitem__(self, key: SessionKey[T], value: T) -> None: ...
    @overload
    def __setitem__(self, key: str, value: Any) -> None: ...
    def __setitem__(self, key: "str | SessionKey[Any]", value: Any) -> None:
        name = key if type(key) is str else self._key_name_for(key, value)
        state = (self.accessed and self._state) or self._use()
        pending = state.pending or state.begin_write()
        if type(value) is Raw:  # it would be mistaken for a value that is stored already
            raise ConfigError("msgspec.Raw cannot be stored; store the decoded value")
        state.values.items[name] = value
        pending.changes[name] = SET

    def __delitem__(self, key: AnyKey) -> None:
        self._check_not_released()
        name = key if type(key) is str else self._key_name(key)
        items = self._current_items()
        if name not in items:
            raise KeyError(name)
        pending = self._get_state().begin_write()
        del items[name]
        pending.changes[name] = DROP
        pending.change_order()

    def __iter__(self) -> Iterator[str]:
        return iter(self._current_items())

    def __len__(self) -> int:
        return len(self._current_items())

    def __contains__(self, key: object) -> bool:
        return (key.name if isinstance(key, SessionKey) else key) in self._current_items()

    def keys(self) -> KeysView[str]:
        """Return the keys, like dict; this counts as a use."""
        self._get_state()
        return super().keys()

    def values(self) -> ValuesView[Any]:
        """Return the values, like dict; this counts as a use."""
        self._get_state()
        return super().values()

    def items(self) -> ItemsView[str, Any]:
        """Return the pairs of keys and values, like dict; this counts as a use."""
        self._get_state()
        return super().items()

    @overload
    def update(self, other: KeyedValues, /, **items: Any) -> None: ...
    @overload
    def update(self, other: Iterable[tuple[str | SessionKey[Any], Any]] = (), /, **items: Any) -> None: ...
    def update(self, other: Any = (), /, **items: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]  # wider: typed keys
        """Store several values, like dict.update; keys are plain or typed."""
        self._check_not_released()
        super().update(other, **items)

    def __ior__(self, other: KeyedValues) -> Self:
        self.update(other)
        return self

    @overload
    def get(self, key: KeyFor[Any, R]) -> R | None: ...
    @overload
    def get(self, key: KeyFor[T, R], default: T) -> R: ...
    @overload
    def get(self, key: KeyFor[Any, R], default: D) -> R | D: ...
    @overload
    def get(self, key: str) -> Any: ...
    @overload
    def get(self, key: str, default: Any) -> Any: ...
    def get(self, key: AnyKey, default: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # wider: typed keys
        """Return the value under `key`, or `default`."""
        state = (self.accessed and self._state) or self._use()
        values = state.values
        if type(key) is str and values.issued_defaults is None:
            value: Any = values.items.get(key, _MISSING)
            if type(value) is Raw:
                return self._decode(state, key, value)
            return default if value is _MISSING else value
        if key not in self:
            own = isinstance(key, SessionKey) and (key.default is not UNSET or key.default_factory is not None)
            if not own or default is not None:
                return default
        return self[key]  # of a missing key, its own default

    @overload
    def set(self, key: SessionKey[T], value: T) -> None: ...
    @overload
    def set(self, key: str, value: Any) -> None: ...
    def set(self, key: Any, value: Any) -> None:
        """Store `value` under `key`: the same as `session[key] = value`."""
        self[key] = value

    def delete(self, key: "str | SessionKey[Any]") -> None:
        """Remove `key`, if it is there."""
        self._check_not_released()
        if key in self:
            del self[key]

    @overload
    def pop(self, key: KeyFor[Any, R]) -> R: ...
    @overload
    def pop(self, key: KeyFor[T, R], default: T) -> R: ...
    @overload
    def pop(self, key: KeyFor[Any, R], default: D) -> R | D: ...
    @overload
    def pop(self, key: str, default: Any = ...) -> Any: ...
    def pop(self, key: Any, default: Any = _MISSING) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # wider: typed keys
        """Remove `key` and return its value; if it is missing, return `default`, never the default of a typed key.

        A value that cannot be read is removed, too; then this returns `default`, or raises if there is none.

        Raises:
            KeyError: the key is missing, and there is no default.
            CodecError: its value cannot be read, and there is no default.
        """
        self._check_not_released()
        if key not in self:
            if default is _MISSING:
                raise KeyError(key)
            return default
        try:
            return self._take(key)
        except CodecError:
            if default is _MISSING:
                raise
            return default

    @overload
    def setdefault(self, key: KeyFor[T, R], default: T = ...) -> R: ...
    @overload
    def setdefault(self, key: str, default: Any = None) -> Any: ...
    def setdefault(self, key: Any, default: Any = _MISSING) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # wider: typed keys
        """Return the value under `key`; if it is missing, store `default` first, or else a typed key's own default."""
        self._check_not_released()
        name: AnyKey = key
        if key not in self:
            if default is _MISSING:
                default = self._get_default(name) if isinstance(name, SessionKey) else None
            self[key] = default
        return self[key]

    def popitem(self) -> tuple[str, Any]:
        """Remove the newest key, and return it with its value, like dict.

        Raises:
            KeyError: the session is empty.
            CodecError: the value cannot be read; the key was removed.
        """
        self._check_not_released()
        visible = self._current_items()
        if not visible:
            raise KeyError("popitem(): the session is empty")
        name = next(reversed(visible))
        return name, self._take(name)

    def clear(self) -> None:
        """Remove every key, including keys whose values cannot be decoded."""
        self._check_not_released()
        for name in list(self._current_items()):
            del self[name]

    @overload
    def mutate(self, key: KeyFor[T, R], fn: Callable[[T], T], default: T = ...) -> R: ...
    @overload
    def mutate(self, key: str, fn: Callable[[Any], Any], default: Any = ...) -> Any: ...
    def mutate(self, key: AnyKey, fn: Callable[[Any], Any], default: Any = UNSET) -> Any:
        """Replace the value under `key` with `fn(value)`, and return the result; no parallel update is lost.

        `fn` is applied again if the commit meets a conflict, so its result must depend on its
        argument only. If the result is changed in place later, the whole value is written instead.

        Raises:
            KeyError: the key is missing and there is no `default`.
            ConfigError: `fn` changed the value in place and returned None.
            CodecError: the value cannot be read; or it does not have the type of a typed key, before `fn` or after it.
        """
        state = self._get_state()
        items = self._current_items()
        if isinstance(key, SessionKey):
            if default is UNSET:
                default = key.default_factory() if key.default_factory is not None else key.default
            fn = checked(key, fn, state.values.codec)
        name = key if type(key) is str else self._key_name(key)
        if name in items:
            self.get(key)  # decodes the value, and compares its type with a typed key's
        return mutate(state, name, fn, default)

    def _take(self, key: AnyKey) -> Any:
        """Return the value under `key`, which must exist, and remove it, also if it cannot be read."""
        try:
            value = self[key]
        except CodecError:
            del self[key]
            raise
        del self[key]
        return value

    def _current_items(self) -> dict[str, Any]:
        """Return the keys and values, including typed defaults that were changed in place."""
        state = self._get_state()
        if state.values.issued_defaults is not None:
            state.adopt_defaults()
        return state.values.items

    def _key_name(self, key: AnyKey) -> str:
        if isinstance(key, SessionKey):
            self._persistence.codec.registry.register_annotation(key.type)
            return key.name
        if isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # not every caller is type-checked
            return str.__str__(key)  # a StrEnum member, for example, becomes plain text
        raise TypeError(f"session keys are str or SessionKey, not {type(key).__name__}")

    def _key_name_for(self, key: AnyKey, value: Any) -> str:
        """Return the name under which to store `value`, which must be of the type of a typed key."""
        name = self._key_name(key)
        if isinstance(key, SessionKey):
            check_value(key, value, self._persistence.codec)
        return name

    def _decode(self, state: SessionState, name: str, raw: Raw) -> Any:
        try:
            return state.values.decode(name, raw)
        except CorruptRecord as exc:
            self._persistence.report_corrupt(state, exc)
            raise

    def _get_typed(self, key: AnyKey) -> Any:
        name = self._key_name(key)
        if not isinstance(key, SessionKey):
            return self[name]
        if name not in self._current_items():
            return self._get_default(key)
        value = self[name]
        if not matches(value, key.type):
            error = CorruptRecord(
                f"session key {name!r} holds a {type(value).__name__}, which does not match {key!r}; "
                "delete the key, or read it by its plain name"
            )
            self._persistence.report_corrupt(self._get_state(), error)
            raise error
        return value

    def _get_default(self, key: SessionKey[Any]) -> Any:
        if key.default is not UNSET:
            return key.default
        if key.default_factory is None:
            raise KeyError(key.name)
        return self._get_state().values.issue_default(key.name, key.default_factory)
