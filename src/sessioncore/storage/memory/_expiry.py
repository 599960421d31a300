"""When keys expire, without sorting them: buckets of keys that are due together.

A bucket spans at most a sixteenth of the time to live, but at least one second, so there
are a few dozen buckets for any number of keys. A key whose end is postponed stays in
its bucket, and moves to a later one when that bucket is due: so a renewal costs nothing.
"""

import heapq
import math

from msgspec import Struct

__all__ = ["Bucket", "Buckets"]


class Bucket(Struct, eq=False):
    """Keys that are to be looked at from the time `due` on; none of them ends before `begins`."""

    due: int
    begins: int
    keys: set[str]


class Buckets:
    """All buckets, in the order in which they are due."""

    def __init__(self) -> None:
        self._by_due: dict[int, Bucket] = {}
        # A heap of the dict's keys; empty buckets stay until they are at the front.
        self._queue: list[int] = []
        self._ttl, self._step = 0.0, 1
        self.next_due: float = math.inf

    def fit(self, ends: float, ttl: float) -> Bucket:
        """Return the bucket for a key that ends at `ends`, `ttl` seconds from now."""
        if ttl != self._ttl:  # nearly all sessions have the same
            self._ttl, self._step = ttl, 1 << max(0, int(ttl).bit_length() - 5)
        step = self._step
        due = (int(ends) // step + 1) * step
        bucket = self._by_due.get(due)
        if bucket is None:
            bucket = self._by_due[due] = Bucket(due, due - step, set())
            heapq.heappush(self._queue, due)
            self.next_due = self._queue[0]
        elif bucket.begins > due - step:
            bucket.begins = due - step
        return bucket

    def begun(self, now: float) -> list[Bucket]:
        """Return the buckets that may have a key whose end has come."""
        return [bucket for bucket in self._by_due.values() if bucket.begins <= now]

    def first(self) -> Bucket | None:
        """Return the next bucket with keys, or None if there are no keys."""
        queue = self._queue
        while queue:
            bucket = self._by_due[queue[0]]
            if bucket.keys:
                return bucket
            del self._by_due[heapq.heappop(queue)]
            self.next_due = queue[0] if queue else math.inf
        return None
