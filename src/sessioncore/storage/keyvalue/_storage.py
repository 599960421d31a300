"""Records in any store of py-key-value: DynamoDB, MongoDB, S3, Memcached and others.

A plain key-value store has no compare-and-set. Within one process, locks make up for
that; between processes some promises are weaker (docs/storage.md), and `compare_and_set` is False.
"""

import logging
import time
from collections.abc import AsyncGenerator, Callable
from functools import cache, partial
from typing import Any, ClassVar, cast

from msgspec import structs

from sessioncore._batched import batched
from sessioncore._errors import ConfigError, KeyTaken, StorageError
from sessioncore._storage_calls import Stored, Unreadable, Written
from sessioncore._storage_capabilities import SCANNED_AT_ONCE, Clears, Opens, Purges, Scans
from sessioncore.concurrency._gather import MAX_CONCURRENT_CALLS, gather
from sessioncore.concurrency._locks import NamedLocks
from sessioncore.storage._versions import random_version
from sessioncore.storage.keyvalue._calls import LISTING, StoreCalls
from sessioncore.storage.keyvalue._owner_index import OwnerIndex, owner_name
from sessioncore.storage.keyvalue._protocol import KeyValueStore
from sessioncore.storage.keyvalue._record import Record, keys_of, name_of, session_keys

__all__ = ["KeyValueStorage"]

_logger = logging.getLogger("sessioncore.storage.keyvalue")
_CALLS = ("get", "put", "delete")


