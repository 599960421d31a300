"""The errors with which a commit can end; their texts say what to do next."""

from sessioncore._errors import SessionGone, StorageError, StorageUnavailable

__all__ = ["conflict_error", "dropped_error", "gone_error", "id_error", "overtaken_error", "unreadable_error"]


def conflict_error() -> StorageUnavailable:
    """Return the error for conflicts that did not end within `storage_timeout`."""
    return StorageUnavailable("other requests kept writing this session until storage_timeout; try again")


def dropped_error(cause: BaseException) -> StorageError:
    """Return the error of a save whose changes another task failed to commit: by its mutate(), or a cancellation."""
    if isinstance(cause, Exception):
        error = StorageError("another task committed these changes, and its mutate() failed, so nothing was stored")
    else:
        error = StorageUnavailable(
            "another task that committed these changes was cancelled, so it is unknown whether they were stored; look "
            "in a new request"
        )
    error.__cause__ = cause
    return error


def overtaken_error() -> StorageUnavailable:
    """Return the error for a lost write, if it is no longer possible to tell whether it was stored."""
    return StorageUnavailable(
        "the reply to a write was lost, and another request has written since; try again in a new request"
    )


def gone_error(*, stale: bool) -> SessionGone:
    """Return the error of an explicit save when there is no session any more, or not under this ID (`stale`)."""
    if stale:  # without advice to end it: that would end the session where it is now
        return SessionGone(
            "the ID of this request was replaced, or it came with two, so nothing was stored; a new request finds the "
            "session, and login() begins another one"
        )
    return SessionGone(
        "the session was ended meanwhile, and nothing was stored; call reset() or destroy() to start a new one"
    )


def unreadable_error() -> StorageError:
    """Return the error for a record that was replaced by something else."""
    return StorageError(
        "the session was overwritten by something that cannot be read here, so nothing was stored; the event `corrupt` "
        "says why"
    )


def id_error() -> StorageError:
    """Return the error for a generator whose IDs are in use already."""
    return StorageError("id_generator returned IDs in use eight times in a row; make it random")
