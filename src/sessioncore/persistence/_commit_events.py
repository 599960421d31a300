"""The events of a write that was stored."""

from datetime import timedelta
from typing import Final

from sessioncore._events import EventKind
from sessioncore.persistence._machine import QueuedEvent
from sessioncore.session._attempt import Attempt
from sessioncore.session._deadlines import Lifetimes
from sessioncore.session._lifecycle import CREATE, MOVE
from sessioncore.session._loaded import Loaded

__all__ = ["ENDED_TTL", "events_of_write"]

ENDED_TTL: Final = 0.001  # seconds; the ttl of a record that is stored although its session has ended
_ROUNDING: Final = 0.001  # seconds; timeouts that are equal must not seem to differ


def events_of_write(attempt: Attempt, before: Loaded | None, tries: int, lifetimes: Lifetimes) -> list[QueuedEvent]:
    """Return the events for a write that was stored after `tries` tries; `before` is the former record."""
    record, action, metadata, handle = attempt.record, attempt.action, attempt.delta.metadata, attempt.handle
    owner, ttl = record.owner, attempt.call.ttl
    events: list[QueuedEvent] = []
    if tries > 1:
        events.append(QueuedEvent(EventKind.CONFLICT, None if before is None else before.handle, owner, str(tries)))
    if action is CREATE:
        events.append(QueuedEvent(EventKind.CREATED, handle, owner))
    elif action is MOVE and before is not None:
        kind = EventKind.LOGIN if metadata.login is not None else EventKind.REGENERATED
        events.append(QueuedEvent(kind, handle, owner, f"was {before.handle}"))
    if metadata.settings.has_timeouts():
        idle = lifetimes.idle_of(record)
        if ttl == ENDED_TTL:
            detail = "it is older than its new absolute timeout"
            events.append(QueuedEvent(EventKind.EXPIRED, handle, owner, detail))
        elif ttl < idle - _ROUNDING:
            full, cut = timedelta(seconds=round(idle)), timedelta(seconds=round(ttl))
            detail = f"the absolute deadline cuts the idle timeout of {full} to {cut}"
            events.append(QueuedEvent(EventKind.CAPPED, handle, owner, detail))
    return events
