"""What the storage's answer to a load means: a live session, or why there is none."""

from typing import Final

from sessioncore._errors import CorruptRecord, StorageError
from sessioncore._events import EventKind
from sessioncore._storage_calls import Load, Moved, Stored, Unreadable
from sessioncore.codec._record import decode_record
from sessioncore.persistence._machine import Answer, QueuedEvent, check_fields, unexpected_answer
from sessioncore.persistence._store_context import StoreContext
from sessioncore.session._loaded import Loaded

__all__ = ["DEADLINE_DETAIL", "UNREADABLE_DETAIL", "interpret_load"]

DEADLINE_DETAIL: Final = "the absolute deadline has passed"
UNREADABLE_DETAIL: Final = "the storage has something under this key that it did not write"


def interpret_load(
    context: StoreContext, session_id: str, handle: str, answer: Answer, counts_as_use: bool
) -> Loaded | QueuedEvent:
    """Return the live session in the storage's answer to a load, or the event that says why there is none.

    `counts_as_use`: a client's request uses the session. The load may have renewed its idle clock
    already; otherwise the result says whether a renewal is due.

    Raises:
        StorageError: the answer is this error, or the storage contract does not allow it.
    """
    if not isinstance(answer, Stored):
        if isinstance(answer, StorageError):
            raise answer
        if isinstance(answer, Unreadable):
            return QueuedEvent(EventKind.CORRUPT, handle, detail=UNREADABLE_DETAIL)
        if answer is not None and not isinstance(answer, Moved):  # it must not pass for "no session"
            raise unexpected_answer(context.config.storage, Load.operation, answer)
        return QueuedEvent(EventKind.STALE_ID if isinstance(answer, Moved) else EventKind.UNKNOWN, handle)
    try:
        record = decode_record(answer.data, context.config.max_size)
        now = context.config.clock()
        lifetimes, idle, ttl = context.lifetimes, record.idle, answer.ttl
        renewed_ttl = lifetimes.time_left(record.created_at, idle, record.absolute, now)
        if renewed_ttl <= 0.0:
            return QueuedEvent(EventKind.EXPIRED, handle, record.owner, DEADLINE_DETAIL)
        due = lifetimes.is_due(renewed_ttl, idle, ttl) and counts_as_use
    except CorruptRecord as exc:
        # The record is kept for inspection until it expires.
        return QueuedEvent(EventKind.CORRUPT, handle, detail=str(exc))
    except TypeError:
        check_fields(context.config.storage, Load.operation, answer)
        raise
    renewed = counts_as_use and context.renew_on_load is not None
    return Loaded(session_id, handle, record, answer.version, ttl, now, due, renewed)
