"""The map of a cluster, which tells the master that holds a key. redis-py keeps it, and fetches new ones."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from random import sample
from time import monotonic
from typing import Any

from redis.asyncio.cluster import ClusterNode
from redis.cluster import PRIMARY
from redis.crc import key_slot

from sessioncore._errors import StorageUnavailable
from sessioncore.concurrency._shield import run_shielded
from sessioncore.storage.redis._errors import ConnectionLost, ErrorReply, Explained, error_of
from sessioncore.storage.redis.client._opening import NO_LIMITS
from sessioncore.storage.redis.connection._transport import RedisReply
from sessioncore.storage.redis.connection._waiting import cancel_and_wait, first_answer, within

__all__ = ["ClusterMap"]

_NO_HOST = {"", "?"}  # hosts in a redirection, where nodes do not know by which name clients reach them
_PAUSE = 0.1  # seconds between two fetches of the map


class ClusterMap:
    """The map for one event loop; its nodes are redis-py's.

    `ping` asks a node for a PONG, on a connection that is closed again. `on_new_map` is called after each fetch.
    """

    def __init__(
        self,
        client: Any,
        silence_timeout: float,
        ping: Callable[[Any], Awaitable[RedisReply]],
        on_new_map: Callable[[], Awaitable[None]],
    ) -> None:
        self._map = _map_of(client)
        self._silence_timeout = silence_timeout
        self._ping = ping
        self._on_new_map = on_new_map
        self._loop = asyncio.get_running_loop()
        self._trusted = False  # a map was fetched, and nothing has contradicted it since
        self._closed = False
        self._fetching: asyncio.Task[Exception | None] | None = None  # the last fetch, which all callers share
        self._fetched_at = 0.0

    async def master_of(self, key: bytes) -> Any:
        """Return the master that holds `key`.

        Raises:
            ConnectionLost: no node serves its slot, or no map could be fetched.
        """
        if not self._trusted:
            await self.refresh()
        return self.known_master_of(key)

    def known_master_of(self, key: bytes) -> Any:
        """Return the master that holds `key`, by the map as it is.

        Raises:
            ConnectionLost: no node serves its slot.
        """
        node = self.master_of_slot(key_slot(key))
        if node is None:
            self.distrust()
            raise ConnectionLost("no node serves this slot at the moment")
        return node

    def master_of_slot(self, slot: int) -> Any:
        """Return the master that has a slot by the map, or None."""
        # redis-py's public call encodes the key, and may choose a replica, where a logout arrives late.
        nodes = self._map.slots_cache.get(slot)
        return nodes[0] if nodes else None

    async def masters(self) -> list[Any]:
        """Return all masters."""
        if not self._trusted:
            await self.refresh()
        return list(self._map.get_nodes_by_server_type(PRIMARY))

    def has(self, name: str) -> bool:
        """Return whether a node of this name belongs to the cluster."""
        return name in self._map.nodes_cache

    def target_of(self, moved: ErrorReply, answered: Any) -> Any:
        """Return the node that a redirection by `answered` names.

        Without a host it means another port of the host that answered (`cluster-preferred-endpoint-type
        unknown-endpoint`). The map lacks a node whose first slot is still being moved to it.
        """
        named, _, port = moved.text.split(" ")[2].rpartition(":")
        if named in _NO_HOST:
            host, number = answered.host, int(port)
        else:
            host, number = self._map.remap_host_port(named, int(port))
        known = self._map.get_node(node_name=f"{host}:{number}")
        kwargs = {name: value for name, value in answered.connection_kwargs.items() if name not in {"host", "port"}}
        return known or ClusterNode(host, number, connection_class=answered.connection_class, **kwargs)

    # -- fetching

    def distrust(self) -> None:
        """Fetch a new map before the next command."""
        self._trusted = False

    def check_open(self) -> None:
        """Raise ConnectionLost if the storage was closed."""
        if self._closed:
            raise ConnectionLost("the storage was closed")

    async def aclose(self) -> None:
        """End a fetch that is under way, and let no other one begin."""
        self._closed = True
        if self._fetching is not None:
            await cancel_and_wait(self._fetching)

    def begin_refresh(self) -> None:
        """Begin to fetch a new map, unless that was tried just before; meanwhile, calls use the old one."""
        fetch = self._fetching
        if not self._closed and (fetch is None or (fetch.done() and self._loop.time() - self._fetched_at >= _PAUSE)):
            self._fetching = self._loop.create_task(self._fetch())

    async def refresh(self) -> None:
        """Fetch a new map, unless that was tried just before; all callers that wait share one fetch.

        Raises:
            ConnectionLost: no node answers, or the storage was closed.
        """
        self.check_open()
        self.begin_refresh()
        fetch = self._fetching
        assert fetch is not None
        if fetch.done() and self._map.slots_cache:
            self.distrust()  # a later call fetches it
            return
        await asyncio.wait([fetch])
        if not fetch.cancelled() and (failure := fetch.result()) is not None:
            raise ConnectionLost("the map of the cluster could not be fetched") from failure

    async def _fetch(self) -> Exception | None:
        try:
            async with self._only_a_node_that_answers():
                await self._within_limit(self._map.initialize())
        except Exception as exc:  # noqa: BLE001 - redis-py raises anything for a map that it does not understand
            return exc
        else:
            self._trusted = True
            await self._on_new_map()
            return None
        finally:
            self._fetched_at = self._loop.time()

    @asynccontextmanager
    async def _only_a_node_that_answers(self) -> AsyncGenerator[None]:
        """Let redis-py fetch the map from a node that answers: by itself it waits for each that does not.

        Raises:
            ConnectionLost: no node answers.
        """

        async def answers(node: Any) -> str:
            pong = await self._ping(node)
            # Such as LOADING or BUSY: redis-py would take it for no cluster, while other nodes may serve.
            if isinstance(pong, ErrorReply) and isinstance(refusal := error_of(pong), StorageUnavailable):
                raise Explained(str(refusal))
            return str(node.name)

        nodes: dict[str, Any] = self._map.startup_nodes
        answered = await first_answer([partial(answers, node) for node in sample(list(nodes.values()), len(nodes))])
        others = {name: nodes.pop(name) for name in list(nodes) if name != answered}
        try:
            yield
        finally:
            if nodes.keys() <= {answered}:  # otherwise redis-py has put the nodes of the map there
                nodes |= others
            await run_shielded(self._within_limit(self._map.aclose("startup_nodes")))

    async def _within_limit(self, call: Coroutine[Any, Any, None]) -> None:
        await within(monotonic() + self._silence_timeout, call)


def _map_of(client: Any) -> Any:
    """Return a map of the client's cluster for this event loop: redis-py's locks and connections belong to one loop.

    Between two fetches it has no connection.
    """
    theirs = client.nodes_manager
    addresses = [(node.host, node.port) for node in list(theirs.startup_nodes.values())]
    kwargs = theirs.connection_kwargs | NO_LIMITS
    return type(theirs)(
        [ClusterNode(host, port, **kwargs) for host, port in addresses],
        theirs.require_full_coverage,
        kwargs,
        dynamic_startup_nodes=theirs._dynamic_startup_nodes,  # noqa: SLF001 - an argument of the client, kept there only
        address_remap=theirs.address_remap,
    )