class KeyValueStorage:
    """Keep records in a py-key-value store, which you open and close yourself.

    Args:
        store: any `AsyncKeyValue`, wrapped or not.
        collection: the name of the collection; a second one, `<collection>-owners`, is the index of owners.
        clock: seconds since the epoch; all processes that share the store must agree on it.

    Raises:
        ConfigError: `store` is not such a store.
    """

    compare_and_set: ClassVar[bool] = False
    """False: of two processes that write at the same time, the last one wins, and neither learns of it."""

    capabilities: ClassVar[frozenset[type]] = frozenset({Clears, Opens, Purges})

    def __init__(
        self, store: KeyValueStore, *, collection: str = "sessioncore", clock: Callable[[], float] = time.time
    ) -> None:
        if isinstance(store, type) or not all(callable(getattr(store, name, None)) for name in _CALLS):
            raise ConfigError("KeyValueStorage takes a store of py-key-value, such as MemoryStore()")
        self._calls = StoreCalls(store, clock)
        self._collection = collection
        self._owners = OwnerIndex(self._calls, f"{collection}-owners", clock)
        self._clock = clock
        self._locks = NamedLocks()
        if self._calls.lists_names:
            self.__class__ = _scanning(cast("Any", type(self)))

    async def load(self, key: str, *, renew: float | None = None) -> Stored | Unreadable | None:
        """Return the live record at `key`, or None; with `renew`, set its ttl to that many seconds."""
        if renew is None:
            record = await self._read(key)
        else:
            async with self._locks.held(key):
                record = await self._renewed(key, renew)
        return None if record is None else record.stored(self._clock())

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        """Store a new record for `ttl` seconds and return its version, or None if the key is taken."""
        async with self._locks.held(key):
            if await self._read(key) is not None:
                return None
            return await self._write(key, self._new(data, ttl, owner))

    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        """Write if the record still has `version`; otherwise return the current record, or None."""
        async with self._locks.held(key):
            old = await self._read(key)
            if old is None or not old.has(version):
                return None if old is None else old.stored(self._clock())
            new = self._new(data, ttl, owner)
            await self._write(key, new)
            if old.owner != new.owner:
                await self._owners.remove(old.owner, key)
            return new.version

    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Written:
        """Do what `replace` does, and give the record a new key; at any moment one of the two keys is live.

        Raises:
            KeyTaken: `new_key` is taken; nothing is changed.
        """
        async with self._locks.held(key, new_key):
            old = await self._read(key)
            if old is None or not old.has(version):
                return None if old is None else old.stored(self._clock())
            if await self._read(new_key) is not None:
                raise KeyTaken
            new = self._new(data, ttl, owner)
            # The new record counts only once `moved_to` of the old one names it: the move happens in that one
            # write. If the call ends early, by a crash for example, exactly one of the two records is live.
            await self._write(new_key, structs.replace(new, replaces=name_of(key)))
            await self._write(key, structs.replace(new, data=b"", owner=None, moved_to=name_of(new_key)))
            await self._write(new_key, new)
            await self._drop(key)
            await self._owners.remove(old.owner, key)
            return new.version

    async def touch(self, key: str, ttl: float) -> bool:
        """Set the ttl of a live record, in seconds; False if there is none."""
        async with self._locks.held(key):
            record = await self._renewed(key, ttl)
            return record is not None and not record.not_ours

    async def delete(self, *keys: str) -> int:
        """Delete these records and return how many were live."""
        live = 0
        for some in batched(dict.fromkeys(keys), MAX_CONCURRENT_CALLS):
            async with self._locks.held(*some):
                records = await gather([partial(self._end, key) for key in some])
                ended = {key: record for key, record in zip(some, records, strict=True) if record is not None}
                for owner in {record.owner for record in ended.values()}:
                    await self._owners.remove(owner, *(key for key in ended if ended[key].owner == owner))
            live += len(ended)
        return live

    async def _end(self, key: str) -> Record | None:
        record = await self._read(key)
        await self._drop(key)
        return record

    async def clear(self, prefix: str) -> int:
        """Delete every record whose key begins with `prefix`, and return how many.

        Raises:
            StorageError: this store cannot list its keys, or not all of them.
        """
        ended = 0
        while True:
            names = await self._names()
            keys = session_keys(names, prefix)
            ended += await self.delete(*keys)
            _logger.debug("clear: %d sessions ended so far", ended)
            if len(names) < LISTING:
                return ended
            if not keys:
                raise StorageError("the store does not list all of its keys; use a collection of its own")

    async def scan(self, prefix: str) -> AsyncGenerator[list[str]]:
        """Yield the keys of live records that begin with `prefix`, in batches.

        Raises:
            StorageError: this store cannot list its keys, or there may be more than it lists.
        """
        names = await self._names()
        if len(names) >= LISTING:
            raise StorageError(f"the key-value store lists {LISTING} keys at most, and there may be more")
        for some in batched(session_keys(names, prefix), SCANNED_AT_ONCE):
            loaded = await gather([partial(self.load, key) for key in some])
            yield [key for key, answer in zip(some, loaded, strict=True) if isinstance(answer, Stored)]

    async def owned_keys(self, owner: str) -> list[str]:
        """Return the keys of live records whose last create, replace or move named `owner`."""
        name = owner_name(owner)
        keys = await self._owners.keys(name)
        records = await gather([partial(self._read, key) for key in keys])
        theirs = {key: record is not None and record.owner == name for key, record in zip(keys, records, strict=True)}
        await gather([partial(self._repair_index, name, key) for key in keys if not theirs[key]])
        return [key for key in keys if theirs[key]]

    async def purge_expired(self) -> int:
        """Remove expired records if the store can list its keys; otherwise the store must do so by itself."""
        purged = 0
        if self._calls.lists_names:
            for key in keys_of(await self._names()):
                async with self._locks.held(key):
                    if await self._find(name_of(key)) is None:
                        purged += await self._drop(key)
        await self._calls.cull()
        return purged

    async def open(self) -> None:
        """Read from both collections, so that the store creates them.

        Raises:
            StorageUnavailable: it does not answer.
        """
        await self.check()
        await self._owners.check()

    async def check(self) -> None:
        """Check that the store replies.

        Raises:
            StorageUnavailable: it does not.
        """
        await self._calls.check(self._collection)

    async def aclose(self) -> None:
        """Do nothing: the store belongs to the application, which closes it."""

    def _new(self, data: bytes, ttl: float, owner: str | None) -> Record:
        name = None if owner is None else owner_name(owner)
        return Record(data, random_version(), self._clock() + ttl, name)

    async def _find(self, name: str) -> Record | None:
        value = await self._calls.get(name, self._collection)
        now = self._clock()
        record = None if value is None else Record.unpack(value, now)
        return None if record is None or record.expires_at <= now else record

    async def _read(self, key: str) -> Record | None:
        record = await self._find(name_of(key))
        if record is None or record.moved_to is not None:
            return None
        if record.replaces is not None:
            old = await self._find(record.replaces)
            return record if old is not None and old.moved_to == name_of(key) else None
        return record

    async def _write(self, key: str, record: Record) -> int:
        await self._owners.add(record.owner, key, record.expires_at)  # first: see `_owner_index`
        await self._calls.put(name_of(key), record.pack(), self._collection, record.expires_at)
        return record.version

    async def _renewed(self, key: str, ttl: float) -> Record | None:
        record = await self._read(key)
        if record is not None and not record.not_ours:
            record = structs.replace(record, expires_at=self._clock() + ttl, replaces=None)
            await self._write(key, record)
        return record

    async def _drop(self, key: str) -> bool:
        return await self._calls.delete(name_of(key), self._collection)

    async def _repair_index(self, owner: str, key: str) -> None:
        # Under the key's lock: a task that is creating the record has added the entry already.
        async with self._locks.held(key):
            record = await self._read(key)
            if record is None or record.owner != owner:
                await self._owners.remove(owner, key)

    async def _names(self) -> list[str]:
        return await self._calls.names(self._collection)


@cache
def _scanning(kind: type[KeyValueStorage]) -> Any:
    """Return a class that is `kind` and declares `Scans`: capabilities belong to a class, not to an object."""
    return type(kind.__name__, (kind,), {"capabilities": kind.capabilities | {Scans}})
