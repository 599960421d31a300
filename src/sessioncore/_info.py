"""What `sessions_of` tells about a session."""

from datetime import datetime
from typing import Any

from msgspec import Struct

__all__ = ["SessionInfo"]


class SessionInfo(Struct, frozen=True):
    """One of an owner's sessions, as `sessions_of` lists it. Times are aware UTC datetimes."""

    handle: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    details: dict[str, Any]
