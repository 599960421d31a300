"""Why a session cannot be used: errors that are made anew for each use."""

from collections.abc import Callable

from sessioncore._errors import SessionError, SessionNotLoaded, SessionReleased

__all__ = ["ErrorFactory", "after_release", "again", "not_loaded", "released", "skipped"]

ErrorFactory = Callable[[], SessionError]
"""Makes an error anew for each raise: one that is kept and raised again would gather tracebacks."""


def released() -> SessionReleased:
    """Make the error of a write after the session was released."""
    return SessionReleased(
        "this session was released with its request; in background work, open it anew with store.open(session.id)"
    )


def not_loaded() -> SessionNotLoaded:
    """Make the error of a use before the session was loaded."""
    return SessionNotLoaded("the session is not loaded yet; use `await get_session(request)` first")


def skipped() -> SessionNotLoaded:
    """Make the error of a use in a request without sessions."""
    return SessionNotLoaded("this request was skipped by SessionConfig.skip and has no session")


def never_loaded() -> SessionReleased:
    """Make the error of a use after the request, where there is nothing that could be read."""
    return SessionReleased(
        "this request is over, and its session was never loaded; in background work, use store.open(session_id)"
    )


def after_release(unusable: ErrorFactory) -> ErrorFactory:
    """Return what a use raises after the request, without a cause: its traceback leads back to the session."""
    if unusable is not_loaded:
        return never_loaded
    if unusable is released or unusable is never_loaded or unusable is skipped:
        return unusable
    error = unusable()
    error.__cause__ = None
    return again(error)


def again(error: SessionError) -> ErrorFactory:
    """Return the factory of errors like `error`."""
    kind, text, cause = type(error), str(error), error.__cause__

    def make() -> SessionError:
        copy = kind(text)
        copy.__cause__ = cause
        return copy

    return make
