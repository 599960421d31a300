"""Records in Redis or Valkey: one server, Sentinel, or a cluster.

All requests of an event loop share one connection, and their commands share round
trips. A record is one string value under the key it was given, with a time to live
from its first moment; for each owner there is a sorted set, `<owner>:sessioncore-index`.

This is where to begin reading. `_loop_states` makes what each event loop needs: a transport to the
servers (`connection/`, opened by redis-py in `client/`), and the calls on records over it
(`records/`; `near/` with a near cache). docs/architecture.md follows one load and one write.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from math import inf
from threading import Lock
from typing import Any, ClassVar, Self

from sessioncore._extras import needs_extra
from sessioncore._storage_calls import Call, Later, Moved, Stored, Unreadable, Written
from sessioncore._storage_capabilities import (
    AnswersNow,
    BoundsCalls,
    Clears,
    KeepsTombstones,
    LoadsMany,
    Opens,
    Purges,
    Scans,
    SpreadsKeys,
    Watches,
)
from sessioncore._watchers import Changed
from sessioncore.concurrency._shield import run_shielded
from sessioncore.storage._text import bytes_of, text_of

with needs_extra("redis"):
    from redis.asyncio import Redis, RedisCluster

    from sessioncore.storage.redis._check import check_servers, names_on_masters
    from sessioncore.storage.redis._errors import ConnectionLost, ForeignValue, unavailable
    from sessioncore.storage.redis._loop_states import LoopStates
    from sessioncore.storage.redis.client._client import Client
    from sessioncore.storage.redis.client._cluster import ClusterTransport
    from sessioncore.storage.redis.client._url import client_from
    from sessioncore.storage.redis.near._cache import NearCache, NearCacheStats
    from sessioncore.storage.redis.records import _scans as scans
    from sessioncore.storage.redis.records._commands import MoveArguments

__all__ = ["RedisStorage"]

_SECOND = timedelta(seconds=1)


class RedisStorage:
    """A `Storage` over redis-py's asyncio clients: `Redis`, a Sentinel master, `RedisCluster`.

    The caller closes the client. The storage does not use its pool, but opens one more
    connection per event loop with its settings (one per master of a cluster, and a second
    one for deletions with `wait_replicas`). `timeout` limits the wait for a silent server
    and for a new connection; the default is the client's `socket_timeout`, or 5 seconds.
    In any case a call ends within the store's `storage_timeout`; if several stores use one
    storage, the shortest applies to all.

    Set `maxmemory-policy noeviction` or `volatile-ttl` on the server: an evicted record
    ends its session early, and an evicted index hides sessions from their owner until their next use.

    With `wait_replicas`, a deletion returns only when that many replicas have it, too
    (WAIT, for up to `wait_timeout`). If fewer do, it raises `StorageUnavailable`; the
    record is then deleted on the master, and deleting again waits for the replicas again.
    That makes it less likely that a failover undoes a logout; it is impossible only if
    `wait_replicas` is the number of replicas, because otherwise Sentinel may promote a
    replica that had not confirmed.

    On a cluster a record and its owner's index, or the two keys of a move, are on
    different servers. A move then writes the new record with a ttl of a minute, replaces
    the old one by a tombstone if it still has its version, and extends the ttl of the new
    one. A process that dies in between leaves the old session, or, for that minute, a new
    one whose ID no client knows. If a server refuses one of these steps, the earlier ones
    are undone; at most an index entry that names no record remains.

    Raises:
        ConfigError: the client decodes replies, or an argument cannot work.
    """

    capabilities: ClassVar[frozenset[type]] = frozenset(
        {AnswersNow, BoundsCalls, Clears, KeepsTombstones, LoadsMany, Opens, Purges, Scans, SpreadsKeys, Watches}
    )

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        timeout: timedelta | None = None,
        wait_replicas: int = 0,
        wait_timeout: timedelta = _SECOND,
        near_cache: NearCache | None = None,
    ) -> None:
        self._client = Client(client)
        self._owns_client = False
        self._inspected = Lock()  # kept by the first check that every server answered
        self._loops = LoopStates(self._client, timeout, wait_replicas, wait_timeout, near_cache)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        timeout: timedelta | None = None,
        wait_replicas: int = 0,
        wait_timeout: timedelta = _SECOND,
        near_cache: NearCache | None = None,
        **options: Any,
    ) -> Self:
        """Return a storage that creates its own client, and closes it.

        The URL begins with `redis://`, `rediss://` or `unix://`, as for redis-py, or is
        `redis+cluster://host:port,...` or `redis+sentinel://host:port,.../service/db`, with
        TLS `rediss+...`. Other options are passed to the client.

        Raises:
            ConfigError: the URL or an option cannot work; the password is not shown.
        """
        client = client_from(url, options)
        storage = cls(
            client, timeout=timeout, wait_replicas=wait_replicas, wait_timeout=wait_timeout, near_cache=near_cache
        )
        storage._owns_client = True
        return storage

    def bound_calls(self, seconds: float) -> bool:
        """Let no load, create, replace or move take longer; see `BoundsCalls`.

        Return False for a cluster, where a call may take several round trips, and for a client
        whose connections are not redis-py's own.
        """
        return self._loops.bound_calls(seconds)

    @property
    def answer_now(self) -> Callable[[Call], Stored | Later] | None:
        """Load from the near cache, or return LATER if the load must be awaited; None without a near cache."""
        return None if self._loops.near_cache is None else self._loops.answer_now

    def near_cache_stats(self) -> NearCacheStats:
        """Return the counters of the near cache; all are zero without one."""
        return self._loops.near_cache_stats()

    async def load(self, key: str, *, renew: float | None = None) -> Stored | Moved | Unreadable | None:
        """Return the live record at `key`, or None; with `renew`, set its ttl in the same round trip.

        Without `renew`, two plain commands are sent in one packet, which cost the server a third of what
        a script does. If another client writes between the two, the ttl is that of the newer record, or
        the result is None because the record is gone. The version always belongs to the data, and the
        next write is compared with it.
        """
        here, deadline = self._loops.here(), self._loops.limit.deadline()
        if renew is not None:
            with suppress(ForeignValue):  # the record, or merely its owner's index: a plain GET tells them apart
                return await here.records.renew(bytes_of(key), renew)
        elif here.near is not None:
            return await here.near.load(key, deadline)
        name = bytes_of(key)
        return await here.answer(name, here.transport.get_with_ttl, deadline)

    async def load_many(self, keys: Sequence[str]) -> list[Stored | Moved | Unreadable | None]:
        """Return for each key what `load` would return; the commands share round trips."""
        here, deadline = self._loops.here(), self._loops.limit.deadline()
        return await here.answers(keys, here.transport.get_with_ttl, deadline)

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        """Store a new record and return its version, or None if the key is taken."""
        records = self._loops.here().records
        return await records.create(bytes_of(key), data, ttl, None if owner is None else bytes_of(owner))

    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        """Write if the record still has `version`; see `Storage.replace`."""
        records, named = self._loops.here().records, None if owner is None else bytes_of(owner)
        return await records.replace(bytes_of(key), data, ttl, version, named)

    async def move(
        self,
        key: str,
        new_key: str,
        data: bytes,
        ttl: float,
        *,
        version: int,
        owner: str | None = None,
        tombstone: float = 0.0,
    ) -> Written:
        """Write under a new key and remove the old one; see `Storage.move` and `KeepsTombstones`.

        Raises:
            KeyTaken: `new_key` is taken; nothing is changed.
        """
        named = None if owner is None else bytes_of(owner)
        arguments = MoveArguments(bytes_of(key), bytes_of(new_key), data, ttl, version, named, tombstone)
        return await self._loops.here().records.move(arguments)

    async def touch(self, key: str, ttl: float) -> bool:
        """Set the ttl of a live record; False if there is none."""
        return await self._loops.here().records.touch(bytes_of(key), ttl)

    async def delete(self, *keys: str) -> int:
        """Delete these records; return how many were live.

        Raises:
            StorageUnavailable: also if fewer than `wait_replicas` replicas have confirmed it.
        """
        return await self._loops.here().records.delete([bytes_of(key) for key in dict.fromkeys(keys)])

    async def clear(self, prefix: str) -> int:
        """Delete every record whose key begins with `prefix`; return how many.

        It uses SCAN, in batches of a few hundred keys; other requests are served in between.
        """
        here = self._loops.here()
        return await scans.clear(await here.servers(), bytes_of(prefix), here.records.delete)

    async def scan(self, prefix: str) -> AsyncGenerator[list[str]]:
        """Yield the keys of live records that begin with `prefix`, by SCAN on each master."""
        async for batch in scans.live_keys(await self._loops.here().servers(), bytes_of(prefix)):
            yield [text_of(key) for key in batch]

    async def owned_keys(self, owner: str) -> list[str]:
        """Return the keys of live records that name `owner`."""
        return [text_of(key) for key in await self._loops.here().records.owned(bytes_of(owner))]

    async def purge_expired(self) -> int:
        """Remove the index entries of expired records; Redis removes the records themselves."""
        return await scans.purge(await self._loops.here().servers())

    @property
    def notices_within(self) -> float | None:
        """None: the server reports changes, or `confirm` loads each key; see `Watches`."""
        return None if self._client.has_plain_connections else inf

    async def watch(self, keys: Sequence[str], changed: Changed) -> list[Stored | Moved | Unreadable | None]:
        """Return what the keys hold, and watch them; see `Watches`.

        The server pushes changes (CLIENT TRACKING), in order with its replies, to the connection that
        read the key. If it cannot, `confirm` reads the watched keys.
        """
        here, deadline = self._loops.here(), self._loops.limit.deadline()
        return await here.answers(keys, here.transport.get_watched, changed, deadline)

    def unwatch(self, key: str, changed: Changed) -> None:
        """Do not call `changed` for this key any more."""
        for state in self._loops.all():
            state.transport.unwatch(key, changed)

    async def confirm(self) -> None:
        """Return when every change that was complete before this call was reported: one PING, shared by all callers.

        Raises:
            StorageUnavailable: the connection was lost; then `changed` was called for every key.
        """
        try:
            await self._loops.here().transport.confirm()
        except ConnectionLost as exc:
            raise unavailable(exc) from exc

    async def open(self) -> None:
        """Connect.

        Raises:
            StorageUnavailable: the server cannot be reached.
        """
        self._loops.reopen()
        await self.check()

    async def check(self) -> None:
        """Send every server a PING; the first time, warn about settings that weaken a promise.

        Raises:
            StorageUnavailable: a server does not reply.
        """
        first = self._inspected.acquire(blocking=False)
        try:
            await check_servers(await self._loops.here().servers(), first=first)
        except BaseException:
            if first:
                self._inspected.release()
            raise

    async def names_on_servers(self, new_name: Callable[[], str]) -> Mapping[str, tuple[str, str, str]]:
        """Return two keys and an owner for each master of a cluster; see `SpreadsKeys`."""
        here = self._loops.here()
        if not isinstance(here.transport, ClusterTransport):
            return {"": (new_name(), new_name(), new_name())}
        return names_on_masters(new_name, await here.servers(), here.transport.server_of)

    async def aclose(self) -> None:
        """Wait for the calls under way, and close the connection, and the client if `from_url` created it."""
        await run_shielded(self._close())  # nothing else refers to the connections after that

    async def _close(self) -> None:
        await self._loops.aclose()
        if self._owns_client:
            await self._client.aclose()
