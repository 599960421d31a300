"""Commands in, replies out: how a storage reaches one server, whatever the client.

`LinkWire` takes connections from redis-py and lays a `Link` over them. `ClientWire`
is for clients whose connections are not redis-py's own (a fake, a wrapper): it calls
their commands one by one. Both return error replies as `Refusal` values.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Any, Protocol, TypeAlias, cast

import hiredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from sessioncore.storage.redis._errors import Lost, Refusal
from sessioncore.storage.redis._link import Link, before
from sessioncore.storage.redis._pipe import Opened

__all__ = ["ClientWire", "Command", "LinkWire", "Reply", "Wire", "opener", "refusal_of"]

Command: TypeAlias = tuple[bytes | int, ...]
Reply: TypeAlias = Any
"""bytes, int, None, a list of these, or a Refusal."""

_pack = cast("Callable[[Command], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType] -- its stub is wrong


class Wire(Protocol):
    """The way to the server that holds a key.

    `due`: when by the monotonic clock a packet has waited long enough, which is `Lost`, too.
    """

    def read(self, key: bytes, *commands: Command, due: float = inf) -> Awaitable[list[Reply]]:
        """Send commands that change nothing; after a lost connection they may be sent once more."""
        ...

    def write(self, key: bytes, *commands: Command, due: float = inf) -> Awaitable[list[Reply]]:
        """Send commands exactly once; if their replies are lost, `Lost` says so."""
        ...

    def look(self, key: bytes, due: float) -> Awaitable[list[Reply]]:
        """Read the value of `key` and its milliseconds left."""
        ...

    async def servers(self) -> "Sequence[Wire]":
        """Return a wire to each server that holds keys."""
        ...

    async def aclose(self) -> None:
        """Close what the wire itself opened."""
        ...


class LinkWire:
    """One link to one server."""

    def __init__(self, make_connection: Callable[[], Any], patience: float) -> None:
        self._link = Link(opener(make_connection), patience)

    def read(self, key: bytes, *commands: Command, due: float = inf) -> Awaitable[list[Reply]]:
        """Send commands that change nothing."""
        return self._link.ask_again(b"".join(map(_pack, commands)), len(commands), due)

    def write(self, key: bytes, *commands: Command, due: float = inf) -> Awaitable[list[Reply]]:
        """Send commands exactly once."""
        return self._link.ask(b"".join(map(_pack, commands)), len(commands), due)

    def look(self, key: bytes, due: float) -> Awaitable[list[Reply]]:
        """Send GET and PTTL, packed by hand: nearly every request sends these, and nothing else."""
        size = len(key)
        packed = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n*2\r\n$4\r\nPTTL\r\n$%d\r\n%b\r\n" % (size, key, size, key)
        return self._link.ask_again(packed, 2, due)

    async def servers(self) -> Sequence[Wire]:
        """Return this one."""
        return [self]

    async def aclose(self) -> None:
        """Let what is in flight end, and close the connection."""
        await self._link.aclose()


class ClientWire:
    """The client's own commands, one round trip each.

    Such a client may repeat a write whose reply was lost, by its own settings.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    async def read(self, key: bytes, *commands: Command, due: float = inf) -> list[Reply]:
        """Send commands that change nothing."""
        return await before(due, self._each(commands))

    async def write(self, key: bytes, *commands: Command, due: float = inf) -> list[Reply]:
        """Send commands in order."""
        return await before(due, self._each(commands))

    async def look(self, key: bytes, due: float) -> list[Reply]:
        """Read the value and its milliseconds left."""
        return await before(due, self._each(((b"GET", key), (b"PTTL", key))))

    async def servers(self) -> Sequence[Wire]:
        """Return this one."""
        return [self]

    async def aclose(self) -> None:
        """Leave the client to its owner."""

    async def _each(self, commands: tuple[Command, ...]) -> list[Reply]:
        return [await self._one(command) for command in commands]

    async def _one(self, command: Command) -> Reply:
        name = cast("bytes", command[0]).decode()
        try:
            return await self._client.execute_command(name, *command[1:])
        except (AuthenticationError, BusyLoadingError, ResponseError, ClusterDownError, MasterDownError) as exc:
            return refusal_of(exc)
        except (RedisConnectionError, RedisTimeoutError, OSError) as exc:
            raise Lost("the client lost its connection") from exc


_CODES: tuple[tuple[type[RedisError], str], ...] = (
    # redis-py cuts the code off the errors it has classes for.
    (NoScriptError, "NOSCRIPT"),
    (ReadOnlyError, "READONLY"),
    (BusyLoadingError, "LOADING"),
    (OutOfMemoryError, "OOM"),
    (NoPermissionError, "NOPERM"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
    (AuthenticationError, "WRONGPASS"),
)


def refusal_of(exc: Exception) -> Refusal:
    """Return the error reply that an exception of redis-py was."""
    text = str(exc)
    for kind, word in _CODES:
        if isinstance(exc, kind):
            code = word
            # It asks in two ways for the password that was not given, and has one class for both.
            if code == "WRONGPASS" and text.startswith(("Authentication required", "HELLO must be called")):
                code = "NOAUTH"
            return Refusal(f"{code} {text}")
    return Refusal(text)


def opener(make_connection: Callable[[], Any]) -> Callable[[Callable[[], asyncio.Protocol]], Awaitable[Opened]]:
    """Return a function that opens a connection and gives its socket to a protocol."""

    async def opened(protocol: Callable[[], asyncio.Protocol]) -> Opened:
        connection = make_connection()
        # One attempt: how often to try again, and when, is the link's to decide.
        connection.retry = Retry(NoBackoff(), 0)
        try:
            await connection.connect()
            return _take_over(connection, protocol())
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    return opened


def _take_over(connection: Any, protocol: asyncio.Protocol) -> Opened:
    """Take the socket out of a redis-py connection whose handshake is done.

    The one place that reaches into redis-py: its connection has no public way to hand
    over the transport. What it did until here (TLS, HELLO, AUTH, SELECT) holds.
    """
    reader, writer = connection._reader, connection._writer  # noqa: SLF001 - see above
    if reader.at_eof() or reader._buffer:  # noqa: SLF001 - see above; bytes that nobody asked for yet
        raise RedisConnectionError("the connection is not clean after its handshake")
    transport = writer.transport
    transport.set_protocol(protocol)
    connection._reader = connection._writer = None  # noqa: SLF001 - it must not close what is ours now
    return transport, writer
