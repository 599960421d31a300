"""Lends the connections of a pool. While no new one can be made, calls share those that are open."""

import asyncio
import logging
import math
import socket
import ssl
from typing import Any, Final

from sessioncore._causes import is_file_limit_reached
from sessioncore._errors import StorageUnavailable
from sessioncore.storage.postgres._errors import FAILURES, sqlstate, storage_error
from sessioncore.storage.postgres._pool import Pool

__all__ = ["Places"]

_logger = logging.getLogger("sessioncore.storage.postgres")

_FAILURES: Final[tuple[type[Exception], ...]] = (StorageUnavailable, *FAILURES)  # of a pool of ours, of a given one
_ONLY_OF_NEW_ONES: Final = (ssl.SSLError, FileNotFoundError, socket.gaierror)  # certificates and their files; DNS
_REST: Final = 0.5  # seconds until a place that got no connection is used again
_QUIET: Final = 60.0  # seconds between two warnings


class Places:
    """The places of a pool, each for one connection. A call whose place gets none waits for another place.

    Otherwise it would fail although an open connection would be free in a moment: the limit of a server or a role may
    be lower than the size of the pool, or its password may have been changed.
    """

    __slots__ = ("_free", "_warned_at", "pool")

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._free = asyncio.Semaphore(pool.get_max_size())
        self._warned_at = -math.inf

    async def acquire(self) -> Any:
        """Return a connection of the pool; call `free` when it was given back.

        Raises:
            StorageUnavailable, OSError, asyncpg's errors: there is none, and no other one is open.
        """
        while True:
            await self._free.acquire()
            try:
                return await self.pool.acquire()
            except _FAILURES as exc:
                if not (self.pool.get_size() and _others_work(exc)):
                    self.free()
                    raise
                asyncio.get_running_loop().call_later(_REST, self.free)
                self._warn(exc)
            except BaseException:
                self.free()
                raise

    def free(self) -> None:
        """Let another call use a place."""
        self._free.release()

    def _warn(self, exc: Exception) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._warned_at >= _QUIET:
            self._warned_at = now
            _logger.warning(
                "no new connection to PostgreSQL can be made, so calls share those that are open: %s",
                exc if isinstance(exc, StorageUnavailable) else storage_error(exc),
            )


def _others_work(exc: Exception) -> bool:
    """Return whether the open connections probably work: the server has answered, or was not even asked."""
    cause = exc.__cause__ if isinstance(exc, StorageUnavailable) else exc
    return sqlstate(cause) is not None or isinstance(cause, _ONLY_OF_NEW_ONES) or is_file_limit_reached(exc)
