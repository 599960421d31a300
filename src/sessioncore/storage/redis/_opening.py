"""Opening a connection by redis-py, and taking its socket over."""

import asyncio
from typing import Any

from redis.asyncio import SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from sessioncore.storage.redis._connection import OpenedTransport
from sessioncore.storage.redis._errors import Explained
from sessioncore.storage.redis._reasons import IF_NO_TLS, reason_of
from sessioncore.storage.redis._sentinel import NO_SENTINEL, find_master

__all__ = ["open_transport"]


async def open_transport(connection: Any, protocol: asyncio.Protocol, seconds: float) -> OpenedTransport:
    """Open a connection of redis-py and give its socket to `protocol`; one attempt, since the caller tries again.

    Raises:
        Explained: it is known why that was not possible, and what to do.
    """
    connection.retry = Retry(NoBackoff(), 0)
    has_address, by_tls = not isinstance(connection, SentinelManagedConnection), isinstance(connection, SSLConnection)
    try:
        async with asyncio.timeout(seconds):
            if has_address:
                await connection.connect()
            else:
                address = await find_master(connection.connection_pool)
                has_address = True
                await connection.connect_to(address)
        return _take_over(connection, protocol)
    except BaseException as exc:
        why = ""
        if not has_address and isinstance(exc, TimeoutError):
            why = NO_SENTINEL.format(f"within {seconds:g} s") + (IF_NO_TLS if by_tls else "")
        elif isinstance(exc, Exception) and not isinstance(exc, Explained):
            # There is no other sign of the end of the TLS handshake.
            why = reason_of(exc, by_tls=by_tls, shaking_hands=connection._reader is None)  # noqa: SLF001
        await connection.disconnect(nowait=True)
        if why:
            raise Explained(why) from exc
        raise


def _take_over(connection: Any, protocol: asyncio.Protocol) -> OpenedTransport:
    """Take the socket out of a redis-py connection whose handshake is done.

    The one place that reaches into redis-py: its connection has no public way to hand
    over the transport. TLS, HELLO, AUTH and SELECT are done by then.
    """
    reader, writer = connection._reader, connection._writer  # noqa: SLF001 - see above
    if reader.at_eof() or reader._buffer:  # noqa: SLF001 - see above; unexpected bytes
        raise RedisConnectionError("the connection is not clean after its handshake")
    transport = writer.transport
    transport.set_protocol(protocol)
    connection._reader = connection._writer = None  # noqa: SLF001 - redis-py must not close the socket any more
    return transport, writer
