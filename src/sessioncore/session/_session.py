"""The session that handlers hold: a mapping, and the verbs of its life.

A session reads and writes its draft; what needs the storage it asks of its store
through `Keeper`. It knows no request and no response.
"""

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar, overload

from msgspec import UNSET, Raw

from sessioncore._config import SessionConfig
from sessioncore._errors import ConfigError, CorruptRecord, SessionReleased
from sessioncore._events import SessionInfo
from sessioncore.session._annotations import fits
from sessioncore.session._changes import DROP, SET
from sessioncore.session._draft import Draft
from sessioncore.session._keys import SessionKey
from sessioncore.session._states import LIVE

__all__ = ["Keeper", "Session", "check_owner", "released"]

T = TypeVar("T")
D = TypeVar("D")
MAX_OWNER = 1024  # characters; an owner is an account's ID, not a document
_MISSING: Any = object()  # not UNSET: an optional field of a Struct may hold that, and it may be stored


class Keeper(Protocol):
    """The part of a SessionStore that its sessions, and handlers by way of `session.store`, call."""

    @property
    def config(self) -> SessionConfig:
        """The store's configuration."""
        ...

    async def commit(self, draft: Draft, *, explicit: bool) -> None:
        """Bring a draft into the storage; `explicit`: SessionGone is raised, not swallowed."""
        ...

    async def end(self, draft: Draft) -> None:
        """End the record behind a draft, at once."""
        ...

    def report_corrupt(self, draft: Draft, error: CorruptRecord) -> None:
        """Tell that a value cannot be read."""
        ...

    async def delete(self, sid: str) -> bool:
        """See SessionStore.delete."""
        ...

    async def sessions_of(self, owner: str) -> list[SessionInfo]:
        """See SessionStore.sessions_of."""
        ...

    async def revoke(self, handle: str, *, owner: str | None = None) -> bool:
        """See SessionStore.revoke."""
        ...

    async def revoke_all(self, owner: str, *, keep: "Session | str | None" = None) -> int:
        """See SessionStore.revoke_all."""
        ...


