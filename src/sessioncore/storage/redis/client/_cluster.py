"""The transport to a cluster: a connection to each master, and the choice of the one that holds a key.

MOVED and ASK mean that a command was not carried out, so it is sent again where they point.
A command whose reply was lost is not sent again, as redis-py would do.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import inf
from typing import Any, TypeAlias

from redis.crc import key_slot

from sessioncore._errors import StorageError
from sessioncore._watchers import Changed
from sessioncore.storage._text import bytes_of, text_of
from sessioncore.storage.redis._errors import ConnectionLost, ErrorReply
from sessioncore.storage.redis.client._cluster_map import ClusterMap
from sessioncore.storage.redis.client._opening import open_socket
from sessioncore.storage.redis.connection._reconnecting import ReconnectingConnection
from sessioncore.storage.redis.connection._transport import CallLimit, Command, RedisReply, Transport
from sessioncore.storage.redis.connection._waiting import within

__all__ = ["ClusterTransport"]

_MAX_REDIRECTIONS = 5  # redirections of one command; while a slot moves there may be two or three
_REDIRECTIONS = frozenset({"MOVED", "ASK"})
_Send: TypeAlias = Callable[..., Awaitable[list[RedisReply]]]  # ReconnectingConnection.read or .write


class ClusterTransport:
    """A `Transport` to all masters of one cluster, each with a connection of its own."""

    def __init__(self, client: Any, silence_timeout: float, limit: CallLimit, on_new_map: Callable[[], None]) -> None:
        self._map = ClusterMap(client, silence_timeout, self._ping, self._adopt_map)
        self._silence_timeout = silence_timeout
        self._limit = limit
        self._on_new_map = on_new_map
        self._masters: dict[str, ReconnectingConnection] = {}  # by the names of their nodes
        self._left: dict[ReconnectingConnection, asyncio.Task[None]] = {}  # to nodes that left; what closes each

    # -- commands

    async def read(self, key: bytes, *commands: Command, deadline: float = inf) -> list[RedisReply]:
        return await within(deadline, self._follow(ReconnectingConnection.read, key, commands))

    async def write(self, key: bytes, *commands: Command, deadline: float = inf) -> list[RedisReply]:
        return await within(deadline, self._follow(ReconnectingConnection.write, key, commands))

    async def get_with_ttl(self, key: bytes, deadline: float) -> list[RedisReply]:
        return await self.read(key, (b"GET", key), (b"PTTL", key), deadline=deadline)

    async def _follow(self, send: _Send, key: bytes, commands: tuple[Command, ...]) -> list[RedisReply]:
        node = await self._map.master_of(key)
        for _ in range(_MAX_REDIRECTIONS):
            try:
                replies = await send(self._connection_to(node), key, *commands)
            except ConnectionLost:
                former, node = node, self._map.known_master_of(key)
                if send is ReconnectingConnection.write or node.name == former.name:
                    self._map.distrust()  # its master may be another node by now
                    raise
                continue
            moved = next((r for r in replies if isinstance(r, ErrorReply) and r.code in _REDIRECTIONS), None)
            if moved is None:
                return replies
            target = self._map.target_of(moved, node)
            if moved.code == "ASK":
                # The slot is being moved: its next master serves a command for this key if ASKING comes before it.
                asking = [part for command in commands for part in ((b"ASKING",), command)]
                return (await send(self._connection_to(target), key, *asking))[1::2]
            self._notify_of_slot(key_slot(key), self._connection_to(node))
            await self._map.refresh()
            node = target
        raise ConnectionLost("the cluster redirected a command too often")

    # -- changes of keys

    async def get_watched(self, key: bytes, changed: Changed, deadline: float) -> list[RedisReply]:
        async def watch(master: ReconnectingConnection, key: bytes, *commands: Command) -> list[RedisReply]:
            if commands[0] == (b"ASKING",):  # it cannot go together with CLIENT CACHING: ask again at each `confirm`
                master.watched.watch(key, changed)
                replies = await master.read(key, *commands)
                master.watched.answered(key, replies[1], pushed=False)
                return replies
            replies = await master.get_watched(key, changed, inf)
            if isinstance(replies[0], ErrorReply) and replies[0].code in _REDIRECTIONS:
                master.unwatch(text_of(key), changed)
            return replies

        return await within(deadline, self._follow(watch, key, ((b"GET", key), (b"PTTL", key))))

    def unwatch(self, key: str, changed: Changed) -> None:
        for master in list(self._masters.values()):  # they may belong to another event loop, which goes on
            master.unwatch(key, changed)

    async def confirm(self) -> None:
        await asyncio.gather(*(self._confirm(master) for master in self._masters.values()))

    async def _confirm(self, master: ReconnectingConnection) -> None:
        if not (names := master.watched.keys):
            return
        try:
            # A PING would be answered by a node that has lost its slots, too.
            await master.confirm((b"PTTL", bytes_of(names[0])))
        except StorageError:
            self._map.distrust()  # it refused, so all that is watched there was reported as changed

    def _notify_of_slot(self, slot: int, master: ReconnectingConnection) -> None:
        """Report that watched keys may have changed, because another node has their slot now."""
        for key in master.watched.keys:
            if key_slot(bytes_of(key)) == slot:
                master.watched.notify(key)

    def _notify_of_new_map(self) -> None:
        for name, master in self._masters.items():
            for key in master.watched.keys:
                node = self._map.master_of_slot(key_slot(bytes_of(key)))
                if node is None or node.name != name:
                    master.watched.notify(key)

    # -- nodes and connections

    async def servers(self) -> Mapping[str, Transport]:
        return {node.name: self._connection_to(node) for node in await self._map.masters()}

    def server_of(self, key: bytes) -> str:
        """Return the name of the master that holds `key`, by the map as it is."""
        return str(self._map.known_master_of(key).name)

    async def authenticate(self, user: bytes, password: bytes) -> None:
        await asyncio.gather(*(master.authenticate(user, password) for master in self._masters.values()))

    async def aclose(self) -> None:
        """Let what is in flight end, and close the connections; calls under way open no others."""
        await self._map.aclose()
        # They stay known: if the event loop ends meanwhile, this is called again.
        await asyncio.gather(*(master.aclose() for master in (*self._masters.values(), *self._left)))

    def _connection_to(self, node: Any) -> ReconnectingConnection:
        master = self._masters.get(node.name)
        if master is None:
            self._map.check_open()
            master = self._masters[node.name] = self._new_connection(node)
        return master

    def _new_connection(self, node: Any) -> ReconnectingConnection:
        # Never send READONLY, as redis-py would here: a demoted master would serve sessions that have ended.
        kwargs = node.connection_kwargs | {"redis_connect_func": None}
        opener = partial(open_socket, partial(node.connection_class, **kwargs))
        return ReconnectingConnection(opener, self._silence_timeout, self._limit, self._map.begin_refresh)

    async def _ping(self, node: Any) -> RedisReply:
        """Ask a node for a PONG, on a connection of its own."""
        probe = self._new_connection(node)
        try:
            [pong] = await probe.read(b"", (b"PING",))
        finally:
            await probe.aclose()
        return pong

    async def _adopt_map(self) -> None:
        """After a new map was fetched: report what has moved, and close the connections to nodes that left."""
        self._on_new_map()
        self._notify_of_new_map()
        for name in [name for name in self._masters if not self._map.has(name)]:
            self._close_later(self._masters.pop(name))

    def _close_later(self, master: ReconnectingConnection) -> None:
        """Close it in the background: if the node is silent, this takes until the connection counts as lost."""
        closing = self._left[master] = asyncio.get_running_loop().create_task(master.leave())
        # Where the end of the event loop cancels it, `aclose` closes the connection.
        closing.add_done_callback(lambda _: None if closing.cancelled() else self._left.pop(master, None))
