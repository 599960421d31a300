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
        return self.judge(created_at, idle, now, 0.0)[0]

    def judge(self, created_at: float, idle: float | None, now: float, ttl: float) -> tuple[float, bool]:
        """Return what `left` does, and whether the idle clock, of which `ttl` is left, is to be renewed.

        Too little is left: the clock is stale. Too much: the configured timeout was shortened
        since.
        """
        full, limit = self.idle if idle is None else idle, self.touch
        absolute = self.absolute
        if absolute is not None and (until := created_at + absolute - now) < full:
            full = until
        if limit == 0.0:
            limit = full * 0.05
        if idle is not None and idle * 0.1 < limit:  # one shorter than the interval would run out between two renewals
            limit = idle * 0.1
        return full, not -limit < full - ttl < limit
