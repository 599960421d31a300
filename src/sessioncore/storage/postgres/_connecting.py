"""Makes the new connections of a pool, for requests that may be cancelled meanwhile."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no py.typed # pyright: ignore[reportMissingTypeStubs]

from sessioncore.concurrency._forks import in_each_child, part_with_socket
from sessioncore.concurrency._standstill import time_limit
from sessioncore.storage._backoff import Backoff
from sessioncore.storage._first_success import first_success
from sessioncore.storage.postgres._errors import FAILURES, storage_error

__all__ = ["Connector", "hosts_of"]

_TCP_OPTIONS: Final = {
    # Seconds, and a number of probes. Some firewalls and load balancers forget a connection that was idle for four
    # minutes, and tell neither side: the next statement would wait for its reply in vain.
    "TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3,
    # Milliseconds. No probes are sent while sent bytes are not acknowledged, as when a connection to a machine that is
    # off is closed: the socket would stay open for a quarter of an hour.
    "TCP_USER_TIMEOUT": 90_000,
}  # fmt: skip

_MAX_FAILURES: Final = 3  # in a row before the next attempt has to wait: fewer may be accidents
_Host: TypeAlias = dict[str, str | int]  # options of asyncpg


class Connector:
    """Makes the connections of one pool. After some failed attempts in a row there is a pause before each further one.

    During a pause, calls that need a new connection fail with the last error. An attempt costs a server a process and
    a login, and one that starts, or is about to become the primary, should not have to spend them on each request.
    """

    __slots__ = ("_backoff", "_failure", "_failures", "_last_host")

    def __init__(self) -> None:
        self._backoff = Backoff(monotonic)
        self._failures = 0  # in a row
        self._failure: Exception | None = None  # of the last attempt; None: the next one may begin immediately
        self._last_host: _Host | None = None  # that has accepted a connection; None: none has yet

    async def __call__(self, *args: Any, timeout: float, **options: Any) -> Any:  # noqa: ASYNC109 - asyncpg's own name
        """Connect within `timeout` seconds; a cancelled caller's attempt goes on, and its connection is closed.

        A cancelled `asyncpg.connect` may leave a future behind whose exception is logged. No other call uses the
        connection: the attempt may have begun before the server came back.

        Raises:
            StorageError: the server did not accept the connection. asyncpg's error is its cause, and is not raised
                itself: the traceback would keep a request alive.
        """
        if self._failure is not None:
            if self._backoff.time_left():
                raise storage_error(self._failure) from self._failure
            self._backoff.failed()  # unless this attempt succeeds, the next one has to wait, too
        attempt = asyncio.ensure_future(self._connect_to_any(timeout, args, options))
        attempt.add_done_callback(self._note)
        try:
            # `shield` would log what fails after the caller was cancelled, on Python 3.14.5.
            await asyncio.wait([attempt])
        except asyncio.CancelledError:
            attempt.add_done_callback(_close)
            raise
        if (failure := _failure_of(attempt)) is not None:
            raise storage_error(failure) from failure
        connection = attempt.result()
        in_each_child(connection, _leave_to_parent)
        with suppress(OSError):  # it is broken already, as the first statement will find out
            _keep_alive(connection)
        return connection

    async def _connect_to_any(self, seconds: float, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Connect to the first host that accepts it, beginning with the last one that did.

        asyncpg tries one host after the other, and would spend all of its time on a machine that is off.
        """
        made: dict[Any, _Host] = {}

        async def connect_to(host: _Host) -> Any:
            connection = await _connect_within(seconds, args, options | host)
            made[connection] = host
            return connection

        hosts = sorted(hosts_of(args[0]), key=lambda host: host != self._last_host)
        calls = [partial(connect_to, host) for host in hosts]
        connection = await first_success(calls, tells=_tells_of_trouble, leave=_leave)
        self._last_host = made[connection]
        return connection

    def _note(self, attempt: asyncio.Future[Any]) -> None:
        if (failure := _failure_of(attempt)) is None:
            self._failure, self._failures = None, 0
            self._backoff.succeeded()
        elif not isinstance(failure, TimeoutError):  # the core makes fewer calls after timeouts
            self._failures += 1
            if self._failures >= _MAX_FAILURES:
                self._failure = failure


def _failure_of(attempt: asyncio.Future[Any]) -> Exception | None:
    """Return why there is no connection; None if there is one, or if the attempt says nothing about the server."""
    failure = None if attempt.cancelled() else attempt.exception()
    if isinstance(failure, FAILURES) and not isinstance(failure, asyncpg.ClientConfigurationError):
        return failure
    return None


def _tells_of_trouble(failure: BaseException) -> bool:
    return not isinstance(failure, asyncpg.TargetServerAttributeNotMatched)  # which a healthy standby causes, too


async def _leave(*attempts: asyncio.Future[Any]) -> None:
    """Let these attempts go on, and close their connections."""
    for attempt in attempts:
        attempt.add_done_callback(_close)


def _leave_to_parent(connection: Any) -> None:
    if (transport := connection._transport) is not None:  # noqa: SLF001 - asyncpg has no public way to it
        part_with_socket(transport)


def _keep_alive(connection: Any) -> None:
    """Have the system send something now and then on an idle connection, unless it is a Unix socket."""
    transport = connection._transport  # noqa: SLF001 - asyncpg has no public way to it
    connected = None if transport is None else transport.get_extra_info("socket")
    if connected is not None and connected.family in {socket.AF_INET, socket.AF_INET6}:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _TCP_OPTIONS.items():
            if (option := getattr(socket, name, None)) is not None:  # not on every system
                connected.setsockopt(socket.IPPROTO_TCP, option, value)


def hosts_of(dsn: str) -> list[_Host]:
    """Return for each host of a DSN the options that lead to it alone.

    Of several hosts, only one that takes writes will do, unless the DSN says otherwise: asyncpg would take the first
    that answers, even if it is a standby.
    """
    parts = urlsplit(dsn)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    named = parts.netloc.rpartition("@")[2]
    texts = (named or options.get("host") or os.environ.get("PGHOST", "")).split(",")
    ports = ("" if named else options.get("port", "")) or os.environ.get("PGPORT") or "5432"
    target = options.get("target_session_attrs") or os.environ.get("PGTARGETSESSIONATTRS") or "read-write"
    if len(texts) == 1 or target == "prefer-standby":  # which needs an answer of every host
        return [{}]
    defaults = ports.split(",") if "," in ports else [ports] * len(texts)
    decode = unquote if named else str
    try:
        hosts = [_address(text, default) for text, default in zip(texts, defaults, strict=True)]
    except ValueError:  # asyncpg says what is wrong
        return [{}]
    return [{"host": decode(host), "port": port, "target_session_attrs": target} for host, port in hosts]


def _address(text: str, default_port: str) -> tuple[str, int]:
    host, port = text, ""
    if text.startswith("["):  # an IPv6 address
        host, _, port = text[1:].partition("]")
    elif not text.startswith("/"):  # the folder of a socket
        host, _, port = text.partition(":")
    return host, int(port.removeprefix(":") or default_port)


async def _connect_within(seconds: float, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    async with time_limit(seconds):
        return await _connect(*args, timeout=None, **options)


def _close(attempt: asyncio.Future[Any]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().terminate()


_connect: Callable[..., Awaitable[Any]] = getattr(asyncpg, "connect")  # noqa: B009 - asyncpg ships no types
