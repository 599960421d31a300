"""Computes when a session ends and when its idle clock must be renewed. Pure arithmetic, in seconds."""

from msgspec import Struct

from sessioncore._config import SessionConfig

__all__ = ["Lifetimes"]


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

    def time_left(self, created_at: float, idle: float | None, now: float) -> float:
        """Return the seconds until an unused session ends: its idle timeout, cut at the absolute deadline.

        `idle` is the session's own idle timeout, or None for the configured one. If the result
        is zero or negative, the absolute deadline has passed.
        """
        timeout, absolute = self.idle if idle is None else idle, self.absolute
        if absolute is not None and (until := created_at + absolute - now) < timeout:
            return until
        return timeout

    def is_due(self, renewed_ttl: float, idle: float | None, ttl: float) -> bool:
        """Tell whether the idle clock must be renewed: it has `ttl` seconds left, and would have `renewed_ttl`.

        It must if it has much less than `renewed_ttl` left. If it has much more, the configured
        timeout was shortened after the last renewal.
        """
        limit = self.touch or renewed_ttl * 0.05
        if idle is not None and idle * 0.1 < limit:  # a short own timeout must not expire between two renewals
            limit = idle * 0.1
        return not -limit < renewed_ttl - ttl < limit
