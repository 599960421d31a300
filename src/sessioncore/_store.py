"""SessionStore: the sessions of one application.

It owns the configuration, the registered types and the way to the storage. The
exchange of a request and background work both begin here.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from sessioncore._config import SessionConfig
from sessioncore._errors import (
    CodecError,
    ConfigError,
    CorruptRecord,
    OwnerLimitReached,
    SessionError,
    SessionNotFound,
    StorageError,
)
from sessioncore._events import EventKind, SessionInfo
from sessioncore._exchange import Exchange, not_loaded
from sessioncore._storage_protocol import Storage
from sessioncore.http._extractors import RequestView
from sessioncore.http._ids import handle_of, is_handle, is_id
from sessioncore.persistence._engine import Engine
from sessioncore.persistence._owners import Owned
from sessioncore.session._draft import Draft, Recalled
from sessioncore.session._session import Session, check_owner

__all__ = ["SessionStore"]

C = TypeVar("C", bound=type)


class SessionStore:
    """Finds, keeps and ends sessions; `SessionStore()` has the defaults for production, in memory.

    Every method that reaches the storage may raise StorageUnavailable.
    """

    __slots__ = ("_engine",)

    def __init__(self, config: SessionConfig | None = None) -> None:
        if config is not None and not isinstance(config, SessionConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError("SessionStore takes a SessionConfig, such as SessionStore(SessionConfig(storage=...))")
        self._engine = Engine(SessionConfig() if config is None else config)

    @property
    def config(self) -> SessionConfig:
        """The configuration; frozen."""
        return self._engine.config

    @property
    def storage(self) -> Storage:
        """Where the records live."""
        return self._engine.config.storage

    # -- types

    @overload
    def register_type(self, cls: C, /) -> C: ...
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
        """Let sessions hold instances of `cls`; returns it, so that it works as a decorator.

        `name` is what records say (default `module.qualname`: give one before you move
        the class), `aliases` are older names. `encode(obj)` returns any supported value
        and `decode(value)` takes it back; classes of a known shape need neither.

        Raises:
            ConfigError: the name or class already means something else, or its shape is unknown.
        """

        def register(given: C) -> C:
            if not isinstance(given, type):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigError("register_type() takes a class, not an instance")
            self._engine.codec.registry.register(given, **options)
            return given

        return register if cls is None else register(cls)

    # -- sessions

    def exchange(self, request: RequestView) -> Exchange:
        """Return the exchange that drives the session of one request; for adapters."""
        engine = self._engine
        draft = Draft(engine.config, engine.codec, blocked=not_loaded)
        return Exchange(Session(draft, self), engine, draft, request)

    async def get(self, request: RequestView) -> Session:
        """Return the session of a request, fresh if it has none; `save()` and `release()` are the caller's.

        Raises:
            SessionNotLoaded: `skip` says that this request has none.
        """
        draft = Draft(self._engine.config, self._engine.codec, blocked=not_loaded)
        session = await Exchange(Session(draft, self), self._engine, draft, request).obtain()
        session.mark_accessed()
        if draft.renew:  # a caller who only reads need not save
            await self._engine.committer.commit(draft, explicit=False)
        return session

    async def get_by_id(self, sid: str) -> Session:
        """Return the live session with this ID; `save()` and `release()` are the caller's.

        Raises:
            SessionNotFound: there is none.
        """
        draft = Draft(self._engine.config, self._engine.codec)
        if not _is_known_form(sid) or not await self._engine.load(draft, sid, renew=False):
            raise SessionNotFound("no live session has this ID; it may have ended or expired")
        return Session(draft, self)

    @asynccontextmanager
    async def open(self, sid: str) -> AsyncGenerator[Session]:
        """Work with the session of this ID: saved on clean exit, released always.

        Raises:
            SessionNotFound: there is none.
            SessionGone: it was ended while the block ran; nothing was stored.
        """
        session = await self.get_by_id(sid)
        try:
            yield session
            await session.save()
        finally:
            session.release()

    async def create(
        self, data: Mapping[str, Any] | None = None, *, owner: str | None = None, **details: Any
    ) -> Session:
        """Store a new session at once, also an empty one; for background work and tests."""
        draft = Draft(self._engine.config, self._engine.codec)
        session = Session(draft, self)
        session.update(data or {})
        if owner is not None:
            session.bind_owner(owner, **details)
        await self._engine.committer.create(draft)
        return session

    async def delete(self, sid: str) -> bool:
        """End the session with this ID; False if there was none."""
        if not _is_known_form(sid):
            return False
        handle = handle_of(sid)
        key = self.config.key_prefix + handle
        ended = await self._engine.calls.whole(self._engine.calls.run("delete", lambda: self.storage.delete(key)))
        if ended:
            self._engine.events.send(EventKind.DESTROYED, handle)
        return bool(ended)

    async def reset(self) -> int:
        """End every session under this store's `key_prefix`, and touch nothing else; return how many.

        Like `purge_expired` it works in batches and takes its time: `storage_timeout` does not apply.
        """
        return await self._engine.calls.run_long("clear", lambda: self.storage.clear(self.config.key_prefix))

    # -- owners

    async def sessions_of(self, owner: str) -> list[SessionInfo]:
        """Return the owner's live sessions, newest first.

        `last_seen_at` is exact to `touch_interval`; where the idle timeout reaches beyond
        the absolute deadline it is the time of the last write.
        """
        check_owner(owner)
        return [
            SessionInfo(
                owned.handle,
                datetime.fromtimestamp(owned.record.created_at, UTC),
                datetime.fromtimestamp(owned.last_seen, UTC),
                datetime.fromtimestamp(owned.expires, UTC),
                self._details_of(owned),
            )
            for owned in reversed(await self._engine.owners.sessions(owner))
        ]

    def _details_of(self, owned: Owned) -> dict[str, Any]:
        """Details that cannot be read here must not hide the session from its owner."""
        try:
            details: dict[str, Any] = self._engine.codec.decode("details", owned.record.details)
        except CodecError as exc:
            self._engine.events.send(EventKind.CORRUPT, owned.handle, owned.record.owner, str(exc))
            return {}
        return details

    async def revoke(self, handle: str, *, owner: str | None = None) -> bool:
        """End the session with this handle; with `owner`, only if it is theirs. False if nothing was ended."""
        return await self._engine.owners.revoke(handle, owner)

    async def revoke_all(self, owner: str, *, keep: "Session | str | None" = None) -> int:
        """End the owner's sessions, but for `keep` (a Session or a handle); return how many."""
        check_owner(owner)
        kept = keep.handle if isinstance(keep, Session) else keep
        if kept is not None and not is_handle(kept):
            raise ConfigError("keep= takes a Session or a handle")
        return await self._engine.owners.revoke_all(owner, kept)

    # -- upkeep

    async def purge_expired(self) -> int:
        """Remove expired records from storages that do not do so themselves; return how many."""
        return await self._engine.calls.run_long("purge_expired", self.storage.purge_expired)

    async def check(self) -> None:
        """Return if the storage answers; StorageUnavailable if not."""
        await self._engine.calls.run("check", self.storage.check)

    async def __aenter__(self) -> Self:
        """Open the storage."""
        await self.storage.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the storage."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the storage."""
        await self.storage.aclose()

    # -- for the sessions of this store (see Keeper)

    async def commit(self, draft: Draft, *, explicit: bool) -> None:
        """Bring a draft into the storage; sessions call this from `save()`."""
        try:
            await self._engine.committer.commit(draft, explicit=explicit)
        except (StorageError, OwnerLimitReached) as exc:
            draft.failure = Recalled(exc)
            raise

    async def end(self, draft: Draft) -> None:
        """End the record behind a draft; sessions call this from `reset()` and `destroy()`."""
        try:
            await self._engine.committer.end(draft)
        except StorageError as exc:
            draft.failure = Recalled(exc)
            raise

    def report_corrupt(self, draft: Draft, error: CorruptRecord | SessionError) -> None:
        """Send the `corrupt` event; sessions call this when a value cannot be read."""
        self._engine.events.send(EventKind.CORRUPT, draft.handle, draft.owner, str(error))


def _is_known_form(sid: object) -> bool:
    """Tell whether this can be an ID; what `cookies.get()` returns without a cookie names no session either."""
    return isinstance(sid, str) and is_id(sid)