class Session(MutableMapping[str, Any]):
    """The data of one visitor, as a mutable mapping from str to values.

    Raises:
        SessionReleased: it is used after its request.
        SessionNotLoaded: it is not to be had here, or not loaded yet.
        StorageUnavailable: it could not be loaded; raised on first use, so that
            routes which need no session still answer.
    """

    __slots__ = ("_draft", "_keeper")

    def __init__(self, draft: Draft, keeper: Keeper) -> None:
        self._draft = draft
        self._keeper = keeper

    # -- the mapping

    @overload
    def __getitem__(self, key: SessionKey[T]) -> T: ...
    @overload
    def __getitem__(self, key: str) -> Any: ...
    def __getitem__(self, key: "str | SessionKey[Any]") -> Any:
        draft = self._draft
        if not draft.open:
            draft.enter()
        if type(key) is not str:
            return self._typed(key)
        value = draft.items.get(key, _MISSING)
        if type(value) is Raw:
            return self._decode(key, value)
        if value is _MISSING:
            if draft.defaults is None:
                raise KeyError(key)
            draft.adopt_defaults()
            return draft.items[key]
        return value

    @overload
    def __setitem__(self, key: SessionKey[T], value: T) -> None: ...
    @overload
    def __setitem__(self, key: str, value: Any) -> None: ...
    def __setitem__(self, key: "str | SessionKey[Any]", value: Any) -> None:
        name = key if type(key) is str else self._name(key)
        draft = self._draft
        ops = draft.ops
        if ops is None:
            ops = draft.begin()
        if type(value) is Raw:  # it would pass for a value that was stored already
            raise ConfigError("msgspec.Raw cannot be stored; store the value that it holds")
        draft.items[name] = value
        ops[name] = SET

    def __delitem__(self, key: "str | SessionKey[Any]") -> None:
        name = key if type(key) is str else self._name(key)
        draft = self._draft
        ops = draft.ops
        if not draft.open:
            draft.enter()
        if draft.defaults is not None:
            draft.adopt_defaults()
        if name not in draft.items:
            raise KeyError(name)
        if ops is None:
            ops = draft.begin()
        del draft.items[name]
        ops[name] = DROP
        draft.shuffled = True

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

    def __ior__(self, other: "Mapping[str, Any]") -> "Session":
        self.update(other)
        return self

    def __repr__(self) -> str:
        draft = self._draft
        if draft.blocked is not None:
            return "<Session: not usable here>"
        name = draft.handle if draft.state is LIVE else None
        return f"<Session handle={name} fresh={draft.state is not LIVE} keys={len(draft.items)}>"

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
        draft = self._draft
        if not draft.open:
            draft.enter()
        if type(key) is str and draft.defaults is None:
            value: Any = draft.items.get(key, _MISSING)
            if type(value) is Raw:
                return self._decode(key, value)
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
        if not self._draft.open:
            self._draft.enter()
        if isinstance(key, SessionKey):
            self._learn(key)
            if default is UNSET:
                default = key.default_factory() if key.default_factory is not None else key.default
            self._draft.forget_default(key.name)
        name = key if type(key) is str else self._name(key)
        value = self._draft.items.get(name)
        if type(value) is Raw:
            self._decode(name, value)
        return self._draft.update(name, fn, default)

    # -- what it is

    @property
    def id(self) -> str:
        """The ID in force; of a fresh session the one that it will get if it is stored. Keep it secret."""
        self._use()
        return self._draft.id

    @property
    def handle(self) -> str:
        """The public name: safe in logs and URLs, useless as a credential."""
        self._use()
        return self._draft.handle

    @property
    def fresh(self) -> bool:
        """Whether nothing is stored yet."""
        self._use()
        return self._draft.state is not LIVE

    @property
    def empty(self) -> bool:
        """Whether there are no keys."""
        return not self._visible()

    @property
    def modified(self) -> bool:
        """Whether there are changes that are not committed, also in place."""
        draft = self._use()
        if draft.defaults is not None:
            draft.adopt_defaults()
        if draft.ops or draft.wishes is not None or draft.doubt is not None:
            return True
        return any(draft.changed_in_place(name) is not None for name in draft.read or ())

    @property
    def accessed(self) -> bool:
        """Whether the session was used in this request; asking does not count."""
        return self._draft.accessed

    @property
    def owner(self) -> str | None:
        """Whose session it is; None if nobody's."""
        return self._use().owner

    @property
    def details(self) -> dict[str, Any]:
        """A copy of what `login` or `bind_owner` was told about this session, such as a device's name."""
        draft = self._use()
        details: dict[str, Any] = draft.codec.decode("details", draft.details)
        return details

    @property
    def store(self) -> Keeper:
        """The store that this session belongs to."""
        return self._keeper

    @property
    def created_at(self) -> datetime:
        """When it began (of a session that is not stored: now); aware, UTC."""
        draft = self._use()
        if draft.record is None:
            return datetime.fromtimestamp(draft.config.clock(), UTC)
        return datetime.fromtimestamp(draft.record.created_at, UTC)

    @property
    def expires_at(self) -> datetime:
        """When it ends if it is not used again; aware, UTC."""
        return datetime.fromtimestamp(self._use().expires_at(), UTC)

    @property
    def idle_timeout(self) -> timedelta:
        """How long it lives without use."""
        return timedelta(seconds=self._use().idle)

    def set_idle_timeout(self, timeout: timedelta | None) -> None:
        """Give this session its own idle timeout, kept in its record; None: the configured one.

        The absolute deadline still ends it.

        Raises:
            ConfigError: not above zero.
        """
        if timeout is not None and not is_duration(timeout):
            raise ConfigError("set_idle_timeout() takes a timedelta above zero, at most 100 years, or None")
        self._draft.wish().idle = None if timeout is None else timeout.total_seconds()

    # -- its life

    def bind_owner(self, owner: str, **details: Any) -> None:
        """Put the session into the owner's index; prefer `login`, which also changes the ID.

        Raises:
            ConfigError: `owner` is not a str of 1 to 1024 characters.
            UnregisteredType: a detail cannot be stored.
        """
        check_owner(owner)
        encoded = self._draft.codec.encode("details", details)
        wishes = self._draft.wish()
        wishes.owner, wishes.details = owner, encoded

    async def login(self, owner: str, **details: Any) -> None:
        """Change the ID, bind the owner, start both clocks anew; another owner's data is dropped first.

        No I/O: the commit moves the record (ASVS 7.2.4), and the old ID is dead when
        the response starts.

        Raises:
            ConfigError: `owner` is not a str of 1 to 1024 characters.
            ResponseStarted: the client can no longer learn the new ID.
        """
        check_owner(owner)
        draft = self._draft
        encoded = draft.codec.encode("details", details)
        draft.refuse_after_start()
        stranger = draft.owner is not None and draft.owner != owner
        wishes = draft.rotate()
        if stranger:
            draft.drop_values()
        wishes.login, wishes.owner, wishes.details = True, owner, encoded
        wishes.cleared = wishes.cleared or stranger

    async def regenerate(self) -> None:
        """Give the session a new ID; data and absolute deadline stay. No I/O: the commit moves the record.

        Raises:
            ResponseStarted: the client can no longer learn the new ID.
        """
        self._draft.rotate()

    async def reset(self) -> None:
        """End the session now, everywhere, and start an empty one under a new ID.

        Raises:
            ResponseStarted: the client can no longer learn the new ID.
            StorageUnavailable: whether it was ended is unknown; nothing else changed.
        """
        self._draft.refuse_after_start()
        await self._keeper.end(self._draft)
        self._draft.mint_id()

    async def destroy(self) -> None:
        """End the session now, everywhere, and clear its data; something written later gets a new ID.

        Raises:
            StorageUnavailable: whether it was ended is unknown; nothing else changed.
        """
        self._use()
        await self._keeper.end(self._draft)

    async def save(self) -> None:
        """Store the changes now.

        Raises:
            SessionGone: it was ended meanwhile; nothing was stored.
            CodecError: a value cannot be stored; the text names its key.
            StorageUnavailable: whether it was stored is unknown.
        """
        self._use()
        await self._keeper.commit(self._draft, explicit=True)

    def release(self) -> None:
        """Give the session back: unsaved changes are dropped, later use raises SessionReleased."""
        self._draft.release(released)

    def mark_accessed(self) -> None:
        """Count as used, for frameworks that say so themselves."""
        self._use()

    # -- refused

    def __copy__(self) -> "Session":
        raise TypeError("a Session cannot be copied; use dict(session) for its data")

    def __deepcopy__(self, memo: object) -> "Session":
        raise TypeError("a Session cannot be copied; use dict(session) for its data")

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError("a Session cannot be pickled; use dict(session) for its data")

    # -- inside

    def _use(self) -> Draft:
        draft = self._draft
        if not draft.open:
            draft.enter()
        return draft

    def _visible(self) -> dict[str, Any]:
        """The keys and values, after typed defaults that were changed in place have become values."""
        draft = self._use()
        if draft.defaults is not None:
            draft.adopt_defaults()
        return draft.items

    def _name(self, key: "str | SessionKey[Any]") -> str:
        if isinstance(key, SessionKey):
            self._learn(key)
            return key.name
        if isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # not every caller is type-checked
            return str.__str__(key)  # a StrEnum member, say: keys are stored as plain text
        raise TypeError(f"session keys are str or SessionKey, not {type(key).__name__}")

    def _learn(self, key: SessionKey[Any]) -> None:
        self._draft.codec.registry.learn(key.type)

    def _decode(self, name: str, raw: Raw) -> Any:
        try:
            return self._draft.decode(name, raw)
        except CorruptRecord as exc:
            self._keeper.report_corrupt(self._draft, exc)
            raise

    def _typed(self, key: "str | SessionKey[Any]") -> Any:
        if not isinstance(key, SessionKey):
            return self[self._name(key)]
        self._learn(key)
        name: str = key.name
        try:
            value = self[name]
        except KeyError:
            return self._default(key)
        if not fits(value, key.type):
            error = CorruptRecord(
                f"session key {name!r} holds a {type(value).__name__}, which does not fit {key!r}; "
                "delete the key, or read it by its name"
            )
            self._keeper.report_corrupt(self._draft, error)
            raise error
        return value

    def _default(self, key: SessionKey[Any]) -> Any:
        draft = self._draft
        if key.default is not UNSET:
            return key.default
        if key.default_factory is None:
            raise KeyError(key.name)
        if draft.defaults is None:
            draft.defaults = {}
        if key.name not in draft.defaults:
            value = key.default_factory()
            draft.defaults[key.name] = (value, draft.codec.encode(key.name, value))
        return draft.defaults[key.name][0]


def released() -> SessionReleased:
    return SessionReleased(
        "this session was released with its request; in background work, open it anew with store.open(session.id)"
    )


def is_duration(value: object) -> bool:
    """Tell whether `value` is a timedelta above zero, at most 100 years."""
    return isinstance(value, timedelta) and timedelta() < value <= timedelta(days=36500)


def is_storable(text: str) -> bool:
    """Tell whether every database can hold this text: valid Unicode without NUL."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def check_owner(owner: object) -> None:
    """Refuse what cannot be an owner, such as the number of an account."""
    if type(owner) is not str or not 0 < len(owner) <= MAX_OWNER or not is_storable(owner):
        raise ConfigError(f"an owner is a str of 1 to {MAX_OWNER} Unicode characters without NUL, such as str(user.id)")
