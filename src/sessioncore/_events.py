"""What happened to sessions, told to whoever listens: for logs, metrics and alarms.

An event names a session by its handle, never by its ID, and carries no value.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from msgspec import Struct

__all__ = ["EventKind", "Events", "SessionEvent", "SessionInfo"]

_logger = logging.getLogger("sessioncore")


class EventKind(str, Enum):
    """The kinds of events; see docs/lifecycle.md for when each is sent."""

    CREATED = "created"  # a record was stored for the first time
    RENEWED = "renewed"  # the idle clock was set anew
    REGENERATED = "regenerated"  # the record moved to a new ID
    DESTROYED = "destroyed"  # ended by destroy, reset or delete
    REVOKED = "revoked"  # ended from outside: revoke, revoke_all, an owner's limit
    EXPIRED = "expired"  # presented after its absolute deadline
    GONE = "gone"  # ended elsewhere while this request wanted to write; its changes were dropped
    CONFLICT = "conflict"  # written after others had written meanwhile; detail: the number of tries
    CORRUPT = "corrupt"  # a record or a value that cannot be read
    UNKNOWN = "unknown"  # a well-formed ID that names no session: ended, expired, or invented
    MALFORMED = "malformed"  # text that cannot be an ID
    AMBIGUOUS = "ambiguous"  # one place of the request offers two different IDs
    OWNER_LIMIT = "owner_limit"  # a login met `max_sessions_per_owner`
    STORAGE_ERROR = "storage_error"  # detail: the operation and the error's class


class SessionEvent(Struct, frozen=True):
    """One thing that happened; `handle` and `owner` where they are known, `at` as an aware UTC datetime."""

    kind: EventKind
    handle: str | None
    owner: str | None
    detail: str
    at: datetime


class SessionInfo(Struct, frozen=True):
    """One of an owner's sessions, as `sessions_of` lists it. Times are aware UTC datetimes."""

    handle: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    details: dict[str, Any]


class Events:
    """Sends events to the listener of one store, if there is one."""

    __slots__ = ("_clock", "_listener", "heard")

    def __init__(self, listener: Callable[[SessionEvent], None] | None, clock: Callable[[], float]) -> None:
        self._listener = listener
        self.heard = listener is not None  # False: nothing need be told
        self._clock = clock

    def send(self, kind: EventKind, handle: str | None = None, owner: str | None = None, detail: str = "") -> None:
        """Tell the listener; what it raises is logged and goes no further: telling must not change what happened."""
        if self._listener is None:
            return
        event = SessionEvent(kind, handle, owner, detail, datetime.fromtimestamp(self._clock(), UTC))
        try:
            self._listener(event)
        except Exception:
            _logger.exception("on_event raised for a %r event; the session is not affected", kind.value)
