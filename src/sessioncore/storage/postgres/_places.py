"""Lends the connections of a pool. While the server accepts no more of them, calls share those that are open."""

import asyncio
import logging
import math
from typing import Any, Final

from sessioncore._causes import is_file_limit_reached
from sessioncore._errors import StorageUnavailable
from sessioncore.storage.postgres._errors import FAILURES, sqlstate, storage_error
from sessioncore.storage.postgres._pool import Pool

__all__ = ["Places"]

_logger = logging.getLogger("sessioncore.storage.postgres")

_FAILURES: Final[tuple[type[Exception], ...]] = (StorageUnavailable, *FAILURES)  # of a pool of ours, of a given one
_REST: Final = 0.5  # seconds until a place that got no connection is used again
_QUIET: Final = 60.0  # seconds between two warnings


class Places:
    """The places of a pool, each for one connection. While the server refuses one to a place, its call takes another.

    Otherwise calls would fail although an open connection is idle, or would be in a moment: the limit of a server or a
    role may be lower than the size of the pool, and a password may have been changed.
    """

    __slots__ = ("_free", "_pool", "_warned_at")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
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
                return await self._pool.acquire()
            except _FAILURES as exc:
                if not (self._pool.get_size() and _is_refusal(exc)):
                    self.free()
                    raise
                asyncio.get_running_loop().call_later(_REST, self.free)
                self._warn(exc)
                self._lend_open_ones_first()
            except BaseException:
                self.free()
                raise

    def free(self) -> None:
        """Let another call use a place."""
        self._free.release()

    def _lend_open_ones_first(self) -> None:
        """Move the places without a connection behind the others; asyncpg lends the one that was used last."""
        # asyncpg has no public way to them; it takes the last one of the list.
        holders: Any = getattr(getattr(self._pool, "_queue", None), "_queue", None)
        if holders:
            holders.sort(key=_is_open)

    def _warn(self, exc: Exception) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._warned_at >= _QUIET:
            self._warned_at = now
            _logger.warning(
                "no new connection to PostgreSQL can be made, so calls share those that are open: %s",
                exc if isinstance(exc, StorageUnavailable) else storage_error(exc),
            )


def _is_open(holder: Any) -> bool:
    return bool(holder.is_connected())


def _is_refusal(exc: Exception) -> bool:
    """Return whether the server has answered, or this process may open no more connections: the open ones work."""
    cause = exc.__cause__ if isinstance(exc, StorageUnavailable) else exc
    return sqlstate(cause) is not None or is_file_limit_reached(exc)
