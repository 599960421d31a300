"""The transport to the server and the commands that use it, made for each event loop.

A connection belongs to the loop on which it was opened, so a storage that is used from a
second loop gets a second connection.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sessioncore._errors import ConfigError, StorageUnavailable
from sessioncore._storage_calls import LATER, Call, Later, Moved, Stored, Unreadable
from sessioncore.storage._text import bytes_of
from sessioncore.storage.redis._errors import ConnectionLost, unavailable
from sessioncore.storage.redis.client._client import Client
from sessioncore.storage.redis.connection._reconnecting import ReconnectingConnection
from sessioncore.storage.redis.connection._transport import CallLimit, Reply, Transport
from sessioncore.storage.redis.near._cache import NearCache, NearCacheStats
from sessioncore.storage.redis.near._reads import InvalidatingWrites, NearReads
from sessioncore.storage.redis.records._cluster import Cluster
from sessioncore.storage.redis.records._commands import RecordCommands, ReplicaAcks, answer_of
from sessioncore.storage.redis.records._single import SingleServer

__all__ = ["LoopConnection", "LoopConnections"]

_LOG = logging.getLogger("sessioncore")
_POOL = 64  # calls at a time where each takes a connection of the client's pool


class LoopConnection(Struct, frozen=True):
    """The transport and the commands of one event loop."""

    loop: asyncio.AbstractEventLoop
    transport: Transport
    records: RecordCommands
    acks: ReplicaAcks | None
    near: NearReads | None  # None: there is no near cache

    async def servers(self) -> Mapping[str, Transport]:
        """Return a transport to each server.

        Raises:
            StorageUnavailable: they cannot be asked which there are.
        """
        try:
            return await self.transport.servers()
        except ConnectionLost as exc:
            raise unavailable(exc) from exc

    async def answer(
        self, get: Callable[[bytes], Awaitable[list[Reply]]], key: str
    ) -> Stored | Moved | Unreadable | None:
        """Return what `get`, a GET and a PTTL of this transport, finds."""
        name = bytes_of(key)
        try:
            value, left = await get(name)
        except ConnectionLost as exc:
            raise unavailable(exc) from exc
        return answer_of(None if value is None else await self.records.settled(name, value), left)

    async def log_in(self, user: bytes, password: bytes) -> None:
        """Log in again on the connections that are open."""
        await self.transport.log_in(user, password)
        if self.acks is not None:
            await self.acks.transport.log_in(user, password)

    async def aclose(self) -> None:
        """Wait for the replies in flight, and close."""
        await self.records.aclose()
        if self.acks is not None:
            await self.acks.transport.aclose()
        await self.transport.aclose()


class LoopConnections:
    """The connections of all loops; made when first needed."""

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
        self._current: LoopConnection | None = None
        self._others: dict[asyncio.AbstractEventLoop, LoopConnection] = {}
        self._closed = False
        client.on_new_credentials(self._log_in)
        self.can_track = client.has_plain_connections
        self.at_once = sys.maxsize if self.can_track else _POOL
        self.limit = CallLimit(enforced=self.can_track and not client.is_cluster)
        self.near_cache = self._usable(near_cache)
        self._near_stats = NearCacheStats()

    def _usable(self, near_cache: NearCache | None) -> NearCache | None:
        """Return the settings, or None if there can be no cache, after a warning."""
        if near_cache is None:
            return None
        if not isinstance(near_cache, NearCache):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError("near_cache takes a NearCache(max_stale=..., max_bytes=...), or None for no cache")
        if self._client.is_cluster:
            raise ConfigError("near_cache does not work on a cluster yet: leave it out")
        if not self.can_track:
            _LOG.warning("near_cache does nothing: it needs redis-py's own connections, and this client brings others")
            return None
        return near_cache

    def here(self) -> LoopConnection:
        """Return what the running loop needs.

        Raises:
            ConfigError: the loop is not asyncio's.
            StorageUnavailable: the storage was closed.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(
                "RedisStorage runs on asyncio only, as redis-py does; under trio use MemoryStorage or SQLiteStorage"
            ) from None
        connection = self._current
        if connection is not None and connection.loop is loop:
            return connection
        return self._switch_to(loop)

    def bound_calls(self, seconds: float) -> bool:
        """Note a store's `storage_timeout`; tell if it is enforced here."""
        self.limit.seconds = min(self.limit.seconds, seconds)
        return self.limit.enforced

    def answer_now(self, call: Call) -> Stored | Later:
        """Answer a load from the near cache of the running loop; LATER if it must be awaited."""
        near = self.here().near
        return LATER if near is None else near.answer_now(call)

    def near_cache_stats(self) -> NearCacheStats:
        """Return what the near caches have done."""
        caches = [connection.near.cache for connection in self.of_all_loops() if connection.near is not None]
        return replace(self._near_stats, bytes=sum(cache.bytes for cache in caches))

    def reopen(self) -> None:
        """Let a closed storage be used again."""
        self._closed = False

    async def aclose(self) -> None:
        """Close this loop's connection, and have other loops close theirs."""
        self._closed = True
        connections = self.of_all_loops()
        self._current = None
        self._others.clear()
        await self._in_each_loop(connections, LoopConnection.aclose)

    async def _log_in(self, user: bytes, password: bytes) -> None:
        await self._in_each_loop(self.of_all_loops(), lambda connection: connection.log_in(user, password))

    def of_all_loops(self) -> list[LoopConnection]:
        """Return the connections that there are."""
        return [*self._others.values(), *([self._current] if self._current else [])]

    async def _in_each_loop(
        self, connections: list[LoopConnection], do: Callable[[LoopConnection], Coroutine[Any, Any, None]]
    ) -> None:
        here = asyncio.get_running_loop()
        for connection in connections:
            if connection.loop is here:
                await do(connection)
            elif connection.loop.is_running():
                there = asyncio.run_coroutine_threadsafe(do(connection), connection.loop)
                await asyncio.wait([asyncio.wrap_future(there)], timeout=self._silence_timeout)

    def _switch_to(self, loop: asyncio.AbstractEventLoop) -> LoopConnection:
        if self._closed:
            raise StorageUnavailable("this RedisStorage is closed: open() opens it again")
        if self._current is not None and not self._current.loop.is_closed():
            self._others[self._current.loop] = self._current
        self._others = {at: connection for at, connection in self._others.items() if not at.is_closed()}
        connection = self._others.pop(loop, None) or self._make(loop)
        self._current = connection
        return connection

    def _make(self, loop: asyncio.AbstractEventLoop) -> LoopConnection:
        transport = self._client.transport(self._silence_timeout, self.limit)
        acks = None
        if self._replicas:
            patient = self._client.transport(self._silence_timeout + self._wait, self.limit)
            acks = ReplicaAcks(patient, self._replicas, round(self._wait * 1000))
        records: RecordCommands
        if self._client.is_cluster:
            records = Cluster(transport, acks, self._silence_timeout)
        else:
            records = SingleServer(transport, acks, self.limit)
        near = None
        if self.near_cache is not None and isinstance(transport, ReconnectingConnection):
            near = NearReads(self.near_cache, self._near_stats, transport)
            records = InvalidatingWrites(records, near.cache)
        return LoopConnection(loop, transport, records, acks, near)


def _is_above(value: object, bound: timedelta) -> bool:
    return isinstance(value, timedelta) and value > bound
