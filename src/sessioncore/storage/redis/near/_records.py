"""The calls on records through a near cache: reads are answered from it, writes drop from it what they change.

`answer_now` and `load` answer at once with what was true at most `max_stale` ago. If that is not
proven, `load` sends a PING, which shows whether the cached record is still up to date, because
replies and invalidations come in order. `RedisStorage.load_many` reads past the cache.
"""

from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic

from sessioncore._errors import StorageError
from sessioncore._storage_calls import LATER, Call, Later, Load, Moved, Stored, Unreadable, Written
from sessioncore._warnings import Warnings
from sessioncore.storage._text import bytes_of, text_of
from sessioncore.storage.redis._errors import ConnectionLost, unavailable
from sessioncore.storage.redis.connection._reconnecting import ReconnectingConnection
from sessioncore.storage.redis.connection._waiting import within
from sessioncore.storage.redis.near._cache import NearCache, NearCacheStats, RecordCache
from sessioncore.storage.redis.records._commands import MoveArguments, Records, answer_of

__all__ = ["NearRecords"]


class NearRecords:
    """The calls on one event loop; see `Records`. All records in the cache were read on its one connection.

    Before and after each call that changes a record, what it may change is dropped from the cache:
    the server reports these changes, too, but only after its reply.
    """

    def __init__(
        self,
        settings: NearCache,
        stats: NearCacheStats,
        connection: ReconnectingConnection,
        records: Records,
        warnings: Warnings,
    ) -> None:
        self.cache = RecordCache(settings.max_bytes, stats)
        self.owned = records.owned
        self._records = records
        self._max_stale = settings.max_stale.total_seconds()
        self._stats = stats
        self._connection = connection
        self._warnings = warnings
        connection.listeners.append(self._invalidated)

    def answer_now(self, call: Call) -> Stored | Later:
        """Answer a load from the cache, if the age of the record is proven."""
        if type(call) is not Load or call.uncached or call.renew is not None:
            return LATER
        found = self._young_enough(call.key)
        return LATER if found is None else found

    async def load(self, key: str, deadline: float) -> Stored | Moved | Unreadable | None:
        """Return the record from the cache, if need be after a PING that loads share; or else what the server has."""
        if (found := self._young_enough(key)) is not None:
            return found
        if key in self.cache and (found := await self._proven(key, deadline)) is not None:
            return found
        return await self._fill(key, deadline)

    async def create(self, key: bytes, data: bytes, ttl: float, owner: bytes | None) -> int | None:
        with self._changing(key):
            return await self._records.create(key, data, ttl, owner)

    async def replace(self, key: bytes, data: bytes, ttl: float, version: int, owner: bytes | None) -> Written:
        with self._changing(key):
            return await self._records.replace(key, data, ttl, version, owner)

    async def move(self, move: MoveArguments) -> Written:
        with self._changing(move.key, move.new_key):
            return await self._records.move(move)

    async def renew(self, key: bytes, ttl: float) -> Stored | Moved | Unreadable | None:
        with self._changing(key):
            return await self._records.renew(key, ttl)

    async def touch(self, key: bytes, ttl: float) -> bool:
        with self._changing(key):
            return await self._records.touch(key, ttl)

    async def delete(self, keys: list[bytes]) -> int:
        """End records, also under keys that are not named: where tombstones lead."""
        try:
            with self._changing(*keys):
                return await self._records.delete(keys)
        finally:
            self.cache.require_new_proof(monotonic())

    def _young_enough(self, key: str) -> Stored | None:
        now = monotonic()
        return self.cache.lookup(key, now, now - self._max_stale)

    async def _proven(self, key: str, deadline: float) -> Stored | None:
        """Return the record from the cache, if it is what the server had after this call began."""
        began = monotonic()
        self._stats.proofs += 1
        try:
            await within(deadline, self._connection.prove())
        except (ConnectionLost, StorageError):
            return None  # the read from the server says what is wrong
        self.cache.proved(began)
        return self.cache.lookup(key, monotonic(), began)

    async def _fill(self, key: str, deadline: float) -> Stored | Moved | Unreadable | None:
        """Return what the server has, and keep it unless something overtakes it."""
        mark, sent, kept = self.cache.begin_fill(key), monotonic(), None
        try:
            tracked, value, left = await self._connection.get_tracked(bytes_of(key), deadline)
            self.cache.proved(sent)
            answer = answer_of(value, left)
            if tracked and isinstance(answer, Stored):
                kept = answer
        except ConnectionLost as exc:
            raise unavailable(exc) from exc
        finally:
            self.cache.end_fill(key, mark, kept, sent)
        if not tracked:
            self._warnings.warn(
                "near_cache does nothing, because Redis does not tell of changes (docs/server-settings.md)"
            )
        return answer

    def _invalidated(self, keys: list[bytes] | None) -> None:
        """Forget what the server reports as changed; None: anything may have changed."""
        if keys is None:
            self.cache.empty()
        else:
            self.cache.drop(map(text_of, keys))

    @contextmanager
    def _changing(self, *keys: bytes) -> Generator[None]:
        names, sent = [text_of(key) for key in keys], monotonic()
        self.cache.drop(names)
        try:
            yield
            self.cache.proved(sent)
        finally:  # also if the outcome is unknown
            self.cache.drop(names)
