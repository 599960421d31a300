"""Notices changes of watched records: if the file has changed at all, it compares their versions."""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sessioncore._batched import batched
from sessioncore._storage_calls import Moved, Stored, Unreadable
from sessioncore._watchers import Watchers
from sessioncore.storage.sqlite._records import BATCH, Records

__all__ = ["FileChanges"]


class FileChanges(Watchers):
    """Reports changes of watched records in one file, by whatever connection and process."""

    __slots__ = ("_last_watch", "_records", "_reported")

    def __init__(self, records: Records) -> None:
        super().__init__()
        self._records = records
        self._last_watch = object()  # a new one whenever a watch begins
        self._reported: tuple[
            object, ...
        ] = ()  # the state of the file and `_last_watch` when all changes were reported

    def note_answers(self, keys: Sequence[str], answers: Sequence[Stored | Moved | Unreadable | None]) -> None:
        """Note what the keys hold, as it was just returned to their watchers."""
        super().note_answers(keys, answers)
        self._last_watch = object()  # else a `confirm` that has seen a change since the read would not look again

    async def confirm(self, read: Callable[..., Awaitable[Any]]) -> None:
        """Report what has changed; `read` runs a function with the connection that reads, and with further arguments.

        The state of the file is read before the records, so what is committed in between is noticed the next time.
        """
        last_watch = self._last_watch  # before the keys: a thread may begin to watch one more at this moment
        if not (keys := self.keys):
            return
        state = (*await read(_state_of), last_watch)
        if state == self._reported:
            return
        for some in batched(keys, BATCH):
            self.compare(some, await read(self._records.held, some))
        self._reported = state  # only now: a call that fails or is cancelled has reported a part at most


def _state_of(connection: sqlite3.Connection) -> tuple[object, int]:
    """Return what is different after another connection has committed, ours for writing among them."""
    # The number means something on one connection only; a file that was closed and opened again has another one.
    return connection, connection.execute("PRAGMA data_version").fetchone()[0]
