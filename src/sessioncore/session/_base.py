"""What a session is to its request: loaded or not, usable or not, used, released.

`Exchange` drives this part; `_mapping` and `_session` add what handlers use.
"""

from typing import TYPE_CHECKING, Never

from sessioncore.session._initial_states import fresh_state
from sessioncore.session._persistence import Persistence
from sessioncore.session._state import SessionState
from sessioncore.session._unusable import ErrorFactory, after_release

if TYPE_CHECKING:  # the store creates sessions, so it cannot be imported here at run time
    from sessioncore._store import SessionStore

__all__ = ["SessionBase"]


class SessionBase:
    """The part of a `Session` that knows its request. Invariant: a session that was used has a state."""

    __slots__ = (
        "_failure", "_persistence", "_released", "_response_started", "_state", "_store", "_unusable", "accessed",
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
        self._response_started = False  # the headers of the response are final
        self._released = False  # before there was a state
        self.accessed: bool = state is not None
        """Whether the session was used in this request; reading this does not count."""

    # -- for the handler

    def _get_state(self) -> SessionState:
        """Return the state; this counts as a use."""
        return (self.accessed and self._state) or self._use()

    def _check_not_released(self) -> None:
        """Raise SessionReleased for a write after the release, also for one that would change nothing."""
        self._get_state().check_not_released()

    def _use(self) -> SessionState:
        """Return the state for the first use; create it if no record was found.

        Raises:
            SessionError: the session cannot be used.
        """
        if self._unusable is not None:
            self._refuse(self._unusable)
        state = self._state
        if state is None:
            state = fresh_state(self._persistence.codec)
            self._open(state, None)
        self.accessed = True
        return state

    def _refuse(self, unusable: ErrorFactory) -> Never:
        """Raise the error of a use."""
        self._failure = unusable
        raise unusable()

    def _set_failure(self, failure: ErrorFactory) -> None:
        """Keep an error, which the application may replace by its own."""
        self._failure = failure

    def _mark_released(self) -> None:
        """Note that the session was released while it has no state."""
        self._released = True

    # -- for the exchange

    def _open(self, state: SessionState | None, unusable: ErrorFactory | None) -> None:
        """Take the result of the load: the state of the stored session, if there is one, or the error of a use."""
        self._state, self._unusable = state, unusable
        if state is not None:
            if self._response_started:
                state.start_response()
            if self._released:
                state.release(drop=False)

    def _start_response(self) -> None:
        """Note that the headers of the response are final."""
        self._response_started = True

    def _forget_tracebacks(self) -> None:
        """Forget the causes of errors, whose tracebacks refer to the session."""
        self._failure = None
        if self._unusable is not None:
            self._unusable = after_release(self._unusable)
