"""The errors of sessioncore, all in one tree.

SessionError
├── ConfigError (ValueError)          a setting or an argument cannot work
├── StorageError                      the storage answered, and said no
│   ├── KeyTaken                      a record cannot be moved: its new key is in use
│   └── StorageUnavailable            the storage did not answer in time, or at all
├── CodecError (ValueError)           a value cannot be turned into bytes or back
│   ├── UnregisteredType (TypeError)  its type is unknown here
│   ├── CorruptRecord                 the stored bytes are damaged
│   └── SessionTooLarge               the encoded record is over `max_size`
├── LifecycleError (RuntimeError)     the call comes at the wrong moment
│   ├── SessionGone                   the session was ended meanwhile
│   ├── SessionReleased               the session was given back
│   ├── SessionNotLoaded              there is no session here, or not yet
│   └── ResponseStarted               the client can no longer learn an ID
├── SessionNotFound (LookupError)     no session has this ID
└── OwnerLimitReached                 the owner has all the sessions allowed

Absence is not an error, except where a caller named one session. No message
ever contains an ID or a stored value: they end up in logs.
"""

__all__ = [
    "CodecError",
    "ConfigError",
    "CorruptRecord",
    "KeyTaken",
    "LifecycleError",
    "OwnerLimitReached",
    "ResponseStarted",
    "SessionError",
    "SessionGone",
    "SessionNotFound",
    "SessionNotLoaded",
    "SessionReleased",
    "SessionTooLarge",
    "StorageError",
    "StorageUnavailable",
    "UnregisteredType",
]


class SessionError(Exception):
    """The root: everything that sessioncore raises on its own account."""


class ConfigError(SessionError, ValueError):
    """Raised when a setting or an argument cannot work; says how to mend it."""


class StorageError(SessionError):
    """Raised when the storage refused an operation and nothing was changed."""


class StorageUnavailable(StorageError):
    """Raised when the storage could not be reached or did not answer in time.

    The outcome of a write is then unknown: it is as it was before, or as it
    should be after, never between.
    """


class KeyTaken(StorageError):
    """Raised by a storage whose `move` finds the new key taken: nothing was changed, and another key will do.

    It has a type of its own because the core answers it with another ID, while any other
    refusal of a move fails the request. No application ever sees it, so it is exported
    from `sessioncore.storage`, for those who write one.
    """


class CodecError(SessionError, ValueError):
    """Raised when a value cannot be encoded or decoded."""


class UnregisteredType(CodecError, TypeError):
    """Raised when a value's type is neither built in nor registered with the store."""


class CorruptRecord(CodecError):
    """Raised when stored bytes are damaged, or do not fit the type asked for."""


class SessionTooLarge(CodecError):
    """Raised before any write when the encoded record would exceed `max_size` bytes."""


class LifecycleError(SessionError, RuntimeError):
    """Raised when a session is used at a moment at which that cannot work."""


class SessionGone(LifecycleError):
    """Raised by an explicit `save()` when the session was ended meanwhile."""


class SessionReleased(LifecycleError):
    """Raised when a session is changed after `release()` or the end of its request; it can still be read."""


class SessionNotLoaded(LifecycleError):
    """Raised where no session is to be had: no middleware, a skipped request, or not loaded yet."""


class ResponseStarted(LifecycleError):
    """Raised when a change needs a header, and the headers have left already."""


class SessionNotFound(SessionError, LookupError):
    """Raised when a session was asked for by its ID, and there is none."""


class OwnerLimitReached(SessionError):
    """Raised at the commit when the owner already has `max_sessions_per_owner` sessions."""
