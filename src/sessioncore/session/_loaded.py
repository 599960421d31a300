"""The record of a session as a request has loaded or stored it last."""

from msgspec import Struct

from sessioncore._opaque import Opaque
from sessioncore.codec._record import Record

__all__ = ["Loaded"]


class Loaded(Opaque, Struct, frozen=True):
    """A record as it was loaded or stored last; it is replaced as a whole, never field by field."""

    session_id: str
    handle: str
    record: Record
    version: int
    ttl: float  # the seconds that it had left at `as_of`
    as_of: float  # seconds since the epoch
    renewal_due: bool = False  # the idle clock is older than `touch_interval`
    renewed: bool = False  # this request renewed the idle clock, so a cookie that follows it must be sent again
    cookie_changed: bool = False  # this request changed when the cookie expires, so it must be sent again
    origin: str = ""  # the handle under which this request created it after ending another session; else empty

    def __repr__(self) -> str:
        return f"<Loaded version={self.version}>"  # the fields contain the ID and the values
