"""Notices changes of watched records by comparing their versions, in one statement for all of them.

LISTEN would need a connection for each process, a lock at each commit, and a pooler that keeps sessions.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from sessioncore._batched import batched
from sessioncore._watchers import Held, Watchers, held_of
from sessioncore.storage._text import bytes_of, moved_to, text_of
from sessioncore.storage.postgres._sql import Statements
from sessioncore.storage.postgres._statements import Rows

__all__ = ["notice_changes"]

_BATCH: Final = 10_000  # keys in one statement


async def notice_changes(watchers: Watchers, sql: Statements, run: Callable[..., Awaitable[Rows]]) -> None:
    """Report what has changed; `run` executes a statement."""
    for some in batched(watchers.keys, _BATCH):
        rows = await run(sql.held, [bytes_of(key) for key in some])
        held: dict[str, Held] = {}
        for row in rows:
            target = row["moved_to"]
            held[text_of(row["key"])] = row["version"] if target is None else held_of(moved_to(target))
        watchers.compare(some, held)
