"""SessionStore: the sessions of one application.

Adapters get the exchange of a request from it, and background work loads sessions with it.
"""

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Any, Self, TypeVar, overload

from sessioncore._config import SessionConfig, is_duration
from sessioncore._errors import ConfigError, SessionNotFound
from sessioncore._events import EventKind
from sessioncore._exchange import Exchange
from sessioncore._storage_capabilities import Clears, Purges
from sessioncore._storage_protocol import Storage, capability
from sessioncore.http._ids import handle_of, is_handle, is_id
from sessioncore.http._request_view import RequestView
from sessioncore.live._live_sessions import LiveSessions
from sessioncore.persistence._owners import SessionInfo
from sessioncore.persistence._probe import check_storage
from sessioncore.persistence._purging import purging
from sessioncore.persistence._store_context import StoreContext
from sessioncore.persistence._store_persistence import StorePersistence
from sessioncore.session._arguments import check_owner
from sessioncore.session._error_factories import not_loaded
from sessioncore.session._initial_states import fresh_state
from sessioncore.session._keys import KeyedValues, SessionKey
from sessioncore.session._session import Session, check_no_session, state_of
from sessioncore.storage.memory import MemoryStorage
from sessioncore.storage.memory._workers import warn_in_workers

__all__ = ["SessionStore"]

C = TypeVar("C", bound=type)


