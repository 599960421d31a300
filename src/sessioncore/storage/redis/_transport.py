"""`Transport`: sends commands to the server that holds a key, and returns the replies.

`ReconnectingConnection` and `ClusterTransport` open connections of their own. `ClientTransport`,
here, is for clients whose connections are not redis-py's (a fake, a wrapper): it calls their
methods one command at a time. All return error replies as `ErrorReply` values.
"""

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping
from math import inf
from time import monotonic
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from msgspec import Struct
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from sessioncore._watchers import Changed
from sessioncore.storage.redis._errors import ConnectionLost, ReplyTimeout, error_reply_of
from sessioncore.storage.redis._watched_keys import WatchedKeys

__all__ = ["LATE", "CallLimit", "ClientTransport", "Command", "Reply", "Transport", "within"]

Command: TypeAlias = tuple[bytes | int, ...]
Reply: TypeAlias = Any
"""bytes, int, None, a list of these, or an ErrorReply."""

LATE = "no answer in time (see storage_timeout)"
_T = TypeVar("_T")


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

    def read(self, key: bytes, *commands: Command, deadline: float = inf) -> Awaitable[list[Reply]]:
        """Send commands that change nothing; after a lost connection they may be sent once more."""
        ...

    def write(self, key: bytes, *commands: Command, deadline: float = inf) -> Awaitable[list[Reply]]:
        """Send commands exactly once; if their replies are lost, `ConnectionLost` says so."""
        ...

    def get_with_ttl(self, key: bytes, deadline: float) -> Awaitable[list[Reply]]:
        """Read the value of `key` and its milliseconds left."""
        ...

    def get_watched(self, key: bytes, changed: Changed, deadline: float) -> Awaitable[list[Reply]]:
        """Do what `get_with_ttl` does, and have `changed` called at its next change, before a `confirm` returns."""
        ...

    def unwatch(self, key: str, changed: Changed) -> None:
        """Do not call `changed` for this key any more."""
        ...

    async def confirm(self) -> None:
        """Return when every change of a watched key that was complete before has been told."""
        ...

    async def servers(self) -> "Mapping[str, Transport]":
        """Return a transport to each server that holds keys, by its name; one server alone has an empty name."""
        ...

    async def log_in(self, user: bytes, password: bytes) -> None:
        """Log in again on the connections that are open; with no user, as the default one."""
        ...

    async def aclose(self) -> None:
        """Close the connections that this transport opened itself."""
        ...


class ClientTransport:
    """The client's own commands, one round trip each.

    Such a client may repeat a write whose reply was lost, by its own settings.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._watched = WatchedKeys()

    async def read(self, key: bytes, *commands: Command, deadline: float = inf) -> list[Reply]:
        """Send commands that change nothing."""
        return await within(deadline, self._each(commands))

    async def write(self, key: bytes, *commands: Command, deadline: float = inf) -> list[Reply]:
        """Send commands in order."""
        return await within(deadline, self._each(commands))

    async def get_with_ttl(self, key: bytes, deadline: float) -> list[Reply]:
        """Read the value and its milliseconds left."""
        return await self.read(key, (b"GET", key), (b"PTTL", key), deadline=deadline)

    async def get_watched(self, key: bytes, changed: Changed, deadline: float) -> list[Reply]:
        """Read it, and again at each `confirm`: such a client passes no pushes on."""
        self._watched.add(key, changed)
        value, left = await self.get_with_ttl(key, deadline)
        self._watched.answered(key, value, pushed=False)
        return [value, left]

    def unwatch(self, key: str, changed: Changed) -> None:
        """Do not call `changed` for this key any more."""
        self._watched.remove(key, changed)

    async def confirm(self) -> None:
        """Read again what is watched."""
        await self._watched.poll(lambda key: self.get_with_ttl(key, inf))

    async def servers(self) -> Mapping[str, Transport]:
        """Return this one."""
        return {"": self}

    async def log_in(self, user: bytes, password: bytes) -> None:
        """Do nothing: the client does it."""

    async def aclose(self) -> None:
        """Do nothing: the client belongs to the application."""

    async def _each(self, commands: tuple[Command, ...]) -> list[Reply]:
        return [await self._one(command) for command in commands]

    async def _one(self, command: Command) -> Reply:
        name = cast("bytes", command[0]).decode()
        try:
            return await self._client.execute_command(name, *command[1:])
        except (AuthenticationError, BusyLoadingError, ResponseError, ClusterDownError, MasterDownError) as exc:
            return error_reply_of(exc)
        except (RedisConnectionError, RedisTimeoutError, OSError) as exc:
            raise ConnectionLost("the client lost its connection") from exc


async def within(deadline: float, call: Coroutine[Any, Any, _T]) -> _T:
    """Await `call` until `deadline`, by the monotonic clock.

    Raises:
        ReplyTimeout: time is up.
    """
    if deadline == inf:
        return await call
    try:
        async with asyncio.timeout(deadline - monotonic()):
            return await call
    except TimeoutError as exc:
        raise ReplyTimeout(LATE) from exc
