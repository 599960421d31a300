"""The session that handlers hold: a mapping, and the verbs of its life.

A session reads and writes its state; what needs the storage it asks of `Persistence`. It
knows no request and no response.
"""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sessioncore._errors import ConfigError, OwnerLimitReached, SessionError, StorageError
from sessioncore.http._ids import handle_of
from sessioncore.session._lifecycle import LIVE
from sessioncore.session._mapping import SessionMapping, bind_request
from sessioncore.session._openers import released_after
from sessioncore.session._pending import EMPTY_DICT, UNCHANGED
from sessioncore.session._seen import details_of, idle_changed, idle_of, owner_of
from sessioncore.session._state import SessionState
from sessioncore.session._unusable import ErrorFactory, again

if TYPE_CHECKING:  # a session knows its store, and the store makes sessions
    from sessioncore._store import SessionStore

__all__ = ["Session", "check_owner", "failure_of", "note_failure", "opened"]

MAX_OWNER = 1024  # characters; an owner is an account's ID, not a document


class Session(SessionMapping):
    """The data of one visitor, as a mutable mapping from str to values.

    After its request it can still be read; writes and verbs raise SessionReleased.

    Raises:
        SessionReleased: it is changed after its request.
        SessionNotLoaded: it is not to be had here, or not loaded yet.
        StorageUnavailable: it could not be loaded; raised on first use, so that
            routes which need no session still answer.
    """

    __slots__ = ()

    # -- what it is

    @property
    def id(self) -> str:
        """The ID in force; of a fresh session the one that it will get if it is stored. Keep it secret."""
        state = self._use()
        return state.known_id or state.choose_id(self._persistence.new_id())

    @property
    def handle(self) -> str:
        """The public name: safe in logs and URLs, useless as a credential."""
        return self._use().handle or handle_of(self.id)

    @property
    def fresh(self) -> bool:
        """Whether nothing is stored yet."""
        return self._use().phase is not LIVE

    @property
    def empty(self) -> bool:
        """Whether there are no keys."""
        return not self._visible()

    @property
    def modified(self) -> bool:
        """Whether there are changes that are not committed, also in place."""
        state = self._use()
        values = state.values
        if values.issued_defaults is not None:
            state.adopt_defaults()
        pending = state.pending
        if pending is not None and (pending.changes or pending.metadata is not UNCHANGED):
            return True
        if state.in_flight is not None:
            return True
        return any(values.changed_in_place(name) is not None for name in values.snapshots or ())

    @property
    def owner(self) -> str | None:
        """Whose session it is; None if nobody's."""
        return owner_of(self._use())

    @property
    def details(self) -> dict[str, Any]:
        """A copy of what `login` or `bind_owner` was told about this session, such as a device's name."""
        state = self._use()
        details: dict[str, Any] = state.values.codec.decode("details", details_of(state))
        return details

    @property
    def store(self) -> "SessionStore":
        """The store that this session belongs to."""
        return self._store

    @property
    def created_at(self) -> datetime:
        """When it began (of a session that is not stored: now); aware, UTC."""
        loaded = self._use().loaded
        seconds = self._persistence.config.clock() if loaded is None else loaded.record.created_at
        return datetime.fromtimestamp(seconds, UTC)

    @property
    def expires_at(self) -> datetime:
        """When it ends if it is not used again; aware, UTC."""
        state = self._use()
        loaded, idle = state.loaded, idle_of(state)
        if loaded is None:
            now = created_at = self._persistence.config.clock()
        else:
            now, created_at = loaded.at, loaded.record.created_at
            if not loaded.renewal_due and not idle_changed(state):
                idle = loaded.ttl
        return datetime.fromtimestamp(now + self._persistence.lifetimes.left(created_at, idle, now), UTC)

    @property
    def idle_timeout(self) -> timedelta:
        """How long it lives without use."""
        own = idle_of(self._use())
        return timedelta(seconds=self._persistence.lifetimes.idle if own is None else own)

    def set_idle_timeout(self, timeout: timedelta | None) -> None:
        """Give this session its own idle timeout, kept in its record; None: the configured one.

        The absolute deadline still ends it.

        Raises:
            ConfigError: not above zero.
        """
        if timeout is not None and not is_duration(timeout):
            raise ConfigError("set_idle_timeout() takes a timedelta above zero, at most 100 years, or None")
        self._use().begin_write().change_metadata(idle=None if timeout is None else timeout.total_seconds())

    # -- its life

    def bind_owner(self, owner: str, **details: Any) -> None:
        """Put the session into the owner's index; prefer `login`, which also changes the ID.

        Raises:
            ConfigError: `owner` is not a str of 1 to 1024 characters.
            UnregisteredType: a detail cannot be stored.
        """
        check_owner(owner)
        encoded = self._persistence.codec.encode("details", details) if details else EMPTY_DICT
        self._use().begin_write().change_metadata(owner=owner, details=encoded)

    async def login(self, owner: str, **details: Any) -> None:
        """Change the ID, bind the owner, start both clocks anew; another owner's data is dropped first.

        No I/O: the commit moves the record (ASVS 7.2.4), and the old ID is dead when
        the response starts.

        Raises:
            ConfigError: `owner` is not a str of 1 to 1024 characters.
            ResponseStarted: the client can no longer learn the new ID.
        """
        check_owner(owner)
        state = self._use()
        encoded = self._persistence.codec.encode("details", details) if details else EMPTY_DICT
        others = (known := owner_of(state)) is not None and known != owner
        cleared = {"cleared": True} if others else {}
        new_id = self._persistence.new_id()
        state.rotate(new_id, login=True, owner=owner, details=encoded, **cleared)
        if others:
            state.drop_values()

    async def regenerate(self) -> None:
        """Give the session a new ID; data and absolute deadline stay. No I/O: the commit moves the record.

        Raises:
            ResponseStarted: the client can no longer learn the new ID.
        """
        self._use().rotate(self._persistence.new_id())

    async def reset(self) -> None:
        """End the session now, everywhere, and start an empty one under a new ID.

        Raises:
            ResponseStarted: the client can no longer learn the new ID.
            StorageUnavailable: whether it was ended is unknown; nothing else changed.
        """
        state = self._use()
        state.refuse_after_start()
        await self._end(state)
        state.choose_id(self._persistence.new_id())

    async def destroy(self) -> None:
        """End the session now, everywhere, and clear its data; something written later gets a new ID.

        Raises:
            StorageUnavailable: whether it was ended is unknown; nothing else changed.
        """
        state = self._use()
        state.refuse_unusable()
        await self._end(state)

    async def save(self) -> None:
        """Store the changes now.

        Raises:
            SessionGone: it was ended meanwhile; nothing was stored.
            CodecError: a value cannot be stored; the text names its key.
            StorageUnavailable: whether it was stored is unknown.
        """
        state = self._use()
        state.refuse_unusable()
        try:
            await self._persistence.commit(state, explicit=True)
        except (StorageError, OwnerLimitReached) as exc:
            self._note_failure(again(exc))
            raise

    def release(self) -> None:
        """Give the session back: unsaved changes are dropped, later changes raise SessionReleased."""
        if self._state is not None:
            self._state.release(drop=self._state.dirty())
        elif self._open is not None:
            bind_request(self, released_after(self._open))

    def mark_accessed(self) -> None:
        """Count as used, for frameworks that say so themselves."""
        if self._state is None:
            self._opened()

    # -- refused

    def __copy__(self) -> "Session":
        raise TypeError("a Session cannot be copied; use dict(session) for its data")

    def __deepcopy__(self, memo: object) -> "Session":
        raise TypeError("a Session cannot be copied; use dict(session) for its data")

    def __reduce_ex__(self, protocol: object) -> str:
        raise TypeError("a Session cannot be pickled; use dict(session) for its data")

    # -- inside

    async def _end(self, state: SessionState) -> None:
        try:
            await self._persistence.end(state)
        except StorageError as exc:
            self._note_failure(again(exc))
            raise


def opened(session: Session) -> SessionState:
    """Return the state of a session, as its first use does."""
    return session._use()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # for the store alone


def failure_of(session: Session) -> SessionError | None:
    """Return what a use or a verb of the session met, where the application may have hidden it behind its own error."""
    failure = session._failure  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # for the exchange alone
    return None if failure is None else failure()


def note_failure(session: Session, failure: ErrorFactory | None) -> None:
    """Keep what a use of the session met; None: forget it, its cause leads back here by the frames of its traceback."""
    session._note_failure(failure)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # for the exchange alone


def is_duration(value: object) -> bool:
    """Tell whether `value` is a timedelta above zero, at most 100 years."""
    return isinstance(value, timedelta) and timedelta() < value <= timedelta(days=36500)


def is_valid_text(text: str) -> bool:
    """Tell whether every database can hold this text: valid Unicode without NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def check_owner(owner: object) -> None:
    """Refuse what cannot be an owner, such as the number of an account."""
    if type(owner) is not str or not 0 < len(owner) <= MAX_OWNER or not is_valid_text(owner):
        raise ConfigError(f"an owner is a str of 1 to {MAX_OWNER} Unicode characters without NUL, such as str(user.id)")
