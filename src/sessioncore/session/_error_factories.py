"""Factories of the errors that are raised when a session cannot be used."""

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from sessioncore._errors import LifecycleError, ResponseStarted, SessionError, SessionNotLoaded, SessionReleased

__all__ = [
    "ErrorFactory", "after_release", "changes_dropped", "error_factory", "not_loaded", "released", "response_started",
    "skipped",
]  # fmt: skip

ErrorFactory = Callable[[], SessionError]
"""Makes a new error for each raise: raising the same object again would make its traceback grow."""


def released() -> SessionReleased:
    """Make the error for a write after the session was released."""
    return SessionReleased(
        "this session was released, by release() or at the end of its request; let a middleware that uses it run "
        "inside of the one that loads it, and in background work use store.open(session.id)"
    )


def not_loaded() -> SessionNotLoaded:
    """Make the error for a use before the session was loaded."""
    return SessionNotLoaded("the session is not loaded yet; use `await get_session(request)` first")


def skipped() -> SessionNotLoaded:
    """Make the error for a use in a request that `skip` excludes."""
    return SessionNotLoaded(
        "this request was skipped by SessionConfig.skip, so it has no session; change skip if it needs one"
    )


def response_started() -> ResponseStarted:
    """Make the error for a change that needs a new ID, after the headers were sent."""
    return ResponseStarted(
        "the response has started, so a new ID cannot be sent to the client any more; write to a new session, and call "
        "login, regenerate or reset, before the response starts or a WebSocket is accepted"
    )


def changes_dropped() -> LifecycleError:
    """Make the error for a save after changes were dropped with the response."""
    return LifecycleError(
        "the response of this request is an error, so what was not stored before was dropped, except perhaps a write "
        "whose reply was lost; make the changes in a new request, or with store.open(session.id)"
    )


def never_loaded() -> SessionReleased:
    """Make the error for a use after the request, if the session was never loaded."""
    return SessionReleased(
        "this request has ended, and its session was never loaded; let a middleware that uses it run inside of the one "
        "that loads it, and in background work use store.open(session_id)"
    )


def after_release(unusable: ErrorFactory) -> ErrorFactory:
    """Return the factory for uses after the request, without the cause: its traceback refers to the session."""
    if unusable is not_loaded:
        return never_loaded
    return replace(unusable, cause=None) if isinstance(unusable, _Copies) else unusable


def error_factory(error: SessionError) -> ErrorFactory:
    """Return a factory of copies of `error`."""
    return _Copies(type(error), str(error), error.__cause__)


class _Copies(Struct, frozen=True):
    """Makes copies of an error."""

    kind: type[SessionError]
    text: str
    cause: BaseException | None

    def __call__(self) -> SessionError:
        error = self.kind(self.text)
        error.__cause__ = self.cause
        return error
