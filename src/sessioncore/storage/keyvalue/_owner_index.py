"""The index of owners in a key-value store: for each owner, the keys of the records that may be theirs.

It is a collection of its own. An entry without a record does no harm; a record without an entry
would be a session that no listing shows, so the index is written before the record.
"""

from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from math import ceil, isfinite
from typing import Any

from msgspec import Struct

from sessioncore.concurrency._locks import NamedLocks
from sessioncore.storage._text import bytes_of
from sessioncore.storage.keyvalue._calls import StoreCalls
from sessioncore.storage.keyvalue._record import keys_of, name_of

__all__ = ["OwnerIndex", "owner_name"]


def owner_name(owner: str) -> str:
    """Return the name of an owner in the store: a digest, because an owner may be text of any length."""
    return sha256(bytes_of(owner)).hexdigest()


def _moment(time: float) -> str:
    return f"{ceil(time):012d}"  # of one width, so that texts compare as numbers do


class _Index(Struct, frozen=True):
    """When the records end that one owner may have, by the names of their keys; some of them may be gone.

    The ends are text of one form, which is compared and not parsed: an owner may have thousands.
    """

    ends: Mapping[str, str] = {}

    @property
    def expires_at(self) -> float:
        """When the last of them ends."""
        return float(max(self.ends.values(), default="0"))

    def has(self, name: str, until: float) -> bool:
        """Return whether it has `name`, with an end at `until` or later."""
        return self.ends.get(name, "") >= _moment(until)

    def listing(self, name: str, end: float, now: float) -> "_Index":
        """Return an index that also has `name`, and none whose end has passed: otherwise it would grow for ever."""
        past = _moment(now)
        return _Index({other: its for other, its in self.ends.items() if its >= past} | {name: _moment(end)})

    def without(self, names: Collection[str]) -> "_Index":
        """Return an index that lacks `names`."""
        return _Index({other: end for other, end in self.ends.items() if other not in names})

    def pack(self) -> dict[str, Any]:
        """Return the dictionary for the store."""
        return {"keys": [*self.ends], "ends": " ".join(self.ends.values()), "expires_at": repr(self.expires_at)}

    @classmethod
    def unpack(cls, value: Mapping[str, Any] | None) -> "_Index":
        """Read what `pack` made; anything else becomes an empty index."""
        if not value:
            return cls()
        try:
            names = [*map(str, value["keys"])]
            # Earlier versions kept one end for all.
            ends = str(value["ends"]).split() if "ends" in value else [_moment(float(value["expires_at"]))] * len(names)
            index = cls(dict(zip(names, ends, strict=True)))
            return index if isfinite(index.expires_at) else cls()
        except (KeyError, TypeError, ValueError, OverflowError):
            return cls()


class OwnerIndex:
    """The indexes of all owners, by the names that `owner_name` gives them."""

    def __init__(self, calls: StoreCalls, collection: str, clock: Callable[[], float]) -> None:
        self._calls = calls
        self._collection = collection
        self._clock = clock
        self._locks = NamedLocks()

    async def keys(self, owner: str) -> list[str]:
        """Return the keys that the owner's records may have."""
        return keys_of((await self._read(owner)).ends)

    async def add(self, owner: str | None, key: str, expires_at: float) -> None:
        """Note a key, and until when; nothing without an owner."""
        if owner is None:
            return
        async with self._locks.held(owner):
            index = await self._read(owner)
            if not index.has(name := name_of(key), expires_at):
                await self._write(owner, index.listing(name, expires_at, self._clock()))

    async def remove(self, owner: str | None, *keys: str) -> None:
        """Forget keys; nothing without an owner."""
        if owner is None:
            return
        async with self._locks.held(owner):
            index = await self._read(owner)
            rest = index.without({*map(name_of, keys)})
            if not rest.ends:
                await self._calls.delete(owner, self._collection)
            elif rest != index:
                await self._write(owner, rest)

    async def check(self) -> None:
        """Read from the collection, so that the store creates it."""
        await self._calls.check(self._collection)

    async def _read(self, owner: str) -> _Index:
        return _Index.unpack(await self._calls.get(owner, self._collection))

    async def _write(self, owner: str, index: _Index) -> None:
        await self._calls.put(owner, index.pack(), self._collection, index.expires_at)
