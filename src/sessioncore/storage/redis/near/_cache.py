"""Records that this process has read, and how old they can be: the structure of the near cache, without I/O.

Redis reports changes on the connection that read the record, in order with its replies. So when
a command is answered, every change that was complete when it was *sent* has been reported, and
the records that are still here were up to date at that moment. That is the proof of age.

A `RecordCache` belongs to one event loop, and its records were read on one connection.
"""

from collections import OrderedDict
from collections.abc import Iterable
from datetime import timedelta
from math import inf

from msgspec import Struct

from sessioncore._errors import ConfigError
from sessioncore._opaque import Opaque
from sessioncore._storage_calls import Stored
from sessioncore.storage._free_threading import FREE_THREADED

__all__ = ["NearCache", "NearCacheStats", "RecordCache"]

# Bytes that a record takes beside its data and the text of its key, measured; objects are larger without the GIL.
_OVERHEAD = 440 if FREE_THREADED else 320


class NearCache(Struct, frozen=True, kw_only=True):
    """Keep records in this process, and load them without a round trip while their age is proven.

    A load returns a record that the server had at most `max_stale` before the load began; with zero,
    one that it had when the load began. `max_bytes` limits the memory of each event loop; the least
    recently used records are dropped first.

    Raises:
        ConfigError: `max_stale` is negative, or `max_bytes` is not a whole number above zero.
    """

    max_stale: timedelta = timedelta(seconds=1)
    max_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        if not isinstance(self.max_stale, timedelta) or self.max_stale < timedelta(0):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError("max_stale must be a timedelta of zero or more: how old a record from the cache may be")
        if type(self.max_bytes) is not int or self.max_bytes < 1:
            raise ConfigError("max_bytes must be a whole number above zero: the memory of the cache in bytes")


class NearCacheStats(Struct):
    """The counters of a storage's near caches since it was created, over all event loops."""

    hits: int = 0  # loads that the cache answered, at once or after a proof
    misses: int = 0  # loads that the server answered
    proofs: int = 0  # loads that waited for a PING, because the age of the cache was not proven
    invalidations: int = 0  # records that were dropped because they were changed, or may have been
    evictions: int = 0  # records that were dropped to keep within `max_bytes`
    bytes: int = 0  # that the records take now


class _Entry(Opaque, Struct, frozen=True, gc=False):
    data: bytes
    version: int
    ends: float
    size: int


class RecordCache:
    """Records by their keys. Times are by the monotonic clock."""

    __slots__ = ("_entries", "_fills", "_max_bytes", "_not_before", "_proven_at", "_stats", "bytes")

    def __init__(self, max_bytes: int, stats: NearCacheStats) -> None:
        self.bytes = 0
        self._max_bytes = max_bytes
        self._stats = stats
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # the least recently used one first
        self._fills: dict[str, object] = {}  # the newest read of each key whose reply may still be kept
        self._proven_at = -inf  # when the newest answered command was sent
        self._not_before = -inf  # a command sent by then is no proof

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def lookup(self, key: str, now: float, proven_since: float) -> Stored | None:
        """Return the record, if it is cached and was up to date at that time or later."""
        entry = self._entries.get(key)
        if entry is None or self._proven_at < proven_since:
            return None
        left = entry.ends - now
        if left <= 0.0:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        self._stats.hits += 1
        return Stored(entry.data, entry.version, left)

    def proved(self, sent: float) -> None:
        """Note that a command was answered that was sent at that time, on the connection that read the records.

        After a lost connection it may be the former one, which does no harm: the newer reads prove more by themselves.
        """
        if self._proven_at < sent and self._not_before < sent:
            self._proven_at = sent

    def require_new_proof(self, now: float) -> None:
        """Accept only proofs by commands that are sent from now on."""
        self._proven_at = -inf
        self._not_before = now

    # -- what fills it

    def begin_fill(self, key: str) -> object:
        """Note that `key` is about to be read; return the mark of that read."""
        mark = self._fills[key] = object()
        self._stats.misses += 1
        return mark

    def end_fill(self, key: str, mark: object, stored: Stored | None, sent: float) -> None:
        """Keep the result of a read that was sent at that time, unless something has overtaken it; None: it failed."""
        if self._fills.get(key) is not mark:
            return
        del self._fills[key]
        if stored is None:
            return
        if key in self._entries:
            self._remove(key)
        size = len(stored.data) + len(key) + _OVERHEAD
        if size > self._max_bytes:
            return
        self._entries[key] = _Entry(stored.data, stored.version, sent + stored.ttl, size)
        self.bytes += size
        while self.bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))
            self._stats.evictions += 1

    # -- what empties it

    def drop(self, keys: Iterable[str]) -> None:
        """Forget these keys, and the reads of them that are under way."""
        for key in keys:
            self._fills.pop(key, None)
            if key in self._entries:
                self._remove(key)
                self._stats.invalidations += 1

    def empty(self) -> None:
        """Forget everything, because changes may have been missed."""
        self._stats.invalidations += len(self._entries)
        self._entries.clear()
        self._fills.clear()
        self.bytes = 0

    def _remove(self, key: str) -> None:
        self.bytes -= self._entries.pop(key).size
