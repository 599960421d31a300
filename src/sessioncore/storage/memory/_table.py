"""The records of a MemoryStorage: every call runs from start to end without a break.

Nothing here awaits, so no other task of the event loop can run in the middle of a call, and
the core calls the table without a coroutine (see `AnswersNow`). A lock keeps out the event
loops of other threads. Most loads do without it: the data and version of an entry never change.
"""

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator

from msgspec import Struct

from sessioncore._batched import batched
from sessioncore._errors import KeyTaken
from sessioncore._opaque import Opaque
from sessioncore._storage_calls import Create, Delete, Load, Move, Moved, Replace, Stored, Touch
from sessioncore._storage_protocol import PROBE_SUFFIX
from sessioncore._watchers import Watchers
from sessioncore.storage.memory._expiry import Bucket, Buckets
from sessioncore.storage.memory._owned import OwnedKeys
from sessioncore.storage.memory._tombstones import Tombstones

__all__ = ["Table"]

_SWEEP = 32  # keys looked at per write while a bucket is due: more than a write adds


class _Entry(Opaque, Struct, eq=False, gc=False):
    """One record; a write makes a new one. It is in no reference cycle, so the garbage collector need not track it."""

    data: bytes
    version: int
    ends: float
    bucket: Bucket
    owner: str | None


