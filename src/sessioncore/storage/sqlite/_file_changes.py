"""Notices changes of watched records by what the file says of itself, and then by their versions."""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sessioncore._batched import batched
from sessioncore._storage_calls import Moved, Stored, Unreadable
from sessioncore._watchers import Watchers
from sessioncore.storage.sqlite._records import BATCH, Records

__all__ = ["FileChanges"]


class FileChanges:
    """Tells who watches a record of one file that it has changed, by whatever connection and process."""

    __slots__ = ("_newest", "_records", "_told", "watchers")

    def __init__(self, records: Records) -> None:
        self.watchers = Watchers()
        self._records = records
        self._newest = object()  # another one after each watch that begins
        self._told: tuple[object, ...] = ()  # the state of the file and the watches when all changes had been told

    def note_answers(self, keys: Sequence[str], answers: Sequence[Stored | Moved | Unreadable | None]) -> None:
        """Note what the keys hold, which their watchers have just been told."""
        self.watchers.note_answers(keys, answers)
        self._newest = object()  # the file may have changed since it was read, and a `confirm` have seen that already

    async def confirm(self, read: Callable[..., Awaitable[Any]]) -> None:
        """Tell what has changed; `read` runs a function with the connection that reads, and with further arguments.

        The state of the file is read before the records, so what is committed in between is noticed the next time.
        """
        keys = self.watchers.keys
        if not keys:
            return
        newest = self._newest
        state = (*await read(_state_of), newest)
        if state == self._told:
            return
        for some in batched(keys, BATCH):
            self.watchers.compare(some, await read(self._records.held, some))
        self._told = state  # only now: a call that fails or is cancelled has told a part at most


def _state_of(connection: sqlite3.Connection) -> tuple[object, int]:
    """Return what is different after another connection has committed, ours for writing among them."""
    # The number means something on one connection only; a file that was closed and opened again has another one.
    return connection, connection.execute("PRAGMA data_version").fetchone()[0]
