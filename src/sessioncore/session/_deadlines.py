"""When a session ends, and when its idle clock has to be set anew. Pure arithmetic, in seconds."""

from msgspec import Struct

from sessioncore._config import SessionConfig

__all__ = ["Lifetimes"]


class Lifetimes(Struct, frozen=True):
    """The configured timeouts, in seconds."""

    idle: float
    absolute: float | None  # None: no limit
    touch: float  # 0: renew with each load

    @classmethod
    def of(cls, config: SessionConfig) -> "Lifetimes":
        """Return those of a configuration."""
        absolute = config.absolute_timeout
        return cls(
            config.idle_timeout.total_seconds(),
            None if absolute is None else absolute.total_seconds(),
            config.touch_interval.total_seconds(),
        )

    def left(self, created_at: float, idle: float | None, now: float) -> float:
        """Return the seconds until a session ends unless it is used: its idle timeout, cut at the absolute deadline.

        `idle` is the session's own timeout, None for the configured one. At or below zero:
        the absolute deadline has passed.
        """
        full, absolute = self.idle if idle is None else idle, self.absolute
        if absolute is not None and (until := created_at + absolute - now) < full:
            return until
        return full

    def is_stale(self, full: float, idle: float | None, ttl: float) -> bool:
        """Tell whether the idle clock is to be renewed: `ttl` is left of it, and `full` is what `left` gives now.

        Too little is left: the clock is stale. Too much: the configured timeout was shortened
        since.
        """
        limit = self.touch or full * 0.05
        if idle is not None and idle * 0.1 < limit:  # one shorter than the interval would run out between two renewals
            limit = idle * 0.1
        return not -limit < full - ttl < limit
