"""What every transport to one server or a cluster can do.

`ReconnectingConnection` leads to a single server and `ClusterTransport` to a cluster, both over connections of
their own. `ClientTransport` sends commands through a client whose connections are not redis-py's own.
All return error replies as `ErrorReply` values.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from time import monotonic
from typing import Any, Protocol, TypeAlias

from msgspec import Struct

from sessioncore._watchers import Changed

__all__ = ["CallLimit", "Command", "OpenedSocket", "Opener", "RedisReply", "Transport"]

Command: TypeAlias = tuple[bytes | int, ...]
RedisReply: TypeAlias = Any
"""bytes, int, None, a list of these, or an ErrorReply."""

OpenedSocket: TypeAlias = tuple[asyncio.Transport, object]
"""A socket whose handshake is done, as asyncio's transport, and what must live as long as it does."""

Opener: TypeAlias = Callable[[asyncio.Protocol, float], Awaitable[OpenedSocket]]
"""Connects within that many seconds, and has the socket call that protocol."""


class CallLimit(Struct):
    """How long calls may take: the shortest `storage_timeout` of the stores that use this storage."""

    enforced: bool  # here, for a load, a create, a replace or a move; otherwise the stores do it
    seconds: float = inf

    def deadline(self) -> float:
        """Return the deadline of a call that begins now, by the monotonic clock; infinite if the stores enforce it."""
        return monotonic() + self.seconds if self.enforced else inf

    def doubt_after(self, silence_timeout: float) -> float:
        """Return the seconds of silence after which a connection is doubted.

        A quarter of the time that a call has: then most of it is left for a fresh connection.
        """
        return min(self.seconds, silence_timeout) / 4


class Transport(Protocol):
    """Sends commands to the server that holds a key.

    `deadline` is by the monotonic clock; without a reply by then, a call raises `ReplyTimeout`.
    """

    def read(self, key: bytes, *commands: Command, deadline: float = inf) -> Awaitable[list[RedisReply]]:
        """Send commands that may be carried out twice: after a lost connection they may be sent again."""
        ...

    def write(self, key: bytes, *commands: Command, deadline: float = inf) -> Awaitable[list[RedisReply]]:
        """Send commands exactly once; if their replies are lost, `ConnectionLost` says so."""
        ...

    def get_with_ttl(self, key: bytes, deadline: float) -> Awaitable[list[RedisReply]]:
        """Read the value of `key` and its milliseconds left."""
        ...

    def get_watched(self, key: bytes, changed: Changed, deadline: float) -> Awaitable[list[RedisReply]]:
        """Do what `get_with_ttl` does, and have `changed` called at its next change, before a `confirm` returns."""
        ...

    def unwatch(self, key: str, changed: Changed) -> None:
        """Do not call `changed` for this key any more."""
        ...

    async def confirm(self) -> None:
        """Return when every change of a watched key that was complete before has been reported."""
        ...

    async def servers(self) -> "Mapping[str, Transport]":
        """Return a transport to each server that holds keys, by its name; one server alone has an empty name."""
        ...

    async def authenticate(self, user: bytes, password: bytes) -> None:
        """Authenticate again on the connections that are open; with no user, as the default one."""
        ...

    async def aclose(self) -> None:
        """Close the connections that this transport opened itself."""
        ...
