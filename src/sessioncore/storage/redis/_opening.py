"""Opening a connection by redis-py, and taking its socket over."""

import asyncio
from typing import Any

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from sessioncore.storage.redis._connection import OpenedTransport

__all__ = ["open_transport"]


async def open_transport(connection: Any, protocol: asyncio.Protocol) -> OpenedTransport:
    """Open a connection of redis-py and give its socket to `protocol`; one attempt, since the caller tries again."""
    connection.retry = Retry(NoBackoff(), 0)
    try:
        await connection.connect()
        return _take_over(connection, protocol)
    except BaseException:
        await connection.disconnect(nowait=True)
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