class Table:
    """Records by key, when they expire, and the keys of each owner. `Storage` says what the calls promise."""

    __slots__ = ("_buckets", "_clock", "_entries", "_limit", "_owned", "_tombstones", "_versions", "lock", "watchers")

    def __init__(self, limit: int | None, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._buckets = Buckets()
        self._owned = OwnedKeys()
        self._tombstones = Tombstones(limit)
        self._versions = itertools.count(1)  # one counter for all keys, so that no version is used twice
        self.watchers = Watchers()
        self.lock = threading.RLock()  # reentrant, because `watchers` call functions that are not known here

    def __len__(self) -> int:
        """Return the number of records in memory, including expired ones that are not removed yet."""
        return len(self._entries)

    def load(self, call: Load) -> Stored | Moved | None:
        entry, renew = self._entries.get(call.key), call.renew
        if renew is None and entry is not None:
            left = entry.ends - self._clock()
            if left > 0:
                return Stored(entry.data, entry.version, left)
        with self.lock:
            key, now = call.key, self._clock()
            if renew is not None and (entry := self._live(key, now)) is not None:
                self._set_end(key, entry, now, renew)
            return self._held(key, now)

    def create(self, call: Create) -> int | None:
        with self.lock:
            now, key = self._clock(), call.key
            if self._is_taken(key, now):
                return None
            if self._limit is not None and len(self._entries) >= self._limit:
                self._evict(now)
            return self._insert(key, call.data, now, call.ttl, call.owner)

    def replace(self, call: Replace) -> int | Stored | Moved | None:
        with self.lock:
            now, key, owner = self._clock(), call.key, call.owner
            old = self._entries.get(key)
            if old is None or old.version != call.version or old.ends <= now:
                return self._held(key, now)
            version, ends = next(self._versions), now + call.ttl
            self._entries[key] = entry = _Entry(call.data, version, ends, old.bucket, owner)
            if ends < old.ends:
                self._rebucket(key, entry, ends, call.ttl)
            if old.owner != owner:
                if old.owner is not None:
                    self._owned.discard(old.owner, key)
                if owner is not None:
                    self._owned.add(owner, key)
            if self.watchers.by_key:
                self.watchers.notify(key)
            return version

    def move(self, call: Move) -> int | Stored | Moved | None:
        with self.lock:
            now, key = self._clock(), call.key
            entry = self._live(key, now)
            if entry is None or entry.version != call.version:
                return self._held(key, now)
            if self._is_taken(call.new_key, now):
                raise KeyTaken
            self._drop(key, entry)
            if call.tombstone > 0:
                self._tombstones.leave(key, call.new_key, call.tombstone, now)
            return self._insert(call.new_key, call.data, now, call.ttl, call.owner)

    def touch(self, call: Touch) -> bool:
        with self.lock:
            now = self._clock()
            entry = self._live(call.key, now)
            if entry is None:
                return False
            self._set_end(call.key, entry, now, call.ttl)
            return True

    def delete(self, call: Delete) -> int:
        with self.lock:
            now = self._clock()
            ended = 0
            for named in call.keys:
                key = self._tombstones.follow(named, now) if self._tombstones.by_key else named
                entry = self._live(key, now)
                if entry is not None:
                    self._drop(key, entry)
                    ended += 1
            return ended

    def owned_keys(self, owner: str) -> list[str]:
        with self.lock:
            now = self._clock()
            return [key for key in self._owned.of(owner) if self._entries[key].ends > now]

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of records and tombstones that begin with `prefix`; iterates over all keys."""
        with self.lock:
            keys = [*self._entries, *self._tombstones.by_key]
        return [key for key in keys if key.startswith(prefix)]

    def scan(self, prefix: str, size: int) -> Iterator[list[str]]:
        """Yield the keys of live records that begin with `prefix`, of `size` keys at a time."""
        with self.lock:
            keys = list(self._entries)  # a copy: a dict must not change while it is iterated
        for some in batched(keys, size):
            yield self._scan_some(prefix, some)

    def _scan_some(self, prefix: str, keys: Iterable[str]) -> list[str]:
        with self.lock:
            now = self._clock()
            return [
                key
                for key in keys
                if key.startswith(prefix) and not key.endswith(PROBE_SUFFIX) and self._live(key, now) is not None
            ]

    def purge(self, size: int) -> Iterator[int]:
        """Drop what has expired; after each `size` keys that were looked at, yield how many of them were records."""
        more = True
        while more:
            with self.lock:
                now, before = self._clock(), len(self._entries)
                self._tombstones.sweep(now, size)
                more = self._sweep(now, size)
                dropped = before - len(self._entries)
            yield dropped
        with self.lock:
            keys = [key for bucket in self._buckets.begun(self._clock()) for key in bucket.keys]
        for some in batched(keys, size):
            with self.lock:
                now, before = self._clock(), len(self._entries)
                for key in some:
                    self._live(key, now)
                dropped = before - len(self._entries)
            yield dropped

    def _live(self, key: str, now: float) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None or entry.ends > now:
            return entry
        self._drop(key, entry)
        return None

    def _is_taken(self, key: str, now: float) -> bool:
        """Return whether the key has a live record or a tombstone."""
        if key not in self._entries and key not in self._tombstones.by_key:  # most keys are new
            return False
        return self._live(key, now) is not None or self._tombstones.target(key, now) is not None

    def _held(self, key: str, now: float) -> Stored | Moved | None:
        """Return what the key holds."""
        entry = self._live(key, now)
        if entry is not None:
            return Stored(entry.data, entry.version, entry.ends - now)
        target = self._tombstones.target(key, now)
        return None if target is None else Moved(target)

    def _insert(self, key: str, data: bytes, now: float, ttl: float, owner: str | None) -> int:
        ends, buckets = now + ttl, self._buckets
        if now >= buckets.next_due:
            self._sweep(now, _SWEEP)
        bucket = buckets.fit(ends, ttl)
        bucket.keys.add(key)
        version = next(self._versions)
        self._entries[key] = _Entry(data, version, ends, bucket, owner)
        if owner is not None:
            self._owned.add(owner, key)
        if self.watchers.by_key:
            self.watchers.notify(key)
        return version

    def _drop(self, key: str, entry: _Entry) -> None:
        del self._entries[key]
        entry.bucket.keys.discard(key)
        if entry.owner is not None:
            self._owned.discard(entry.owner, key)
        if self.watchers.by_key:
            self.watchers.notify(key)

    def _set_end(self, key: str, entry: _Entry, now: float, ttl: float) -> None:
        ends = now + ttl
        if ends < entry.ends:  # for a later end it can wait until the bucket is due
            self._rebucket(key, entry, ends, ttl)
        entry.ends = ends

    def _rebucket(self, key: str, entry: _Entry, ends: float, ttl: float) -> None:
        bucket = self._buckets.fit(ends, ttl)
        entry.bucket.keys.discard(key)
        bucket.keys.add(key)
        entry.bucket = bucket

    def _sweep(self, now: float, most: int) -> bool:
        for _ in range(most):
            bucket = self._buckets.first()
            if bucket is None or bucket.due > now:
                return False
            self._take(bucket, now)
        return True

    def _take(self, bucket: Bucket, now: float) -> bool:
        """Take a key out of the bucket: move it to a later one if it was renewed, else drop it and return True."""
        key = bucket.keys.pop()
        entry = self._entries[key]
        if entry.ends > now:
            later = self._buckets.fit(entry.ends, entry.ends - now)
            if later.due > bucket.due:
                self._rebucket(key, entry, entry.ends, entry.ends - now)
                return False
        self._drop(key, entry)
        return True

    def _evict(self, now: float) -> None:
        # A key that moves to a later bucket here was renewed since it was put into this one, so the loop
        # runs at most once for each renewal.
        while (bucket := self._buckets.first()) is not None:
            if self._take(bucket, now):
                return
