"""Computes when a session ends and when its idle clock must be renewed. Pure arithmetic, in seconds."""

from msgspec import Struct

from sessioncore._config import SessionConfig
from sessioncore.codec._record import Record
from sessioncore.session._loaded import Loaded

__all__ = ["Lifetimes"]

_NO_GAIN = 1.0  # seconds by which the clocks of the store and the storage may differ


class Lifetimes(Struct, frozen=True):
    """The configured timeouts, in seconds."""

    idle: float
    absolute: float | None  # None: no limit
    touch: float  # touch_interval; 0: renew with each load

    @classmethod
    def of(cls, config: SessionConfig) -> "Lifetimes":
        """Return the timeouts of a configuration."""
        absolute = config.absolute_timeout
        return cls(
            config.idle_timeout.total_seconds(),
            None if absolute is None else absolute.total_seconds(),
            config.touch_interval.total_seconds(),
        )

    def time_left(self, created_at: float, idle: float | None, absolute: float | None, now: float) -> float:
        """Return the seconds until an unused session ends: its idle timeout, cut at the absolute deadline.

        `idle` and `absolute` are the session's own timeouts, or None for the configured ones. If
        the result is zero or negative, the absolute deadline has passed.
        """
        timeout = self.idle if idle is None else idle
        if absolute is None:
            absolute = self.absolute
        if absolute is not None and (until := created_at + absolute - now) < timeout:
            return until
        return timeout

    def renewed_ttl(self, record: Record, now: float) -> float:
        """Return the seconds that a session has left when its idle clock is renewed."""
        return self.time_left(record.created_at, record.idle, record.absolute, now)

    def remaining(self, record: Record, ttl: float, now: float) -> float:
        """Return the seconds until a session ends whose record has `ttl` seconds left, unless it is renewed."""
        return self.time_left(record.created_at, ttl, record.absolute, now)

    def idle_of(self, record: Record) -> float:
        """Return the idle timeout of a session: its own, or the configured one."""
        return self.idle if record.idle is None else record.idle

    def cookie_seconds(self, record: Record, now: float) -> float:
        """Return the seconds until the absolute deadline; without one, the idle timeout."""
        absolute = self.absolute if record.absolute is None else record.absolute
        if absolute is not None:
            return record.created_at + absolute - now
        return self.idle_of(record)

    def is_due(self, renewed_ttl: float, idle: float | None, ttl: float) -> bool:
        """Return whether the idle clock must be renewed: it has `ttl` seconds left, and would have `renewed_ttl`.

        It must if it has much less than `renewed_ttl` left. If it has much more, the configured
        timeout was shortened after the last renewal.
        """
        limit = self.touch or renewed_ttl * 0.05
        if idle is not None and idle * 0.1 < limit:  # a short own timeout must not expire between two renewals
            limit = idle * 0.1
        gained = renewed_ttl - ttl
        if not -limit < gained < limit:
            return True
        # If the absolute deadline cuts `renewed_ttl`, the gain does not show how long ago the clock was renewed.
        return gained > _NO_GAIN and renewed_ttl < (own := self.idle if idle is None else idle) and own - ttl >= limit

    def is_renewal_due(self, loaded: Loaded, now: float) -> bool:
        """Return whether the idle clock of a session that was loaded some time ago must be renewed."""
        ttl = loaded.ttl - (now - loaded.as_of)
        return self.is_due(self.renewed_ttl(loaded.record, now), loaded.record.idle, ttl)
