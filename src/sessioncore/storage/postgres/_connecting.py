"""Makes the new connections of a pool, for requests that may be cancelled meanwhile."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no py.typed # pyright: ignore[reportMissingTypeStubs]

from sessioncore.concurrency._forks import in_each_child, part_with_socket
from sessioncore.concurrency._standstill import time_limit
from sessioncore.storage._backoff import Backoff
from sessioncore.storage.postgres._errors import FAILURES, storage_error

__all__ = ["Connector", "target_of"]

# Seconds, and a number of probes. Some firewalls and load balancers forget a connection that was idle for four
# minutes, and tell neither side: the next statement would wait for its reply in vain.
_KEEPALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}

_MAX_FAILURES: Final = 3  # in a row before the next attempt has to wait: fewer may be accidents


class Connector:
    """Makes the connections of one pool. After some failed attempts in a row there is a pause before each further one.

    During a pause, calls that need a new connection fail with the last error. An attempt costs a server a process and
    a login, and one that starts, or is about to become the primary, should not have to spend them on each request.
    """

    __slots__ = ("_backoff", "_failure", "_failures")

    def __init__(self) -> None:
        self._backoff = Backoff(monotonic)
        self._failures = 0  # in a row
        self._failure: Exception | None = None  # of the last attempt; None: the next one may begin immediately

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
        attempt = asyncio.ensure_future(_connect_within(timeout, args, options))
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


def _leave_to_parent(connection: Any) -> None:
    if (transport := connection._transport) is not None:  # noqa: SLF001 - asyncpg has no public way to it
        part_with_socket(transport)


def _keep_alive(connection: Any) -> None:
    """Have the system send something now and then on an idle connection, unless it is a Unix socket."""
    transport = connection._transport  # noqa: SLF001 - asyncpg has no public way to it
    connected = None if transport is None else transport.get_extra_info("socket")
    if connected is not None and connected.family in {socket.AF_INET, socket.AF_INET6}:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if (option := getattr(socket, name, None)) is not None:  # not on every system
                connected.setsockopt(socket.IPPROTO_TCP, option, value)


def target_of(dsn: str) -> dict[str, str]:
    """Return the option by which a DSN of several hosts leads to the one that takes writes, unless it is set already.

    Without it asyncpg would take the first host that answers, even if it is a standby.
    """
    parts = urlsplit(dsn)
    options = parse_qs(parts.query)
    hosts = parts.netloc.rpartition("@")[2] or options.get("host", [os.environ.get("PGHOST", "")])[-1]
    if "," in hosts and "target_session_attrs" not in options and "PGTARGETSESSIONATTRS" not in os.environ:
        return {"target_session_attrs": "read-write"}
    return {}


async def _connect_within(seconds: float, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    async with time_limit(seconds):
        return await _connect(*args, timeout=None, **options)


def _close(attempt: asyncio.Future[Any]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().terminate()


_connect: Callable[..., Awaitable[Any]] = getattr(asyncpg, "connect")  # noqa: B009 - asyncpg ships no types
