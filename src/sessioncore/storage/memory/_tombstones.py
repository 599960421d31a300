"""Where the records are that have moved from their former keys."""

from itertools import islice

from msgspec import Struct

__all__ = ["Tombstones"]

_SWEPT = 32  # tombstones looked at for each new one: more than are added


class _Tombstone(Struct, frozen=True, gc=False):
    """Where the record that was at a key is now."""

    new_key: str
    ends: float


class Tombstones:
    """The tombstones of a table by their keys, and no more of them than `limit`."""

    __slots__ = ("_limit", "by_key")

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        # In the order in which they were left. They end nearly in this order, too: all of a store last equally long.
        self.by_key: dict[str, _Tombstone] = {}

    def target(self, key: str, now: float) -> str | None:
        """Return the key to which the record at `key` has moved; None if there is no tombstone."""
        tombstone = self.by_key.get(key)
        return tombstone.new_key if tombstone is not None and tombstone.ends > now else None

    def follow(self, key: str, now: float) -> str:
        """Return the key that the record has now, and remove the tombstones that lead to it."""
        while (tombstone := self.by_key.pop(key, None)) is not None and tombstone.ends > now:
            key = tombstone.new_key
        return key

    def leave(self, key: str, new_key: str, seconds: float, now: float) -> None:
        """Leave a tombstone that lasts for `seconds`; beyond the limit, remove the oldest one."""
        self.sweep(now, _SWEPT)
        self.by_key.pop(key, None)  # an expired one: the new one goes to the end of the order
        if self._limit is not None and len(self.by_key) >= self._limit:
            del self.by_key[next(iter(self.by_key))]
        self.by_key[key] = _Tombstone(new_key, now + seconds)

    def sweep(self, now: float, most: int) -> None:
        """Look at up to `most` of the oldest ones, and drop those that have expired."""
        expired: list[str] = []
        for key, tombstone in islice(self.by_key.items(), most):
            if tombstone.ends > now:
                break
            expired.append(key)
        for key in expired:
            del self.by_key[key]
