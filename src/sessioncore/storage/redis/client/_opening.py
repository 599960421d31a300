"""Opens a connection with redis-py, takes its socket over, and says why that failed.

redis-py knows about addresses, TLS, passwords and protocol versions. The master behind its sentinels is
looked up here: redis-py asks one sentinel after the other, and waits for each, so if the first one is on
the machine that has died, no connection is ever opened.
"""

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

from redis import exceptions as redis_errors
from redis.asyncio import ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.backoff import NoBackoff

from sessioncore._causes import causes
from sessioncore.concurrency._standstill import time_limit
from sessioncore.storage.redis._errors import CLIENT_ERRORS, ErrorReply, Explained, error_reply_of, words_of
from sessioncore.storage.redis.connection._transport import OpenedSocket
from sessioncore.storage.redis.connection._waiting import cancel_and_wait, first_answer

__all__ = ["NO_LIMITS", "open_socket"]

# Each `time_limit` is for all that happens within it; redis-py's own would fail after the process was stopped.
NO_LIMITS: Final = {"socket_timeout": None, "socket_connect_timeout": None}

_ASK_AGAIN = 1.0  # seconds that a master may be silent before the sentinels are asked whether it still is the master

_NO_SENTINEL = "no sentinel answered ({}); look at the sentinels, their addresses and the network"
_IF_NO_TLS = "; a server that does not speak TLS keeps silent: then write redis, not rediss, in the URL"

_FROM_WITHIN = "the attempt to connect {}; look at the arguments of the client and at its credential provider"

_WANTS_CERTIFICATE = "it may want a certificate of the client: ?ssl_certfile=PATH&ssl_keyfile=PATH"

# By a part of the text of an SSLError; the first match counts.
_TLS_ADVICE = {
    "certificate is not valid for": "connect by a name that is in its certificate",
    "certificate has expired": "renew its certificate",
    "certificate is not yet valid": "look at its certificate and at the clock",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted: name the file of its CA with ?ssl_ca_certs=PATH",
    "CERTIFICATE_REQUIRED": _WANTS_CERTIFICATE,
    "HANDSHAKE_FAILURE": _WANTS_CERTIFICATE,  # by TLS 1.2
    "ALERT_UNKNOWN_CA": "it does not trust the certificate of the client, in ssl_certfile",
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port: write redis, not rediss, in the URL",
    "PEM lib": "a file of ssl_certfile or ssl_keyfile is not what it should be",
    "NO_CERTIFICATE": "the file of ssl_ca_certs has no certificate",
}


async def open_socket(make_connection: Callable[[], Any], protocol: asyncio.Protocol, seconds: float) -> OpenedSocket:
    """Open a connection and give its socket to `protocol`; one attempt, since the caller tries again.

    Raises:
        Explained: it is known why that was not possible, and what to do.
    """
    connection = make_connection()
    connection.retry = Retry(NoBackoff(), 0)
    connection.socket_timeout = connection.socket_connect_timeout = None  # see NO_LIMITS
    has_address, by_tls = not isinstance(connection, SentinelManagedConnection), isinstance(connection, SSLConnection)
    try:
        async with time_limit(seconds):
            if has_address:
                await connection.connect()
            else:
                address = await _find_master(connection.connection_pool)
                has_address = True
                await _connect_to_master(connection, address)
        return _take_over(connection, protocol)
    except BaseException as exc:
        why = ""
        if not has_address and isinstance(exc, TimeoutError):
            why = _NO_SENTINEL.format(f"within {seconds:g} s") + (_IF_NO_TLS if by_tls else "")
        elif isinstance(exc, asyncio.CancelledError):
            task = asyncio.current_task()
            why = "" if task is not None and task.cancelling() else _FROM_WITHIN.format("was cancelled from within")
        elif isinstance(exc, Exception) and not isinstance(exc, Explained):
            # Nothing else shows that the TLS handshake has ended.
            why = _reason_of(exc, by_tls=by_tls, shaking_hands=connection._reader is None)  # noqa: SLF001
        await connection.disconnect(nowait=True)
        if why:
            raise Explained(why) from exc
        raise


def _take_over(connection: Any, protocol: asyncio.Protocol) -> OpenedSocket:
    """Take the socket out of a connection whose handshake is done: TLS, HELLO, AUTH and SELECT.

    redis-py's connection has no public way to hand it over.
    """
    reader, writer = connection._reader, connection._writer  # noqa: SLF001 - see above
    if reader.at_eof() or reader._buffer:  # noqa: SLF001 - see above; unexpected bytes
        raise redis_errors.ConnectionError("the connection is not clean after its handshake")
    transport = writer.transport
    transport.set_protocol(protocol)
    connection._reader = connection._writer = None  # noqa: SLF001 - redis-py must not close the socket any more
    return transport, writer


