"""The transport to a cluster: a connection to each master, and the choice of the one that holds a key.

redis-py keeps a map of the cluster for each event loop, and fetches new ones; the connections are ours.
MOVED and ASK mean that a command was not carried out, so it is sent again where they point.
A command whose reply was lost is not sent again, as redis-py would do.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from random import sample
from typing import Any, TypeAlias

from redis.asyncio.cluster import ClusterNode
from redis.cluster import PRIMARY
from redis.crc import key_slot

from sessioncore._errors import StorageError
from sessioncore._shield import run_shielded
from sessioncore._watchers import Changed
from sessioncore.storage._text import bytes_of, text_of
from sessioncore.storage.redis._errors import CLIENT_ERRORS, ConnectionLost, ErrorReply, Explained, error_of
from sessioncore.storage.redis.client._opening import open_socket
from sessioncore.storage.redis.connection._reconnecting import ReconnectingConnection
from sessioncore.storage.redis.connection._transport import CallLimit, Command, Reply, Transport
from sessioncore.storage.redis.connection._waiting import end, first_answer, within

__all__ = ["ClusterTransport"]

_MAX_REDIRECTIONS = 5  # redirections of one command; while a slot moves there may be two or three
_REDIRECTIONS = frozenset({"MOVED", "ASK"})
_NO_HOST = {"", "?"}  # hosts in a redirection, where nodes do not know by which name clients reach them
_PAUSE = 0.1  # seconds between two fetches of the map
_Send: TypeAlias = Callable[..., Awaitable[list[Reply]]]  # ReconnectingConnection.read or .write


class ClusterTransport:
    """All masters of one cluster, each with a connection of its own."""

    def __init__(self, client: Any, silence_timeout: float, limit: CallLimit, on_new_map: Callable[[], None]) -> None:
        self._map = _map_of(client)
        self._silence_timeout = silence_timeout
        self._limit = limit
        self._on_new_map = on_new_map
        self._loop = asyncio.get_running_loop()
        self._masters: dict[str, ReconnectingConnection] = {}
        self._known = False
        self._closed = False
        self._refreshing: asyncio.Task[Exception | None] | None = None
        self._refreshed_at = 0.0

    # -- commands

    async def read(self, key: bytes, *commands: Command, deadline: float = inf) -> list[Reply]:
        """Send commands that change nothing to the master of `key`."""
        return await within(deadline, self._follow(ReconnectingConnection.read, key, commands))

    async def write(self, key: bytes, *commands: Command, deadline: float = inf) -> list[Reply]:
        """Send commands exactly once to the master of `key`."""
        return await within(deadline, self._follow(ReconnectingConnection.write, key, commands))

    async def get_with_ttl(self, key: bytes, deadline: float) -> list[Reply]:
        """Read the value of `key` and its milliseconds left from its master."""
        return await self.read(key, (b"GET", key), (b"PTTL", key), deadline=deadline)

    async def _follow(self, send: _Send, key: bytes, commands: tuple[Command, ...]) -> list[Reply]:
        if not self._known:
            await self._refresh()
        node = self._node_of(key)
        for _ in range(_MAX_REDIRECTIONS):
            try:
                replies = await send(self._connection_to(node), key, *commands)
            except ConnectionLost:
                self._known = False  # its master may be another node by now
                raise
            moved = next((r for r in replies if isinstance(r, ErrorReply) and r.code in _REDIRECTIONS), None)
            if moved is None:
                return replies
            target = self._target_of(moved, node)
            if moved.code == "ASK":
                # The slot is being moved: its next master serves a command for this key if ASKING comes before it.
                asking = [part for command in commands for part in ((b"ASKING",), command)]
                return (await send(self._connection_to(target), key, *asking))[1::2]
            self._tell_of_slot(key_slot(key), self._connection_to(node))
            await self._refresh()
            node = target
        raise ConnectionLost("the cluster redirected a command too often")

    # -- changes of keys

    async def get_watched(self, key: bytes, changed: Changed, deadline: float) -> list[Reply]:
        """Read it from its master, which will tell of its next change."""

        async def watch(master: ReconnectingConnection, key: bytes, *commands: Command) -> list[Reply]:
            if commands[0] == (b"ASKING",):  # it cannot go together with CLIENT CACHING: ask again at each `confirm`
                master.watched.add(key, changed)
                replies = await master.read(key, *commands)
                master.watched.answered(key, replies[1], pushed=False)
                return replies
            replies = await master.get_watched(key, changed, inf)
            if isinstance(replies[0], ErrorReply) and replies[0].code in _REDIRECTIONS:
                master.unwatch(text_of(key), changed)
            return replies

        return await within(deadline, self._follow(watch, key, ((b"GET", key), (b"PTTL", key))))

    def unwatch(self, key: str, changed: Changed) -> None:
        """Do not call `changed` for this key any more."""
        for master in list(self._masters.values()):  # they may belong to another event loop, which goes on
            master.unwatch(key, changed)

    async def confirm(self) -> None:
        """Ask each master that has watched keys."""
        await asyncio.gather(*(self._confirm(master) for master in self._masters.values()))

    async def _confirm(self, master: ReconnectingConnection) -> None:
        if not (names := master.watched.keys()):
            return
        try:
            # A PING would be answered by a node that has lost its slots, too.
            await master.confirm((b"PTTL", bytes_of(names[0])))
        except StorageError:
            self._known = False  # it refused, so all that is watched there has been told

    def _tell_of_slot(self, slot: int, master: ReconnectingConnection) -> None:
        """Tell that watched keys may have changed, because another node has their slot now."""
        master.watched.invalidated([key for key in map(bytes_of, master.watched.keys()) if key_slot(key) == slot])

    def _tell_of_new_map(self) -> None:
        for name, master in self._masters.items():
            for slot in {key_slot(key) for key in map(bytes_of, master.watched.keys())}:
                node = self._master_of(slot)
                if node is None or node.name != name:
                    self._tell_of_slot(slot, master)

    # -- nodes and connections

    async def servers(self) -> Mapping[str, Transport]:
        """Return a connection to each master."""
        if not self._known:
            await self._refresh()
        return {node.name: self._connection_to(node) for node in self._map.get_nodes_by_server_type(PRIMARY)}

    def server_of(self, key: bytes) -> str:
        """Return the name of the master that holds `key`, by the map as it is."""
        return str(self._node_of(key).name)

    async def authenticate(self, user: bytes, password: bytes) -> None:
        """Authenticate again on each connection."""
        await asyncio.gather(*(master.authenticate(user, password) for master in self._masters.values()))

    async def aclose(self) -> None:
        """Let what is in flight end, and close the connections; calls that go on open no other ones."""
        self._closed = True
        if self._refreshing is not None:
            await end(self._refreshing)
        masters, self._masters = list(self._masters.values()), {}
        await asyncio.gather(*(master.aclose() for master in masters))

    def _node_of(self, key: bytes) -> Any:
        node = self._master_of(key_slot(key))
        if node is None:
            self._known = False
            raise ConnectionLost("no node serves this slot at the moment")
        return node

    def _master_of(self, slot: int) -> Any:
        """Return the master that has a slot by the map, or None."""
        # redis-py's public call encodes the key, and may choose a replica, which learns of a logout late.
        nodes = self._map.slots_cache.get(slot)
        return nodes[0] if nodes else None

    def _target_of(self, moved: ErrorReply, answered: Any) -> Any:
        """Return the node that a redirection by `answered` names.

        Without a host it means another port of the host that answered (`cluster-preferred-endpoint-type
        unknown-endpoint`). The map lacks a node that has no slot yet, to which the first one is being moved.
        """
        told, _, port = moved.text.split(" ")[2].rpartition(":")
        if told in _NO_HOST:
            host, number = answered.host, int(port)
        else:
            host, number = self._map.remap_host_port(told, int(port))
        known = self._map.get_node(node_name=f"{host}:{number}")
        kwargs = {name: value for name, value in answered.connection_kwargs.items() if name not in {"host", "port"}}
        return known or ClusterNode(host, number, connection_class=answered.connection_class, **kwargs)

    def _connection_to(self, node: Any) -> ReconnectingConnection:
        master = self._masters.get(node.name)
        if master is None:
            self._check_open()
            master = self._masters[node.name] = self._new_connection(node)
        return master

    def _new_connection(self, node: Any) -> ReconnectingConnection:
        # Never send READONLY, as redis-py would here: a demoted master would serve sessions that have ended.
        kwargs = node.connection_kwargs | {"redis_connect_func": None}
        opener = partial(open_socket, partial(node.connection_class, **kwargs))
        return ReconnectingConnection(opener, self._silence_timeout, self._limit)

    # -- the map

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionLost("the storage was closed")

    async def _refresh(self) -> None:
        """Fetch the map of the cluster; all callers that wait share one fetch."""
        self._check_open()
        if self._refreshing is None:
            if self._refreshed_at and self._loop.time() - self._refreshed_at < _PAUSE and self._map.slots_cache:
                self._known = False  # a later call fetches it
                return
            self._refreshing = self._loop.create_task(self._fetch())
        fetch = self._refreshing
        await asyncio.wait([fetch])
        if not fetch.cancelled() and (failure := fetch.result()) is not None:
            raise ConnectionLost("the map of the cluster could not be fetched") from failure

    async def _fetch(self) -> Exception | None:
        try:
            async with self._only_a_node_that_answers(), asyncio.timeout(self._silence_timeout):
                await self._map.initialize()
        except (ConnectionLost, *CLIENT_ERRORS, OSError) as exc:
            return exc
        else:
            self._known = True
            self._on_new_map()
            self._tell_of_new_map()
            await self._close_removed()
            return None
        finally:
            self._refreshed_at = self._loop.time()
            self._refreshing = None

    @asynccontextmanager
    async def _only_a_node_that_answers(self) -> AsyncGenerator[None]:
        """Let redis-py fetch the map from a node that answers: by itself it waits for each that does not.

        Raises:
            ConnectionLost: no node answers.
        """

        async def answers(node: Any) -> str:
            probe = self._new_connection(node)
            try:
                [pong] = await probe.read(b"", (b"PING",))
            finally:
                await probe.aclose()
            if isinstance(pong, ErrorReply) and pong.code == "LOADING":  # redis-py would take it for no cluster
                raise Explained(str(error_of(pong)))
            return str(node.name)

        nodes: dict[str, Any] = self._map.startup_nodes
        answered = await first_answer([partial(answers, node) for node in sample(list(nodes.values()), len(nodes))])
        others = {name: nodes.pop(name) for name in list(nodes) if name != answered}
        try:
            yield
        finally:
            if nodes.keys() <= {answered}:  # otherwise redis-py has put the nodes of the map there
                nodes |= others
            await run_shielded(self._map.aclose("startup_nodes"))

    async def _close_removed(self) -> None:
        for name in self._masters.keys() - self._map.nodes_cache.keys():
            await run_shielded(self._masters.pop(name).aclose())  # nothing else refers to it after that


def _map_of(client: Any) -> Any:
    """Return a map of the client's cluster for this event loop: redis-py's locks and connections belong to one loop.

    Between two fetches it has no connection.
    """
    theirs = client.nodes_manager
    places = [(node.host, node.port) for node in list(theirs.startup_nodes.values())]
    return type(theirs)(
        [ClusterNode(host, port, **theirs.connection_kwargs) for host, port in places],
        theirs.require_full_coverage,
        theirs.connection_kwargs,
        dynamic_startup_nodes=theirs._dynamic_startup_nodes,  # noqa: SLF001 - an argument of the client, kept there only
        address_remap=theirs.address_remap,
    )
