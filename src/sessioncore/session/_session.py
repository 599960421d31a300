"""The session that handlers use: a mapping, with methods for its lifecycle.

A session reads and writes its `SessionState`, and calls `Persistence` for what needs the
storage.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from anyio import CancelScope

from sessioncore._errors import ConfigError, SessionError
from sessioncore.codec._record import datetime_of
from sessioncore.http._ids import handle_of
from sessioncore.session._arguments import check_owner, seconds_of
from sessioncore.session._effective import begun_at, details_of, ends_at, idle_of, owner_of
from sessioncore.session._lifecycle import LIVE, STALE
from sessioncore.session._login import log_in
from sessioncore.session._mapping import SessionMapping
from sessioncore.session._settings import NO_SETTINGS, Settings
from sessioncore.session._state import SessionState

if TYPE_CHECKING:  # the store creates sessions, so it cannot be imported here at run time
    from sessioncore._store import SessionStore

__all__ = ["Session", "check_no_session", "state_of"]


class Session(SessionMapping):
    """The data of one client, as a mutable mapping from str to values.

    After the request it can still be read; every change raises SessionReleased.

    Raises:
        SessionReleased: it was changed after the request.
        SessionNotLoaded: this request has no session, or it is not loaded yet.
        StorageUnavailable: it could not be loaded; raised by its first use, so that routes
            that do not use it still work.
        CrossSiteRequest: another site made the request; see `SessionConfig.cross_site`.
    """

    __slots__ = ()

    # -- properties

    @property
    def id(self) -> str:
        """The current ID, which must be kept secret; for a fresh session, the ID that it will be stored under."""
        state = self._get_state()
        known = state.known_id
        if known is None or (state.phase is STALE and known is state.former):  # a replaced ID reads as a fresh session
            return state.choose_id(self._persistence.new_id())
        return known

    @property
    def handle(self) -> str:
        """The hash of the ID, as a public name: safe in logs and URLs, useless as a credential.

        A stored session keeps the handle under which it is stored: after `login` or `regenerate` that is the former one
        until the response starts or `save` returns.
        """
        loaded = self._get_state().loaded
        return handle_of(self.id) if loaded is None else loaded.handle

    @property
    def fresh(self) -> bool:
        """Whether nothing is stored yet."""
        return self._get_state().phase is not LIVE

    @property
    def empty(self) -> bool:
        """Whether there are no keys."""
        return not self._current_items()

    @property
    def modified(self) -> bool:
        """Whether there are uncommitted changes, including changes in place; asking does not count as use."""
        state = self._state
        return state is not None and state.modified()

    @property
    def owner(self) -> str | None:
        """The account that the session belongs to, or None."""
        return owner_of(self._get_state())

    @property
    def details(self) -> dict[str, Any]:
        """A copy of the details passed to `login` or `bind_owner`, such as the name of a device."""
        state = self._get_state()
        return state.values.codec.decode_details(details_of(state))

    @property
    def store(self) -> "SessionStore":
        """The store that this session belongs to."""
        return self._store

    # -- times, and how long the browser keeps the cookie

    @property
    def created_at(self) -> datetime:
        """When the session began, by its last login; now if that is not stored yet. An aware UTC datetime."""
        return datetime_of(begun_at(self._get_state(), self._persistence.config.clock()))

    @property
    def expires_at(self) -> datetime:
        """When the session ends if it is not used again; an aware UTC datetime."""
        persistence = self._persistence
        return datetime_of(ends_at(self._get_state(), persistence.lifetimes, persistence.config.clock()))

    @property
    def idle_timeout(self) -> timedelta:
        """How long the session lives without being used."""
        return timedelta(seconds=idle_of(self._get_state(), self._persistence.lifetimes))

    # These settings are stored with the session. The cookie follows them if the response has not
    # started. `regenerate` keeps them; `login` and `reset` go back to the configuration, except for
    # what the same request has set, before or after them.

    def set_idle_timeout(self, timeout: timedelta | None) -> None:
        """Give this session its own idle timeout; None: use the configured one.

        The absolute deadline still ends it. If the timeout reaches beyond that, a `capped` event
        is sent.

        Raises:
            ConfigError: `timeout` is not a timedelta above zero.
        """
        self._get_state().change_settings(Settings(idle=seconds_of("set_idle_timeout", timeout)))

    def set_absolute_timeout(self, timeout: timedelta | None) -> None:
        """Set how long after its last login this session ends, however much it is used; None: as configured.

        It may be longer than the configured one. A session that is older ends with this request.

        Raises:
            ConfigError: `timeout` is not a timedelta above zero.
        """
        self._get_state().change_settings(Settings(absolute=seconds_of("set_absolute_timeout", timeout)))

    def set_persistent(self, persistent: bool | None) -> None:
        """Let the browser keep this session's cookie when it closes (True) or drop it (False); None: as configured.

        Raises:
            ConfigError: `persistent` is neither a bool nor None.
        """
        if persistent is not None and type(persistent) is not bool:
            raise ConfigError("set_persistent() takes True, False, or None for what cookie_session_only says")
        self._get_state().change_settings(Settings(persistent=persistent))

    # -- lifecycle

    def bind_owner(self, owner: str, **details: Any) -> None:
        """Make `owner` the owner of the session; prefer `login`, which also changes the ID.

        Raises:
            ConfigError: `owner` is not a str of 1 to 1024 characters.
            UnregisteredType: a detail cannot be stored.
        """
        check_owner(owner)
        encoded = self._persistence.codec.encode_details(details)
        self._get_state().begin_write().change_metadata(owner=owner, details=encoded)

    async def login(self, owner: str, **details: Any) -> None:
        """Change the ID, set the owner and restart both timeouts; another owner's data is removed first.

        Timeouts and persistence that the session has set for itself end with the login, except
        those that this request sets, before or after it.

        No I/O: the commit moves the record (ASVS 7.2.4), and the old ID is invalid when the
        response starts.

        Raises:
            ConfigError: `owner` is not a str of 1 to 1024 characters.
            UnregisteredType: a detail cannot be stored.
            ResponseStarted: the new ID cannot reach the client any more.
        """
        check_owner(owner)
        state = self._get_state()
        encoded = self._persistence.codec.encode_details(details)
        log_in(state, self._persistence.new_id(), owner, encoded)

    async def regenerate(self) -> None:
        """Give the session a new ID; data, deadline and settings stay. No I/O: the commit moves the record.

        Raises:
            ResponseStarted: the new ID cannot reach the client any more.
        """
        self._get_state().begin_rotation(self._persistence.new_id())

    async def reset(self) -> None:
        """End the session now, in every process, and start an empty one with a new ID.

        The new one has the configured timeouts and persistence, except for what this request sets.

        Raises:
            ResponseStarted: the new ID cannot reach the client any more.
            StorageUnavailable: it is unknown whether the session was ended; nothing else changed.
        """
        state = self._get_state()
        state.check_not_started()
        await self._carry_out(self._persistence.end(state))
        state.choose_id(self._persistence.new_id())
        if state.settings != NO_SETTINGS:
            state.change_settings(state.settings)

    async def destroy(self) -> None:
        """End the session now, in every process, and clear its data; later changes are stored under a new ID.

        Raises:
            StorageUnavailable: it is unknown whether the session was ended; nothing else changed.
        """
        state = self._get_state()
        state.check_writable()
        await self._carry_out(self._persistence.end(state))

    async def save(self) -> None:
        """Store the changes now.

        Raises:
            SessionGone: the session was ended meanwhile; nothing was stored.
            LifecycleError: the response is an error, with which unsaved changes were dropped; nothing was stored.
            CodecError: a value cannot be stored; the text names its key.
            OwnerLimitReached: it would log in one session more than the owner may have; nothing was stored.
            StorageUnavailable: it is unknown whether the changes were stored.
            StorageError: nothing was stored, and the text says why.
        """
        state = self._get_state()
        if state.limits.save is not None:
            raise state.limits.save()
        await self._carry_out(self._persistence.commit(state, explicit=True))

    async def reload(self) -> None:
        """Take over what others have stored meanwhile; own changes that are not saved stay on top.

        This is a use of the session like `save()`, and renews its idle clock when that is due. A
        session that is not stored has nothing to take over.

        Raises:
            SessionGone: the session was ended, or another request has given it a new ID.
            StorageUnavailable: it could not be loaded; the session is as it was.
        """
        state = self._get_state()
        state.check_not_released()
        await self._carry_out(self._persistence.reload(state))

    @asynccontextmanager
    async def alive(self) -> AsyncGenerator[None]:
        """Cancel the block and raise SessionGone when the session ends: by a call in any process, or by a timeout.

        A new ID does not end the block, as long as the owner stays the same; nor does this request's own
        login. Do not `yield` inside the block: the code that a generator yields to would be cancelled.

        Raises:
            SessionGone: the session was ended, or nothing is stored.
            SessionReleased: it was released.
            StorageUnavailable: for `stale_id_window`, it was unknown whether the session still exists.
        """
        state = self._get_state()
        state.check_writable()
        ended: SessionError | None = None
        with CancelScope() as scope:

            def end(error: SessionError) -> None:
                nonlocal ended
                ended = error
                scope.cancel()

            watch = self._persistence.live.watch(state, end)
            try:
                yield
            finally:
                watch.stop()
        if ended is not None:  # also if the block has swallowed the cancellation, as anyio's portals do
            raise ended

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError("a Session cannot be copied or pickled; use dict(session) for its data")


def state_of(session: Session) -> SessionState:
    """Return the state of a session; this counts as a use."""
    return session._get_state()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # for the store alone


def check_no_session(name: str, value: object) -> None:
    """Raise ConfigError if a session was passed instead of its `id` or `handle`, which would silently find nothing."""
    if isinstance(value, Session):
        raise ConfigError(f"pass session.{name} instead of the session")
