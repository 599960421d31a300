"""A link to each master of a cluster, and the way from a key to the right one.

redis-py knows the map of the cluster and how to ask for a new one; the connections
are ours. MOVED and ASK mean that a command was not carried out, so it follows them;
whatever was lost on the way is not repeated here, as it would be by redis-py.
"""

import asyncio
from collections.abc import Sequence
from math import inf
from typing import Any, cast

from redis.crc import key_slot
from redis.exceptions import RedisError

from sessioncore.storage.redis._errors import Lost, Refusal
from sessioncore.storage.redis._link import before
from sessioncore.storage.redis._wire import Command, LinkWire, Reply, Wire

__all__ = ["ClusterWire"]

_HOPS = 5  # redirections for one command: a slot that moves answers with two or three
_REST = 0.1  # seconds between two looks at the map


class ClusterWire:
    """All masters of one cluster, each by a link of its own."""

    def __init__(self, client: Any, patience: float) -> None:
        self._client = client
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._wires: dict[str, LinkWire] = {}
        self._known = False
        self._looking: asyncio.Task[Exception | None] | None = None
        self._looked = 0.0

    async def read(self, key: bytes, *commands: Command, due: float = inf) -> list[Reply]:
        """Send commands that change nothing to the master of `key`."""
        return await before(due, self._follow(key, commands, "read"))

    async def write(self, key: bytes, *commands: Command, due: float = inf) -> list[Reply]:
        """Send commands exactly once to the master of `key`."""
        return await before(due, self._follow(key, commands, "write"))

    async def look(self, key: bytes, due: float) -> list[Reply]:
        """Read the value and its milliseconds left from the master of `key`."""
        return await before(due, self._follow(key, ((b"GET", key), (b"PTTL", key)), "read"))

    async def servers(self) -> Sequence[Wire]:
        """Return the links of all masters."""
        if not self._known:
            await self._look()
        return [self._wire_to(node) for node in self._client.get_primaries()]

    async def aclose(self) -> None:
        """Let what is in flight end, and close the connections."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        wires, self._wires = list(self._wires.values()), {}
        await asyncio.gather(*(wire.aclose() for wire in wires))

    async def _follow(self, key: bytes, commands: tuple[Command, ...], how: str) -> list[Reply]:
        if not self._known:
            await self._look()
        wire = self._wire_of(key)
        for _ in range(_HOPS):
            try:
                replies: list[Reply] = await getattr(wire, how)(key, *commands)
            except Lost:
                self._known = False  # its master may be another node by now
                raise
            moved = next((r for r in replies if isinstance(r, Refusal) and r.code in {"MOVED", "ASK"}), None)
            if moved is None:
                return replies
            if moved.code == "ASK":
                return await self._ask(key, commands, moved, how)
            await self._look()
            wire = self._wire_at(moved)
        raise Lost("the cluster sent us from node to node")

    async def _ask(self, key: bytes, commands: tuple[Command, ...], moved: Refusal, how: str) -> list[Reply]:
        # The slot is on its way: its next owner serves this key if asked to, packet by packet.
        asking = [part for command in commands for part in ((b"ASKING",), command)]
        replies: list[Reply] = await getattr(self._wire_at(moved), how)(key, *asking)
        return replies[1::2]

    def _wire_of(self, key: bytes) -> LinkWire:
        # The public call would encode the key, and may choose a replica: a logout must not be read late.
        nodes = self._client.nodes_manager.slots_cache.get(key_slot(key))
        if not nodes:
            self._known = False
            raise Lost("no node serves this slot at the moment")
        return self._wire_to(nodes[0])

    def _wire_at(self, moved: Refusal) -> LinkWire:
        host, _, port = moved.text.split(" ")[2].rpartition(":")
        host, number = self._client.nodes_manager.remap_host_port(host, int(port))
        node = self._client.get_node(host=host, port=number) if host else None
        if node is None:
            self._known = False
            raise Lost("the cluster points to a node that its map does not show yet")
        return self._wire_to(node)

    def _wire_to(self, node: Any) -> LinkWire:
        wire = self._wires.get(node.name)
        if wire is None:
            # redis-py would send READONLY here for reads from replicas: then a demoted master would
            # go on answering from a past in which a session still lived.
            kwargs = node.connection_kwargs | {"redis_connect_func": None}
            wire = self._wires[node.name] = LinkWire(lambda: node.connection_class(**kwargs), self._patience)
        return wire

    async def _look(self) -> None:
        """Get the map anew; all who wait share one look."""
        if self._looking is None:
            if self._looked and self._loop.time() - self._looked < _REST and self._client.get_primaries():
                return
            self._looking = self._loop.create_task(self._fetch())
        look = self._looking
        await asyncio.wait([look])
        if not look.cancelled() and (failure := look.result()) is not None:
            raise Lost("the map of the cluster could not be had") from failure

    async def _fetch(self) -> Exception | None:
        try:
            async with asyncio.timeout(self._patience):
                await self._client.initialize()
                await self._client.nodes_manager.initialize()
        except (RedisError, OSError) as exc:
            return exc
        else:
            self._known = True
            await self._drop_the_gone()
            return None
        finally:
            self._looked = self._loop.time()
            self._looking = None

    async def _drop_the_gone(self) -> None:
        present = {cast("str", node.name) for node in self._client.get_nodes()}
        for name in [name for name in self._wires if name not in present]:
            await self._wires.pop(name).aclose()
