"""What a session is to its request: loaded or not, usable or not, used, released.

`Exchange` drives this part; `_mapping` and `_session` add what handlers use.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Never

from sessioncore._errors import OwnerLimitReached, StorageError
from sessioncore.session._error_factories import ErrorFactory, after_release, error_factory
from sessioncore.session._initial_states import fresh_state
from sessioncore.session._limits import NO_LIMITS, RELEASED, RESPONSE_STARTED
from sessioncore.session._protocols import Persistence
from sessioncore.session._state import SessionState

if TYPE_CHECKING:  # the store creates sessions, so it cannot be imported here at run time
    from sessioncore._store import SessionStore

__all__ = ["SessionBase"]


class SessionBase:
    """The part of a `Session` that knows its request. Invariant: a session that was used has a state."""

    __slots__ = (
        "_failure", "_limits", "_on_late_use", "_persistence", "_state", "_store", "_unusable", "accessed",
    )  # fmt: skip

    def __init__(
        self,
        persistence: Persistence,
        store: "SessionStore",
        state: SessionState | None,
        unusable: ErrorFactory | None = None,
    ) -> None:
        self._persistence = persistence
        self._store = store
        self._state = state  # None: no record was found, and the session was not used
        self._unusable = unusable  # makes the error that a use raises; None: the session can be used
        self._failure: ErrorFactory | None = None  # makes the last error of a use or a method; None: no error
        self._limits = NO_LIMITS  # of a state that is created from now on
        self._on_late_use: Callable[[SessionState], object] | None = None  # called at a first use after the headers
        self.accessed: bool = state is not None
        """Whether the session was used in this request; reading this does not count."""

    def __repr__(self) -> str:
        state = self._state
        if state is None:
            return "<Session: not used yet>"
        loaded = state.loaded
        name = None if loaded is None else loaded.handle
        return f"<Session handle={name} fresh={loaded is None} keys={len(state.values.items)}>"

    def mark_accessed(self) -> None:
        """Mark the session as used, without reading or changing it."""
        if not self.accessed:
            self._use()

    def release(self) -> None:
        """Finish using the session: drop unsaved changes; later changes raise SessionReleased."""
        state = self._state
        if state is None:
            self._mark_released()
        else:
            state.release(state.dirty())

    # -- for the methods of the session

    def _get_state(self) -> SessionState:
        """Return the state; this counts as a use."""
        return (self.accessed and self._state) or self._use()

    def _use(self) -> SessionState:
        """Return the state for the first use; create it if no record was found.

        Raises:
            SessionError: the session cannot be used.
        """
        if self._unusable is not None:
            self._refuse(self._unusable)
        state = self._state
        if state is None:
            state = self._state = fresh_state(self._persistence.codec, self._limits)
        self.accessed = True
        if self._on_late_use is not None:
            self._on_late_use(state)
        return state

    def _check_not_released(self) -> None:
        """Raise SessionReleased for a write after the release, also for one that would change nothing."""
        self._get_state().check_not_released()

    async def _carry_out(self, work: Awaitable[None]) -> None:
        """Await what calls the storage, and keep its error: the application may turn it into a plain 500."""
        try:
            await work
        except (StorageError, OwnerLimitReached) as exc:
            self._failure = error_factory(exc)
            raise

    # -- for the exchange

    def _open(self, state: SessionState | None, unusable: ErrorFactory | None) -> None:
        """Take the result of the load: the state of the stored session, if there is one, or the error of a use."""
        self._state, self._unusable = state, unusable
        if state is not None and self._limits is not NO_LIMITS:
            state.limit(self._limits)

    def _start_response(self) -> None:
        """Note that the headers of the response are final; a state gets this limit when its commit is over."""
        if self._limits is NO_LIMITS:
            self._limits = RESPONSE_STARTED

    def _mark_released(self) -> None:
        """Note that the session was released while it has no state."""
        self._limits = RELEASED

    def _refuse(self, unusable: ErrorFactory) -> Never:
        """Raise the error of a use, and keep it, as `_carry_out` does."""
        self._failure = unusable
        raise unusable()

    def _call_at_late_use(self, on_use: Callable[[SessionState], object]) -> None:
        """Have the first use, which comes after the response has started, call `on_use` in its own thread."""
        self._on_late_use = on_use

    def _forget_tracebacks(self) -> None:
        """Forget the causes of errors, whose tracebacks refer to the session."""
        self._failure = None
        if self._unusable is not None:
            self._unusable = after_release(self._unusable)
