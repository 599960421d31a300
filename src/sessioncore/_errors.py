"""The errors of sessioncore.

SessionError
├── ConfigError (ValueError)          a setting or an argument is not valid
├── StorageError                      the storage refused an operation
│   ├── KeyTaken                      a record cannot be moved, because the new key is in use
│   └── StorageUnavailable            the storage cannot be reached, or did not reply in time
│       └── WritesRefused             it replies, but takes no writes at the moment
├── CodecError (ValueError)           a value cannot be encoded or decoded
│   ├── UnregisteredType (TypeError)  its type is not registered
│   ├── CorruptRecord                 the stored bytes are damaged, or do not fit their type
│   └── SessionTooLarge               the encoded record is larger than `max_size`
├── LifecycleError (RuntimeError)     the call is not possible at this moment
│   ├── SessionGone                   the session was ended meanwhile
│   ├── SessionReleased               the session was released
│   ├── SessionNotLoaded              the request has no session, or has not loaded it yet
│   └── ResponseStarted               a new ID cannot reach the client any more
├── SessionNotFound (LookupError)     no session has this ID
├── CrossSiteRequest                  another site made the request
└── OwnerLimitReached                 the owner has as many sessions as are allowed

A missing session is an error only where the caller asked for one by its ID. No message
contains an ID or a stored value, because messages end up in logs.
"""

__all__ = [
    "CodecError", "ConfigError", "CorruptRecord", "CrossSiteRequest", "KeyTaken", "LifecycleError",
    "OwnerLimitReached", "ResponseStarted", "SessionError", "SessionGone", "SessionNotFound", "SessionNotLoaded",
    "SessionReleased", "SessionTooLarge", "StorageError", "StorageUnavailable", "UnregisteredType", "WritesRefused",
]  # fmt: skip


class SessionError(Exception):
    """The base class of every error that sessioncore raises."""


class ConfigError(SessionError, ValueError):
    """Raised when a setting or an argument is not valid; the text says how to fix it."""


class StorageError(SessionError):
    """Raised when the storage refused an operation and nothing was changed."""


class StorageUnavailable(StorageError):
    """Raised when the storage could not be reached or did not reply in time.

    The outcome of a write is then unknown: it was stored completely, or not at all.
    """


class WritesRefused(StorageUnavailable):
    """Raised when the storage replies but takes no writes at the moment: it is read-only, full, or lacks replicas.

    A SQLite file that another process has locked counts as such a state, too. Nothing was changed, except that a
    deletion which too few replicas have confirmed was made. Such a state usually passes by itself, as in a
    failover, so it does not stop the start of an application. The error is exported from
    `sessioncore.storage` only, for authors of storages.
    """


class KeyTaken(StorageError):
    """Raised by `Storage.move` when the new key is in use; nothing was changed.

    It is a type of its own because the core then tries another ID, while any other refusal
    fails the request. Applications never see it, so it is exported from `sessioncore.storage`
    only, for authors of storages.
    """

    def __init__(self, text: str = "the new key is taken; nothing was changed") -> None:
        super().__init__(text)


class CodecError(SessionError, ValueError):
    """Raised when a value cannot be encoded or decoded."""


class UnregisteredType(CodecError, TypeError):
    """Raised when a value's type is neither built in nor registered with the store."""


class CorruptRecord(CodecError):
    """Raised when stored bytes are damaged, or do not match the type of a `SessionKey`."""


class SessionTooLarge(CodecError):
    """Raised before any write when the encoded record would be larger than `max_size` bytes."""


class LifecycleError(SessionError, RuntimeError):
    """Raised when a session is used at a moment when that is not possible."""


class SessionGone(LifecycleError):
    """Raised by `save()`, `reload()` and `alive()` when the session has ended.

    `save()` and `reload()` also raise it if another request has replaced the ID.
    """


class SessionReleased(LifecycleError):
    """Raised when a session is changed after `release()` or the end of its request; it can still be read."""


class SessionNotLoaded(LifecycleError):
    """Raised when there is no session: the middleware is missing, the request is skipped, or it is not loaded yet."""


class ResponseStarted(LifecycleError):
    """Raised when a change needs a response header, and the headers have been sent already."""


class SessionNotFound(SessionError, LookupError):
    """Raised when no session has the ID that the caller passed."""


class CrossSiteRequest(SessionError):
    """Raised when a request that another site made uses or begins a session; see `SessionConfig.cross_site`."""


class OwnerLimitReached(SessionError):
    """Raised by the commit when the owner already has `max_sessions_per_owner` sessions."""