async def _find_master(pool: Any) -> tuple[str, int]:
    """Return the address of the master that a Sentinel pool of redis-py leads to.

    Raises:
        Explained: no sentinel names it.
    """
    try:
        return await first_answer(
            [partial(_ask_sentinel, pool, sentinel) for sentinel in pool.sentinel_manager.sentinels]
        )
    except (*CLIENT_ERRORS, OSError) as exc:
        by_tls = issubclass(pool.sentinel_manager.sentinels[0].connection_pool.connection_class, SSLConnection)
        why = _reason_of(exc, by_tls=by_tls, shaking_hands=True)
        raise Explained(why or _NO_SENTINEL.format(words_of(exc))) from exc


async def _connect_to_master(connection: Any, address: tuple[str, int]) -> None:
    """Connect to a master; while it is silent, ask the sentinels again, and turn to the one that they name by then.

    Raises:
        Explained: they name none any more.
    """
    connecting = asyncio.ensure_future(connection.connect_to(address))
    try:
        while not (await asyncio.wait([connecting], timeout=_ASK_AGAIN))[0]:
            if (named := await _find_master(connection.connection_pool)) != address:
                await cancel_and_wait(connecting)
                await connection.disconnect(nowait=True)
                address, connecting = named, asyncio.ensure_future(connection.connect_to(named))
        connecting.result()
    finally:
        await cancel_and_wait(connecting)


async def _ask_sentinel(pool: Any, sentinel: Any) -> tuple[str, int]:
    manager, theirs = pool.sentinel_manager, sentinel.connection_pool
    # A connection of its own: the pool's connections and its lock belong to the event loop that has used it first.
    own = Redis.from_pool(
        ConnectionPool(connection_class=theirs.connection_class, **theirs.connection_kwargs | NO_LIMITS)
    )
    try:
        masters: Any = await own.sentinel_masters()
    except (redis_errors.AuthenticationError, redis_errors.ResponseError) as exc:
        raise Explained(_sentinel_refusal(error_reply_of(exc))) from exc
    finally:
        await own.aclose()
    state = masters.get(pool.service_name)
    if state is None:
        raise Explained(
            "the sentinels know no master of this name; correct the service in the URL: "
            "SENTINEL MASTERS lists the names"
        )
    if not manager.check_master_state(state, pool.service_name):
        raise Explained("the sentinels say that the master is down; look at it, or wait for the end of the failover")
    forced = cast("str | None", getattr(manager, "_force_master_ip", None))
    return state["ip"] if forced is None else forced, state["port"]


def _sentinel_refusal(reply: ErrorReply) -> str:
    if reply.code in {"NOAUTH", "WRONGPASS"}:
        return (
            f"a sentinel refused ({reply.code}): it has a user and a password of its own; give them as "
            "?sentinel_username= and sentinel_password= in the URL (those before the @ are for the master)"
        )
    if reply.code == "NOPERM":
        return "a sentinel refused (NOPERM): its user lacks the right +sentinel|masters"
    if "unknown command" in reply.text.lower():
        return (
            "what listens there is no sentinel; sentinels usually have port 26379, and for a server without sentinels "
            "write redis://"
        )
    return f"a sentinel refused ({reply}); look at it"


def _reason_of(exc: BaseException, *, by_tls: bool, shaking_hands: bool) -> str:
    """Return why no connection could be opened, and what to do; nothing if the error itself says enough."""
    for cause in causes(exc, contexts=True):
        said = words_of(cause)
        if isinstance(cause, ssl.SSLError):
            advice = next((advice for word, advice in _TLS_ADVICE.items() if word in said), "look at its TLS settings")
            return f"no TLS connection could be opened ({said}); {advice}"
        if "Protocol error" in said:
            # The first byte that a server sends by TLS, of an alert, is 0x15.
            return (
                "the server speaks TLS: write rediss, not redis, in the URL"
                if r"\x15" in str(cause) or "\x15" in str(cause)
                else "what listens there is no Redis server; correct the host and the port"
            )
        if by_tls and isinstance(cause, FileNotFoundError | PermissionError):
            return f"a file of ssl_ca_certs, ssl_certfile or ssl_keyfile cannot be read ({said}); correct its path"
        if by_tls and shaking_hands and isinstance(cause, TimeoutError | redis_errors.TimeoutError):
            said = "no TLS connection could be opened in time; look at the server, its address and the network"
            return said + _IF_NO_TLS
        if isinstance(cause, ConnectionResetError) or "closed by server" in said:
            advice = _WANTS_CERTIFICATE if by_tls else "if it speaks TLS, write rediss, not redis, in the URL"
            return f"the server closed the connection at its first command; look at its log; {advice}"
    return (
        "" if isinstance(exc, (OSError, *CLIENT_ERRORS)) else _FROM_WITHIN.format(f"failed with {type(exc).__name__}")
    )
