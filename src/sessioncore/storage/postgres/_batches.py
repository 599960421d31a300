"""Work on many records, in batches: between two of them other callers get their turn."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from sessioncore._storage_capabilities import SCANNED_AT_ONCE
from sessioncore._storage_protocol import PROBE_SUFFIX
from sessioncore.storage._text import keys_of
from sessioncore.storage.postgres._sql import Statements, prefix_range
from sessioncore.storage.postgres._statements import Rows

__all__ = ["clear", "purge", "scan"]

_logger = logging.getLogger("sessioncore.storage.postgres")

_BATCH: Final = 1000


async def clear(sql: Statements, prefix: str, run: Callable[..., Awaitable[Rows]]) -> int:
    """End every record whose key begins with `prefix`; return how many were live."""
    low, high = prefix_range(prefix)
    live, ended = 0, _BATCH
    # A batch is a little short if records were moved while it ran: that is not the end yet.
    while ended >= _BATCH // 2:
        (row,) = await run(sql.clear_batch, low, high, _BATCH)
        live, ended = live + int(row["live"]), int(row["ended"])
        _logger.debug("clear: %d sessions ended so far", live)
    tombstones = 1
    while tombstones:
        (row,) = await run(sql.clear_rest, low, high)
        live, tombstones = live + int(row["live"]), int(row["tombstones"])
    return live


async def scan(sql: Statements, prefix: str, run: Callable[..., Awaitable[Rows]]) -> AsyncGenerator[list[str]]:
    """Yield the keys of live records that begin with `prefix`; each statement begins where the one before it ended."""
    low, high = prefix_range(prefix)
    while True:
        rows = await run(sql.scan, low, high, SCANNED_AT_ONCE)
        keys = keys_of(row["key"] for row in rows if row["live"])
        yield [key for key in keys if not key.endswith(PROBE_SUFFIX)]
        if len(rows) < SCANNED_AT_ONCE:
            return
        low = rows[-1]["key"] + b"\0"  # the key that sorts next


async def purge(sql: Statements, run: Callable[..., Awaitable[Rows]]) -> int:
    """Remove expired records; return how many."""
    purged, seen = 0, _BATCH
    while seen == _BATCH:
        (row,) = await run(sql.purge_batch, _BATCH)
        seen = int(row["seen"])
        purged += int(row["ended"])
        _logger.debug("purge: %d expired sessions removed so far", purged)
    return purged
