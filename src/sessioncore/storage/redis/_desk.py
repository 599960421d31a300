"""One desk per event loop: the wire and the book that serve its requests.

A connection belongs to the loop on which it was opened, so a storage that is used
from a second loop gets a second connection. Here it is also decided how a client is
served: by a link over its connections, or by its own commands.
"""

import asyncio
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

from msgspec import Struct
from redis.asyncio import Redis, RedisCluster

from sessioncore._errors import ConfigError, StorageUnavailable
from sessioncore.storage.redis._books import Book, Confirm, Limit, OneServer
from sessioncore.storage.redis._cluster import Cluster
from sessioncore.storage.redis._cluster_wire import ClusterWire
from sessioncore.storage.redis._wire import ClientWire, LinkWire, Wire

__all__ = ["Desk", "Desks"]

_PATIENCE = 5.0  # seconds, where the client has no socket_timeout


class Desk(Struct, frozen=True):
    """What one event loop needs."""

    loop: asyncio.AbstractEventLoop
    wire: Wire
    book: Book
    confirm: Confirm | None

    async def aclose(self) -> None:
        """Let what is in flight end, and close."""
        await self.book.aclose()
        if self.confirm is not None:
            await self.confirm.wire.aclose()
        await self.wire.aclose()


class Desks:
    """The desks of all loops; made when first needed."""

    def __init__(self, client: Any, timeout: timedelta | None, wait_replicas: int, wait_timeout: timedelta) -> None:
        _check(client, timeout, wait_replicas, wait_timeout)
        self._client = client
        self._patience = _patience_of(client) if timeout is None else timeout.total_seconds()
        self._replicas = wait_replicas
        self._wait = wait_timeout.total_seconds()
        self._desk: Desk | None = None
        self._others: dict[asyncio.AbstractEventLoop, Desk] = {}
        self._closed = False
        self.limit = Limit()
        self.linked = _is_linkable(client) and not isinstance(client, RedisCluster)  # to one server, by a link of ours
        if wait_replicas and not _is_linkable(client):
            raise ConfigError("wait_replicas needs redis-py's own connections; this client brings others")

    def here(self) -> Desk:
        """Return the desk of the running loop.

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
        desk = self._desk
        if desk is not None and desk.loop is loop:
            return desk
        return self._change(loop)

    def reopen(self) -> None:
        """Let a closed storage be used again."""
        self._closed = False

    async def aclose(self) -> None:
        """Close this loop's desk, and tell other loops to close theirs."""
        self._closed = True
        here = asyncio.get_running_loop()
        desks = [*self._others.values(), *([self._desk] if self._desk else [])]
        self._desk = None
        self._others.clear()
        for desk in desks:
            if desk.loop is here:
                await desk.aclose()
            elif desk.loop.is_running():
                there = asyncio.run_coroutine_threadsafe(desk.aclose(), desk.loop)
                await asyncio.wait([asyncio.wrap_future(there)], timeout=self._patience)

    def _change(self, loop: asyncio.AbstractEventLoop) -> Desk:
        if self._closed:
            raise StorageUnavailable("this RedisStorage is closed: open() opens it again")
        if self._desk is not None and not self._desk.loop.is_closed():
            self._others[self._desk.loop] = self._desk
        self._others = {at: desk for at, desk in self._others.items() if not at.is_closed()}
        desk = self._others.pop(loop, None) or self._made(loop)
        self._desk = desk
        return desk

    def _made(self, loop: asyncio.AbstractEventLoop) -> Desk:
        wire = self._wire(self._patience)
        confirm = None
        if self._replicas:
            confirm = Confirm(self._wire(self._patience + self._wait), self._replicas, round(self._wait * 1000))
        split = isinstance(self._client, RedisCluster)
        book: Book = Cluster(wire, confirm, self._patience) if split else OneServer(wire, confirm, self.limit)
        return Desk(loop, wire, book, confirm)

    def _wire(self, patience: float) -> Wire:
        if not _is_linkable(self._client):
            return ClientWire(self._client)
        if isinstance(self._client, RedisCluster):
            return ClusterWire(self._client, patience)
        make: Callable[[], Any] = self._client.connection_pool.make_connection
        return LinkWire(make, patience)


def _check(client: Any, timeout: timedelta | None, wait_replicas: int, wait_timeout: timedelta) -> None:
    if (
        isinstance(client, type)
        or not hasattr(client, "get_encoder")
        or not inspect.iscoroutinefunction(getattr(client, "execute_command", None))  # a pool has none
    ):
        raise ConfigError("RedisStorage takes a client of redis.asyncio (Redis, master_for(...), RedisCluster)")
    if client.get_encoder().decode_responses:
        raise ConfigError(
            "RedisStorage needs bytes: build the client without decode_responses=True "
            "(a second client for the rest of the application may keep it)"
        )
    if timeout is not None and not _is_above(timeout, timedelta(0)):
        raise ConfigError("timeout must be a timedelta above zero, or None")
    if type(wait_replicas) is not int or wait_replicas < 0:
        raise ConfigError("wait_replicas is a number of replicas, 0 for none")
    if not _is_above(wait_timeout, timedelta(microseconds=999)):
        raise ConfigError("wait_timeout must be a timedelta of a millisecond or more")


def _is_above(value: object, bound: timedelta) -> bool:
    return isinstance(value, timedelta) and value > bound


def _patience_of(client: Any) -> float:
    kwargs = client.connection_kwargs if isinstance(client, RedisCluster) else client.connection_pool.connection_kwargs
    patience: Any = kwargs.get("socket_timeout") or _PATIENCE
    if not isinstance(patience, (int, float)) or patience <= 0:
        raise ConfigError("the client's socket_timeout must be a number of seconds above zero, or None")
    return float(patience)


def _is_linkable(client: object) -> bool:
    """True if the client is redis-py's own, down to its connections; others may mean something by theirs."""
    if isinstance(client, RedisCluster):
        return True
    plain: Any = Redis
    if not isinstance(client, Redis) or cast("Any", type(client)).execute_command is not plain.execute_command:
        return False
    made_by: type[Any] = cast("Any", client).connection_pool.connection_class
    return made_by.__module__.startswith("redis.")
