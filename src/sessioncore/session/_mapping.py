"""The mapping that handlers hold: values by plain and typed keys, read and written in memory."""

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from msgspec import UNSET, Raw

from sessioncore._errors import ConfigError, CorruptRecord
from sessioncore.session._annotations import matches
from sessioncore.session._keys import SessionKey
from sessioncore.session._mutate import mutate
from sessioncore.session._openers import Opener
from sessioncore.session._pending import DROP, SET
from sessioncore.session._persistence import Persistence
from sessioncore.session._state import SessionState
from sessioncore.session._unusable import ErrorFactory, released
from sessioncore.session._values import Values

if TYPE_CHECKING:  # a session knows its store, and the store makes sessions
    from sessioncore._store import SessionStore

__all__ = ["SessionMapping", "bind_request"]

T = TypeVar("T")
D = TypeVar("D")
_MISSING: Any = object()  # not UNSET: an optional field of a Struct may hold that, and it may be stored


class SessionMapping(MutableMapping[str, Any]):
    """The part of a `Session` that is a mapping.

    `accessed`: whether the session was used in this request; asking does not count.
    """

    __slots__ = ("_failure", "_open", "_persistence", "_state", "_store", "accessed")

    def __init__(self, persistence: Persistence, store: "SessionStore", state: SessionState | None) -> None:
        self._persistence = persistence
        self._store = store
        self._state = state  # None: it was not used yet
        self._open: Opener | None = None  # None: it is open, or the request is over
        self._failure: ErrorFactory | None = None  # makes the error that a use or a verb met; None: none did
        self.accessed: bool = state is not None

    @overload
    def __getitem__(self, key: SessionKey[T]) -> T: ...
    @overload
    def __getitem__(self, key: str) -> Any: ...
    def __getitem__(self, key: "str | SessionKey[Any]") -> Any:
        state = self._state or self._opened()
        if type(key) is not str:
            return self._typed(key)
        values = state.values
        value = values.items.get(key, _MISSING)
        if type(value) is Raw:
            return self._decode(state, key, value)
        if value is _MISSING:
            if values.issued_defaults is None:
                raise KeyError(key)
            return self._visible()[key]
        return value

    @overload
    def __setitem__(self, key: SessionKey[T], value: T) -> None: ...
    @overload
    def __setitem__(self, key: str, value: Any) -> None: ...
    def __setitem__(self, key: "str | SessionKey[Any]", value: Any) -> None:
        name = key if type(key) is str else self._name(key)
        state = self._state or self._opened()
        pending = state.pending or state.begin_write()
        if type(value) is Raw:  # it would pass for a value that was stored already
            raise ConfigError("msgspec.Raw cannot be stored; store the value that it holds")
        state.values.items[name] = value
        pending.changes[name] = SET

    def __delitem__(self, key: "str | SessionKey[Any]") -> None:
        name = key if type(key) is str else self._name(key)
        items = self._visible()
        if name not in items:
            raise KeyError(name)
        pending = self._use().begin_write()
        del items[name]
        pending.changes[name] = DROP
        pending.change_order()

    def __iter__(self) -> Iterator[str]:
        return iter(self._visible())

    def __len__(self) -> int:
        return len(self._visible())

    def __contains__(self, key: object) -> bool:
        return (key.name if isinstance(key, SessionKey) else key) in self._visible()

    def keys(self) -> KeysView[str]:
        """The keys, as dict shows them; asking counts as use."""
        self._use()
        return super().keys()

    def values(self) -> ValuesView[Any]:
        """The values, as dict shows them; asking counts as use."""
        self._use()
        return super().values()

    def items(self) -> ItemsView[str, Any]:
        """The pairs, as dict shows them; asking counts as use."""
        self._use()
        return super().items()

    def __ior__(self, other: "Mapping[str, Any]") -> Self:
        self.update(other)
        return self

    def __repr__(self) -> str:
        state = self._state
        if state is None:
            return "<Session: not used yet>"
        loaded = state.loaded
        name = None if loaded is None else loaded.handle
        return f"<Session handle={name} fresh={loaded is None} keys={len(state.values.items)}>"

    @overload
    def get(self, key: SessionKey[T]) -> T | None: ...
    @overload
    def get(self, key: SessionKey[T], default: T) -> T: ...
    @overload
    def get(self, key: SessionKey[T], default: D) -> T | D: ...
    @overload
    def get(self, key: str) -> Any: ...
    @overload
    def get(self, key: str, default: Any) -> Any: ...
    def get(self, key: "str | SessionKey[Any]", default: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # wider: typed keys
        """Return the value under `key`, or `default`."""
        state = self._state or self._opened()
        values = state.values
        if type(key) is str and values.issued_defaults is None:
            value: Any = values.items.get(key, _MISSING)
            if type(value) is Raw:
                return self._decode(state, key, value)
            return default if value is _MISSING else value
        if key not in self and (not isinstance(key, SessionKey) or default is not None):
            return default
        try:
            return self[key]
        except KeyError:
            return default

    @overload
    def set(self, key: SessionKey[T], value: T) -> None: ...
    @overload
    def set(self, key: str, value: Any) -> None: ...
    def set(self, key: Any, value: Any) -> None:
        """Store `value` under `key`: the same as `session[key] = value`."""
        self[key] = value

    def delete(self, key: "str | SessionKey[Any]") -> None:
        """Remove `key`; a missing one is no error."""
        if key in self:
            del self[key]

    @overload
    def pop(self, key: SessionKey[T]) -> T: ...
    @overload
    def pop(self, key: SessionKey[T], default: T) -> T: ...
    @overload
    def pop(self, key: SessionKey[T], default: D) -> T | D: ...
    @overload
    def pop(self, key: str, default: Any = ...) -> Any: ...
    def pop(self, key: Any, default: Any = _MISSING) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # wider: typed keys
        """Remove `key` and return its value; if it is missing, `default`, and the key's own default counts for none."""
        if key not in self:
            if default is _MISSING:
                raise KeyError(key)
            return default
        value = self[key]
        del self[key]
        return value

    @overload
    def setdefault(self, key: SessionKey[T], default: T) -> T: ...
    @overload
    def setdefault(self, key: str, default: Any = None) -> Any: ...
    def setdefault(self, key: Any, default: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # wider: typed keys
        """Return the value under `key`; if it is missing, store `default` first."""
        if key not in self:
            self[key] = default
        return self[key]

    def popitem(self) -> tuple[str, Any]:
        """Remove and return the newest key and its value, as dict does."""
        visible = self._visible()
        if not visible:
            raise KeyError("popitem(): the session is empty")
        name = next(reversed(visible))
        value = self[name]
        del self[name]
        return name, value

    def clear(self) -> None:
        """Remove every key; also those that cannot be read."""
        for name in list(self._visible()):
            del self[name]

    @overload
    def mutate(self, key: SessionKey[T], fn: Callable[[T], T], default: T = ...) -> T: ...
    @overload
    def mutate(self, key: str, fn: Callable[[Any], Any], default: Any = ...) -> Any: ...
    def mutate(self, key: "str | SessionKey[Any]", fn: Callable[[Any], Any], default: Any = UNSET) -> Any:
        """Replace the value under `key` by `fn(value)` and return it; no parallel update is lost.

        `fn` is applied again if the commit meets a conflict, so it must depend on its
        argument only.

        Raises:
            KeyError: the key is missing and there is no `default`.
        """
        state = self._use()
        items = self._visible()
        if isinstance(key, SessionKey):
            self._learn(key)
            if default is UNSET:
                default = key.default_factory() if key.default_factory is not None else key.default
            state.values.drop_default(key.name)
        name = key if type(key) is str else self._name(key)
        value = items.get(name)
        if type(value) is Raw:
            self._decode(state, name, value)
        return mutate(state, name, fn, default)

    def _use(self) -> SessionState:
        """Return the state, which the first use opens."""
        return self._state or self._opened()

    def _opened(self) -> SessionState:
        """Open the state, for the first use."""
        if self._open is None:  # the request is over, and never used it
            state = SessionState(Values(self._persistence.codec, {}), unusable=released)
        else:
            state = self._open()
        self.accessed = True
        self._state, self._open = state, None
        return state

    def _note_failure(self, failure: ErrorFactory | None) -> None:
        self._failure = failure

    def _visible(self) -> dict[str, Any]:
        """The keys and values, after typed defaults that were changed in place have become values."""
        state = self._use()
        if state.values.issued_defaults is not None:
            state.adopt_defaults()
        return state.values.items

    def _name(self, key: "str | SessionKey[Any]") -> str:
        if isinstance(key, SessionKey):
            self._learn(key)
            return key.name
        if isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # not every caller is type-checked
            return str.__str__(key)  # a StrEnum member, say: keys are stored as plain text
        raise TypeError(f"session keys are str or SessionKey, not {type(key).__name__}")

    def _learn(self, key: SessionKey[Any]) -> None:
        self._persistence.codec.registry.register_annotation(key.type)

    def _decode(self, state: SessionState, name: str, raw: Raw) -> Any:
        try:
            return state.values.decode(name, raw)
        except CorruptRecord as exc:
            self._persistence.report_corrupt(state, exc)
            raise

    def _typed(self, key: "str | SessionKey[Any]") -> Any:
        if not isinstance(key, SessionKey):
            return self[self._name(key)]
        self._learn(key)
        name: str = key.name
        if name not in self._visible():
            return self._default(key)
        value = self[name]
        if not matches(value, key.type):
            error = CorruptRecord(
                f"session key {name!r} holds a {type(value).__name__}, which does not fit {key!r}; "
                "delete the key, or read it by its name"
            )
            self._persistence.report_corrupt(self._use(), error)
            raise error
        return value

    def _default(self, key: SessionKey[Any]) -> Any:
        if key.default is not UNSET:
            return key.default
        if key.default_factory is None:
            raise KeyError(key.name)
        return self._use().values.issue_default(key.name, key.default_factory)


def bind_request(session: SessionMapping, opener: Opener | None, state: SessionState | None = None) -> None:
    """Let `opener` open the session at its first use; None: the request is over, and `state` is what it leaves."""
    session._open = opener  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # for the exchange alone
    session._state = state  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
