"""What the storage holds, as far as a request knows."""

from msgspec import Struct

from sessioncore.codec._record import Record

__all__ = ["Loaded"]


class Loaded(Struct, frozen=True):
    """A record as it was loaded or stored last; replaced as a whole, never field by field."""

    session_id: str
    handle: str
    record: Record
    version: int
    ttl: float  # seconds that were left at `at`
    at: float  # seconds since the epoch
    renewal_due: bool = False  # the idle clock is staler than `touch_interval` allows
    renewed: bool = False  # this request set the idle clock anew, so a cookie that follows it must be sent again

    def __repr__(self) -> str:
        return f"<Loaded version={self.version}>"  # the fields hold the ID and the values
