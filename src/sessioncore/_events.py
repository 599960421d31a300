"""Events that say what happened to sessions, for logs, metrics and alerts.

An event contains the handle of a session, never its ID, and no values.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal, TypeAlias

from msgspec import Struct

__all__ = ["EventKind", "Events", "SessionEvent", "StorageListener", "StorageOutcome"]

_logger = logging.getLogger("sessioncore")


class EventKind(StrEnum):
    """The kinds of events, which are also text: "created"; see docs/lifecycle.md for when each is sent."""

    CREATED = "created"  # a record was stored for the first time
    RENEWED = "renewed"  # the idle clock was renewed
    REGENERATED = "regenerated"  # the record moved to a new ID
    LOGIN = "login"  # the same, by a login
    DESTROYED = "destroyed"  # ended by destroy, reset or delete
    REVOKED = "revoked"  # ended by revoke or revoke_all
    EXPIRED = "expired"  # used after its absolute deadline, or given an earlier one that has passed
    GONE = "gone"  # ended by another request before this one could write; this one's changes were dropped
    CONFLICT = "conflict"  # stored, or given up, after others wrote meanwhile; detail: the number of tries
    CORRUPT = "corrupt"  # a record or a value cannot be read
    UNKNOWN = "unknown"  # a well-formed ID of no live session: ended, expired or forged
    MALFORMED = "malformed"  # text that cannot be an ID
    AMBIGUOUS = "ambiguous"  # one place of the request holds two different IDs
    OWNER_LIMIT = "owner_limit"  # a login reached `max_sessions_per_owner`
    STORAGE_ERROR = "storage_error"  # detail: the operation and the error's class
    STALE_ID = "stale_id"  # an ID that was just replaced: a late request, or a stolen ID
    CROSS_SITE = "cross_site"  # another site's request was refused the session; detail: its method and origin
    CAPPED = "capped"  # a timeout was set with which the idle timeout reaches beyond the absolute deadline


class SessionEvent(Struct, frozen=True):
    """One event; `handle` and `owner` are None if they are not known, `at` is an aware UTC datetime."""

    kind: EventKind
    handle: str | None
    owner: str | None
    detail: str
    at: datetime


StorageOutcome: TypeAlias = Literal["ok", "error", "timeout", "cancelled"]
"""How a storage call ended. "timeout": no reply within `storage_timeout`; "cancelled": the request was cancelled."""


class StorageListener(ABC):
    """Base class for listeners of `on_event` that are also called after every storage call."""

    def __call__(self, event: SessionEvent) -> None:
        """Handle an event; by default do nothing."""
        return

    @abstractmethod
    def storage_call(self, operation: str, seconds: float, outcome: StorageOutcome) -> None:
        """Handle a finished storage call: its method, the seconds that the caller waited, and how it ended."""

    def attached(self, storage: object) -> None:
        """Take note of a store's storage: called once for each store that has this listener. By default do nothing."""
        return


class Events:
    """Sends events to the listeners of one store."""

    __slots__ = ("_clock", "_listeners", "has_listener")

    def __init__(self, listeners: Sequence[Callable[[SessionEvent], None]], clock: Callable[[], float]) -> None:
        self._listeners = listeners
        self.has_listener = bool(listeners)
        self._clock = clock

    def send(self, kind: EventKind, handle: str | None = None, owner: str | None = None, detail: str = "") -> None:
        """Call every listener; an exception that one raises is logged and not propagated."""
        if not self.has_listener:
            return
        event = SessionEvent(kind, handle, owner, detail, datetime.fromtimestamp(self._clock(), UTC))
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                _logger.exception(
                    "on_event raised for a %r event; the session is not affected: fix on_event", kind.value
                )
