"""How long a connection waits after a failed attempt to connect before it tries again."""

from collections.abc import Callable

__all__ = ["Backoff"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds
_MAX_EARLY_ENDS = 3  # connections in a row that may end at once before the next attempt has to wait


class Backoff:
    """The pause before the next attempt, which grows from failure to failure."""

    __slots__ = ("_clock", "_early_ends", "_not_before", "_pause")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._pause = self._not_before = 0.0
        self._early_ends = 0

    def time_left(self) -> float:
        """Return the seconds until the next attempt may begin; zero if it may begin at once."""
        return max(0.0, self._not_before - self._clock())

    def failed(self) -> None:
        """Note that an attempt has failed."""
        self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
        self._not_before = self._clock() + self._pause

    def succeeded(self) -> None:
        """Note that an attempt has succeeded: the next pause is short again, unless connections keep ending early."""
        if not self._early_ends:
            self._pause = 0.0

    def ended(self, *, early: bool) -> None:
        """Note that an open connection has ended: a few early ends may be accidents, more of them count as failures."""
        self._early_ends = self._early_ends + 1 if early else 0
        if self._early_ends > _MAX_EARLY_ENDS:
            self.failed()
