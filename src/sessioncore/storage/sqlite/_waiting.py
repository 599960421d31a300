"""Waiting for other processes that lock the file."""

import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from anyio import current_effective_deadline, current_time

from sessioncore.storage.sqlite._errors import is_busy

__all__ = ["longest_wait", "when_free"]

T = TypeVar("T")


def longest_wait(busy_timeout: float) -> float:
    """Return for how many seconds the running task may wait for another process."""
    # A little less than until its deadline, so that it still gets the error that says why it has waited.
    return max(0.0, min(busy_timeout, (current_effective_deadline() - current_time()) * 0.9))


def when_free(function: Callable[[], T], until: float) -> T:
    """Call `function`; while another process locks the file, call it again until the monotonic clock shows `until`."""
    # SQLite's own busy handler sleeps up to 100 ms between two tries, and a busy process overtakes one that
    # sleeps: of two processes that wrote without a pause, one waited 700 ms. One try per millisecond is fair. A file
    # that is locked for long is tried less often, to save a fiftieth of a processor; the wait ends at most 2 % later.
    began = time.monotonic()
    while True:
        try:
            return function()
        except sqlite3.OperationalError as exc:
            now = time.monotonic()
            if not is_busy(exc) or now >= until:
                raise
        time.sleep(max(0.001, (now - began) / 50))
