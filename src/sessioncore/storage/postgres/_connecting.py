"""Makes the new connections of a pool, for requests that may be cancelled meanwhile."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit
from weakref import WeakSet

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no py.typed # pyright: ignore[reportMissingTypeStubs]

from sessioncore.concurrency._forks import in_each_child, part_with_socket
from sessioncore.concurrency._standstill import time_limit

__all__ = ["connect", "target_of"]


class _Connections:
    """Those of this process."""

    def __init__(self) -> None:
        self.open = WeakSet[Any]()

    def after_fork(self) -> None:
        """In a child process: leave them to the parent."""
        for connection in self.open:
            if (transport := connection._transport) is not None:  # noqa: SLF001 - asyncpg has no public way to it
                part_with_socket(transport)


_connections = _Connections()
in_each_child(_connections)


async def connect(*args: Any, timeout: float, **options: Any) -> Any:  # noqa: ASYNC109 - asyncpg's own name
    """Connect within `timeout` seconds; if the caller is cancelled, the attempt goes on, and its connection is closed.

    A cancelled `asyncpg.connect` may leave a future behind whose exception is logged. No other call uses the
    connection: the attempt may have begun before the server came back.
    """
    attempt = asyncio.ensure_future(_connect_within(timeout, args, options))
    try:
        await asyncio.wait([attempt])  # `shield` would log what fails after the caller was cancelled, on Python 3.14.5
    except asyncio.CancelledError:
        attempt.add_done_callback(_close)
        raise
    connection = attempt.result()
    _connections.open.add(connection)
    return connection


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
