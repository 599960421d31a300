"""Factories of the errors that are raised when a session cannot be used."""

from collections.abc import Callable

from sessioncore._errors import SessionError, SessionNotLoaded, SessionReleased

__all__ = ["ErrorFactory", "after_release", "error_factory", "not_loaded", "released", "skipped"]

ErrorFactory = Callable[[], SessionError]
"""Makes a new error for each raise: raising the same object again would make its traceback grow."""


def released() -> SessionReleased:
    """Make the error for a write after the session was released."""
    return SessionReleased("this session was released with its request; in background work, use store.open(session.id)")


def not_loaded() -> SessionNotLoaded:
    """Make the error for a use before the session was loaded."""
    return SessionNotLoaded("the session is not loaded yet; use `await get_session(request)` first")


def skipped() -> SessionNotLoaded:
    """Make the error for a use in a request that `skip` excludes."""
    return SessionNotLoaded(
        "this request was skipped by SessionConfig.skip, so it has no session; change skip if it needs one"
    )


def never_loaded() -> SessionReleased:
    """Make the error for a use after the request, if the session was never loaded."""
    return SessionReleased(
        "this request has ended, and its session was never loaded; in background work, use store.open(session_id)"
    )


def after_release(unusable: ErrorFactory) -> ErrorFactory:
    """Return the factory for uses after the request, without the cause: its traceback refers to the session."""
    if unusable is not_loaded:
        return never_loaded
    if unusable is released or unusable is never_loaded or unusable is skipped:
        return unusable
    error = unusable()
    error.__cause__ = None
    return error_factory(error)


def error_factory(error: SessionError) -> ErrorFactory:
    """Return a factory of copies of `error`."""
    kind, text, cause = type(error), str(error), error.__cause__

    def make() -> SessionError:
        copy = kind(text)
        copy.__cause__ = cause
        return copy

    return make
