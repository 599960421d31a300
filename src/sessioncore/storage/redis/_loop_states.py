"""What the storage has in each event loop: a transport to the server, and the calls on records over it."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import timedelta
from threading import get_ident
from typing import Any

from msgspec import Struct
from msgspec.structs import astuple

from sessioncore._errors import ConfigError
from sessioncore._storage_calls import LATER, Call, Later, Moved, Stored, Unreadable
from sessioncore._warnings import Warnings
from sessioncore.storage._per_loop import PerLoop
from sessioncore.storage._text import bytes_of
from sessioncore.storage.redis._errors import ConnectionLost, unavailable
from sessioncore.storage.redis.client._client import Client
from sessioncore.storage.redis.connection._reconnecting import ReconnectingConnection
from sessioncore.storage.redis.connection._transport import CallLimit, RedisReply, Transport
from sessioncore.storage.redis.connection._waiting import for_each
from sessioncore.storage.redis.near._cache import NearCache, NearCacheStats
from sessioncore.storage.redis.near._records import NearRecords
from sessioncore.storage.redis.records._cluster import ClusterRecords
from sessioncore.storage.redis.records._commands import Records, ReplicaAcks, answer_of
from sessioncore.storage.redis.records._single import SingleServerRecords

__all__ = ["LoopState", "LoopStates"]

_logger = logging.getLogger("sessioncore")


class LoopState(Struct, frozen=True):
    """What the storage uses on one event loop: its connection to the servers, and the calls on records over it."""

    transport: Transport
    records: Records
    acks: ReplicaAcks | None = None
    cluster: ClusterRecords | None = None  # the same as `records`, if there is a cluster
    near: NearRecords | None = None  # the same as `records`, if there is a near cache

    async def servers(self) -> Mapping[str, Transport]:
        """Return a transport to each server.

        Raises:
            StorageUnavailable: no node of the cluster replies.
        """
        try:
            return await self.transport.servers()
        except ConnectionLost as exc:
            raise unavailable(exc) from exc

    async def answer(
        self, key: bytes, get: Callable[..., Awaitable[list[RedisReply]]], *arguments: Any
    ) -> Stored | Moved | Unreadable | None:
        """Return what `get`, a method of the transport that sends GET and PTTL, finds."""
        try:
            value, left = await get(key, *arguments)
        except ConnectionLost as exc:
            raise unavailable(exc) from exc
        if value is not None and self.cluster is not None:
            value = await self.cluster.resolve(key, value)
        return answer_of(value, left)

    async def answers(
        self, keys: Iterable[str], get: Callable[..., Awaitable[list[RedisReply]]], *arguments: Any
    ) -> list[Stored | Moved | Unreadable | None]:
        """Return what `get` finds for each key; the commands share round trips."""
        return await for_each(keys, lambda key: self.answer(bytes_of(key), get, *arguments))

    async def authenticate(self, user: bytes, password: bytes) -> None:
        """Authenticate again on the connections that are open."""
        await self.transport.authenticate(user, password)
        if self.acks is not None:
            await self.acks.transport.authenticate(user, password)

    async def aclose(self) -> None:
        """Wait for the replies in flight, and close."""
        if self.cluster is not None:
            await self.cluster.finish()
        if self.acks is not None:
            await self.acks.transport.aclose()
        await self.transport.aclose()


class LoopStates(PerLoop[LoopState]):
    """The states of all loops, and what they are made by."""

    def __init__(
        self,
        client: Client,
        timeout: timedelta | None,
        wait_replicas: int,
        wait_timeout: timedelta,
        near_cache: NearCache | None,
    ) -> None:
        if timeout is not None and not _is_above(timeout, timedelta(0)):
            raise ConfigError("timeout must be a timedelta above zero, or None")
        if type(wait_replicas) is not int or wait_replicas < 0:
            raise ConfigError("wait_replicas is a number of replicas, 0 for none")
        if not _is_above(wait_timeout, timedelta(microseconds=999)):
            raise ConfigError("wait_timeout must be a timedelta of a millisecond or more")
        if wait_replicas and not client.has_plain_connections:
            raise ConfigError("wait_replicas needs redis-py's own connections; this client brings others")
        self._client = client
        self._silence_timeout = client.silence_timeout() if timeout is None else timeout.total_seconds()
        self._replicas = wait_replicas
        self._wait = wait_timeout.total_seconds()
        super().__init__(self._make_state, LoopState.aclose, storage="RedisStorage", driver="redis-py")
        client.on_new_credentials(self._authenticate)
        self.limit = CallLimit(enforced=client.has_plain_connections and not client.is_cluster)
        self.near_cache = self._usable(near_cache)
        # By thread, so that no two threads count at the same time; the loops of one thread run in turn.
        self._near_stats: dict[int, NearCacheStats] = {}
        self._warnings = Warnings()

    def _usable(self, near_cache: NearCache | None) -> NearCache | None:
        """Return the settings, or None if there can be no cache, after a warning."""
        if near_cache is None:
            return None
        if not isinstance(near_cache, NearCache):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError("near_cache takes a NearCache(max_stale=..., max_bytes=...), or None for no cache")
        if self._client.is_cluster:
            raise ConfigError("near_cache does not work on a cluster yet: leave it out")
        if not self._client.has_plain_connections:
            _logger.warning(
                "near_cache does nothing: it needs redis-py's own connections, and this client brings others"
            )
            return None
        return near_cache

    def bound_calls(self, seconds: float) -> bool:
        """Note a store's `storage_timeout`; return whether it is enforced here."""
        self.limit.seconds = min(self.limit.seconds, seconds)
        return self.limit.enforced

    def answer_now(self, call: Call) -> Stored | Later:
        """Answer a load from the near cache of the running loop; LATER if it must be awaited."""
        near = self.here().near
        return LATER if near is None else near.answer_now(call)

    def near_cache_stats(self) -> NearCacheStats:
        """Return what the near caches have done."""
        each = [NearCacheStats(), *self._near_stats.values()]
        counted = NearCacheStats(*map(sum, zip(*map(astuple, each), strict=True)))
        counted.bytes = sum(state.near.cache.bytes for state in self.all() if state.near is not None)
        return counted

    async def aclose(self) -> None:
        """Close the connections of all loops."""
        await self.close(seconds=self._silence_timeout)

    async def _authenticate(self, user: bytes, password: bytes) -> None:
        await self.run_in_each(lambda state: state.authenticate(user, password), seconds=self._silence_timeout)

    def _make_state(self) -> LoopState:
        transport = self._client.transport(self._silence_timeout, self.limit)
        acks = None
        if self._replicas:
            patient = self._client.transport(self._silence_timeout + self._wait, self.limit)
            acks = ReplicaAcks(patient, self._replicas, round(self._wait * 1000))
        if self._client.is_cluster:
            cluster = ClusterRecords(transport, acks, self._silence_timeout, self.limit)
            return LoopState(transport, cluster, acks, cluster)
        records = SingleServerRecords(transport, acks, self.limit)
        if self.near_cache is None or not isinstance(transport, ReconnectingConnection):
            return LoopState(transport, records, acks)
        stats = self._near_stats.setdefault(get_ident(), NearCacheStats())
        near = NearRecords(self.near_cache, stats, transport, records, self._warnings)
        return LoopState(transport, near, acks, near=near)


def _is_above(value: object, bound: timedelta) -> bool:
    return isinstance(value, timedelta) and value > bound
