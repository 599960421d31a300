"""Tracks the failures of a storage: whether its calls are worth waiting for, and what was logged.

If a storage does not reply, each call takes `storage_timeout`, even for a request that does not
use its session. So after some timeouts in a row, calls fail immediately, and one at a time tries again.
Only timeouts count: a storage that replies with a refusal takes no time.
"""

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Final

from sessioncore._errors import StorageUnavailable
from sessioncore.persistence._call_timer import is_timeout

__all__ = ["Health"]

_logger = logging.getLogger("sessioncore")

_TIME_OUTS: Final = 3  # in a row, until calls fail immediately
_IN_A_ROW: Final = 2  # failures without a reply between them, after which the first reply ends an outage


class Health:
    """The failures of one store's storage since it last worked. Any thread may use it."""

    __slots__ = (
        "_clock", "_ended_early", "_failed_at", "_in_a_row", "_logged", "_mutex", "_next_try", "_reports", "_seconds",
        "_time_outs", "is_failing",
    )  # fmt: skip

    def __init__(self, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self._seconds = seconds  # storage_timeout
        self._clock = clock
        self.is_failing = False  # asked at each call, so it is an attribute
        self._time_outs = 0
        self._next_try = 0.0
        self._failed_at = 0.0
        self._in_a_row = 0
        self._ended_early = False  # a reply ended the last outage, and no quiet time has confirmed that it was over
        self._logged: set[type[Exception]] = set()
        self._reports = 0
        self._mutex = threading.RLock()

    def refuses(self) -> bool:
        """Return whether a call must not be made; after timeouts, one call in each `storage_timeout` may try again."""
        with self._mutex:
            if self._time_outs < _TIME_OUTS:
                return False
            now = self._clock()
            if now < self._next_try:
                return True
            self._next_try = now + self._seconds  # also if that call is cancelled, another one tries after this time
            return False

    def error(self) -> StorageUnavailable:
        """Return the error of a call that was not made."""
        return StorageUnavailable(
            "the storage has not replied in time lately, so this call was not made; one call at a time tries again: "
            "check the storage"
        )

    def failed(self, error: BaseException) -> None:
        """Count what a call raised."""
        with self._mutex:
            self._ended_early &= self._is_recent()
            if not self.is_failing:
                self._logged.clear()
            self.is_failing = True
            self._failed_at = self._clock()
            self._in_a_row += 1
            self._time_outs = self._time_outs + 1 if is_timeout(error) else 0

    def worked(self) -> None:
        """Note a reply, which ends an outage if no call has failed for `storage_timeout`.

        The first reply after several failures in a row ends it, too. But this counts only once until a quiet time has
        confirmed it: if one of several servers fails, there are replies all the time.
        """
        with self._mutex:
            in_a_row, self._in_a_row, self._time_outs = self._in_a_row, 0, 0
            early = self._is_recent()
            if early and (in_a_row < _IN_A_ROW or self._ended_early):
                return
            self._ended_early = early
            self.is_failing = False
            reports = self._reports if self._logged else None
            if not early:  # else requests that failed before are still to be reported
                self._logged.clear()
            self._reports = 0
        if reports is not None:
            _logger.warning("the storage works again; failures until now: %d", reports)

    def report(self, what: str, error: Exception) -> None:
        """Log the first error of its kind since the storage last worked, with its traceback; count the others.

        Each request fails while the storage does, and one traceback says as much as a thousand.
        """
        with self._mutex:
            self._reports += 1
            if type(error) in self._logged and (self.is_failing or self._is_recent()):
                return
            if not self.is_failing:
                self.failed(error)
            self._logged.add(type(error))
        _logger.error("%s: %s", what, error, exc_info=error)

    def _is_recent(self) -> bool:
        return self._clock() - self._failed_at < self._seconds