class SessionStore:
    """Loads, stores and ends sessions; `SessionStore()` has the production defaults, with sessions in memory.

    Methods that call the storage may raise StorageUnavailable; an argument that cannot work is a ConfigError.
    """

    __slots__ = ("_persistence",)

    def __init__(self, config: SessionConfig | None = None) -> None:
        if config is not None and not isinstance(config, SessionConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError("SessionStore takes a SessionConfig: write SessionStore(SessionConfig(storage=...))")
        context = StoreContext(SessionConfig() if config is None else config)
        self._persistence = StorePersistence(context, LiveSessions)

    def __repr__(self) -> str:
        return f"<SessionStore {self.storage!r}>"

    @property
    def config(self) -> SessionConfig:
        """The configuration; frozen."""
        return self._persistence.config

    @property
    def storage(self) -> Storage:
        """The storage that keeps the records."""
        return self._persistence.config.storage

    # -- types

    @overload
    def register_type(
        self,
        cls: C,
        /,
        *,
        name: str | None = None,
        aliases: Iterable[str] = (),
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
    ) -> C: ...
    @overload
    def register_type(
        self,
        cls: None = None,
        /,
        *,
        name: str | None = None,
        aliases: Iterable[str] = (),
        encode: Callable[[Any], Any] | None = None,
        decode: Callable[[Any], Any] | None = None,
    ) -> Callable[[C], C]: ...
    def register_type(self, cls: type | None = None, /, **options: Any) -> Any:
        """Allow instances of `cls` as session values; return `cls`, so that this works as a decorator.

        `name` identifies the class in stored records. The default is `module.qualname`, so pass the old one when
        you move the class; `aliases` are further names to accept. `encode(obj)` returns any supported value; as
        long as the object does not change, it must return an equal one, because a commit compares the two.
        `decode(value)` turns it back. Dataclasses, Structs, attrs classes, NamedTuples, Enums, pydantic models, and
        subclasses of a built-in type whose constructor takes a value of that type, need neither.

        Raises:
            ConfigError: the name or class is registered differently, `cls` needs `encode` and `decode`,
                or its instances could not be read back.
        """

        def register(given: C) -> C:
            self._persistence.codec.registry.register(given, **options)
            return given

        return register if cls is None else register(cls)

    def register_key(self, *keys: SessionKey[Any]) -> None:
        """Register the types of typed keys at the start of the program; otherwise each key's first use does so.

        Until then, values of these types can be neither stored under plain keys nor read.

        Raises:
            ConfigError: an argument is not a SessionKey.
        """
        for key in keys:
            if not isinstance(key, SessionKey):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigError(
                    f"register_key() takes SessionKey objects, not a {type(key).__name__}: write register_key(CART, "
                    "NOTES), or register_type(Item) for a class"
                )
        for key in keys:
            self._persistence.codec.registry.register_annotation(key.type)

    # -- sessions

    def exchange(self, request: RequestView) -> Exchange:
        """Return the exchange for the session of one request; for adapters."""
        return Exchange(Session(self._persistence, self, None, not_loaded), self._persistence, request)

    async def get(self, request: RequestView) -> Session:
        """Return the session of a request, a fresh one if it has none; the caller must call `save()` and `release()`.

        Raises:
            SessionNotLoaded, CrossSiteRequest: `skip` excludes this request, or another site made it.
        """
        exchange = self.exchange(request)
        await exchange.load(required=True)
        state = state_of(exchange.session)
        if state.loaded is not None and state.loaded.renewal_due:  # callers that only read need not save
            await self._persistence.commit(state)
        return exchange.session

    async def get_by_id(self, sid: str) -> Session:
        """Return the live session with this ID; the caller must call `save()` and `release()`.

        Raises:
            SessionNotFound: there is none.
        """
        state = await self._persistence.load_by_id(sid) if _is_well_formed(sid) else None
        if state is None:
            raise SessionNotFound("no live session has this ID; it may have ended or expired: create a new one")
        return Session(self._persistence, self, state)

    @asynccontextmanager
    async def open(self, sid: str) -> AsyncGenerator[Session]:
        """Open the session with this ID; it is saved if the block does not raise, and always released.

        Raises:
            SessionNotFound: there is none.
            SessionGone: it was ended while the block ran; nothing was stored.
        """
        session = await self.get_by_id(sid)
        try:
            yield session
            if state_of(session).limits.write is None:  # else the block has released it, and its changes are dropped
                await session.save()
        finally:
            session.release()

    async def create(self, data: KeyedValues | None = None, *, owner: str | None = None, **details: Any) -> Session:
        """Create a session and store it now, even if it is empty; for background work and tests.

        Raises:
            ConfigError: there are details without an owner.
            CodecError: a value or a detail cannot be stored.
            OwnerLimitReached: the owner has as many sessions as are allowed.
        """
        if details and owner is None:
            raise ConfigError(f"create() keeps details ({', '.join(details)}) with an owner only: pass owner=, too")
        session = Session(self._persistence, self, fresh_state(self._persistence.codec))
        session.update(data or {})
        if owner is not None:
            session.bind_owner(owner, **details)
        await self._persistence.commit(state_of(session), create=True)
        return session

    async def delete(self, sid: str) -> bool:
        """End the session with this ID; return False if there was none."""
        if not _is_well_formed(sid):
            return False
        return bool(await self._persistence.owners.end([handle_of(sid)], EventKind.DESTROYED, None))

    async def reset(self) -> int:
        """End every session under this store's `key_prefix`, and nothing else; return how many.

        Like `purge_expired` it works in batches and can take long: `storage_timeout` does not apply.

        Raises:
            ConfigError: the storage cannot find records by prefix (`Clears`).
        """
        if (storage := capability(self.storage, Clears)) is None:
            name = type(self.storage).__name__
            raise ConfigError(f"{name} cannot find records by prefix, which reset() needs; use another storage")
        return await self._persistence.driver.counted("clear", lambda: storage.clear(self.config.key_prefix))

    # -- owners

    async def sessions_of(self, owner: str) -> list[SessionInfo]:
        """Return the owner's live sessions, newest first.

        `last_seen_at` may be `touch_interval` early; if the absolute deadline cuts the idle time, it is the last write.
        """
        check_owner(owner)
        return await self._persistence.owners.list_infos(owner)

    async def revoke(self, handle: str, *, owner: str | None = None) -> bool:
        """End the session with this handle; with `owner`, only if it is theirs. Return whether it was ended."""
        check_no_session("handle", handle)
        return await self._persistence.owners.revoke(handle, owner)

    async def revoke_all(self, owner: str, *, keep: "Session | str | None" = None) -> int:
        """End all sessions of the owner except `keep`, a Session or a handle; return how many."""
        check_owner(owner)
        kept = keep.handle if isinstance(keep, Session) else keep
        if kept is not None and not is_handle(kept):
            raise ConfigError("keep= takes a Session or a handle")
        return await self._persistence.owners.revoke_all(owner, kept)

    # -- maintenance

    async def purge_expired(self) -> int:
        """Remove expired records from storages that do not remove them themselves; return how many."""
        storage = capability(self.storage, Purges)
        if storage is None:
            return 0
        return await self._persistence.driver.counted("purge_expired", storage.purge_expired)

    def purge_every(self, interval: timedelta) -> AbstractAsyncContextManager[None]:
        """Purge in the background while the block runs; any number of processes may do so.

        An outage sends a `storage_error` event and is logged once; the next purge follows all the same.

        Raises:
            ConfigError: `interval` is not a timedelta above zero.
        """
        if not is_duration(interval):
            raise ConfigError("purge_every() takes a timedelta above zero, such as timedelta(hours=1)")
        return purging(self.purge_expired, interval.total_seconds(), self._persistence.context.health)

    async def check(self) -> None:
        """Prove that logins will work, with a record that is not a session and expires within a minute.

        It makes each storage call once per master (none on MemoryStorage), so do not use it for liveness probes.

        Raises:
            StorageUnavailable: the storage does not reply, or takes no writes at the moment.
            StorageError: a right, a table or a column is missing; the text says what to do.
        """
        if not isinstance(self.storage, MemoryStorage):  # there, a probe might evict a session
            await check_storage(self.config, self._persistence.driver)

    async def start(self) -> None:
        """Open the storage and check it, as `check` does; `async with store:` begins with this.

        If the storage takes no writes at the moment (read-only, full, or without replicas), only an error is logged.

        Raises:
            StorageUnavailable: the storage cannot be reached.
            StorageError: it is set up wrong; the text says what to do.
        """
        await self._open(block=False)

    async def aclose(self) -> None:
        """Close the storage, and stop watching open connections in this event loop."""
        await self._persistence.opening.close()

    async def __aenter__(self) -> Self:
        await self._open(block=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._persistence.opening.leave()

    async def _open(self, *, block: bool) -> None:
        warn_in_workers(self.storage, self._persistence.context.warnings)
        await self._persistence.opening.open(block=block)

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError(
            "SessionStore cannot be copied or pickled, because its storage belongs to this process; build one in each "
            "process, and send handles or values"
        )


def _is_well_formed(sid: object) -> bool:
    """Return whether `sid` is well-formed as an ID; it may also be None, as returned by `cookies.get()`."""
    check_no_session("id", sid)
    return isinstance(sid, str) and is_id(sid)
