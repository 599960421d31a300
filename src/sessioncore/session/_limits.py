"""What a request may not do with its session any more, or was never allowed to do."""

from msgspec import Struct

from sessioncore.session._error_factories import ErrorFactory, changes_dropped, released, response_started

__all__ = ["CHANGES_DROPPED", "NO_LIMITS", "RELEASED", "RESPONSE_STARTED", "Limits"]


class Limits(Struct, frozen=True):
    """Each field makes the error for what it refuses; None: that is allowed."""

    write: ErrorFactory | None = None  # every change
    new_id: ErrorFactory | None = None  # what needs a new ID: login, regenerate, the first write of a fresh session
    save: ErrorFactory | None = None  # `Session.save`, which must not return as if it had stored what was dropped


NO_LIMITS = Limits()
RESPONSE_STARTED = Limits(new_id=response_started)
CHANGES_DROPPED = Limits(new_id=response_started, save=changes_dropped)
RELEASED = Limits(write=released, save=released)
