"""Notices changes of watched records by what the file says of itself, and then by their versions."""

import sqlite3

from sessioncore._watchers import ComparedWatchers, Held
from sessioncore.storage.sqlite._records import Records

__all__ = ["Watching"]


class Watching:
    """What is watched in one file, by all connections and processes that may change it."""

    __slots__ = ("_records", "_seen", "watchers")

    def __init__(self, records: Records) -> None:
        self.watchers = ComparedWatchers()
        self._records = records
        self._seen: tuple[sqlite3.Connection, int] | None = None

    def look(self, connection: sqlite3.Connection, keys: list[str]) -> dict[str, Held] | None:
        """Return what the keys hold, or None if no other connection has changed the file since the last time.

        The number of this pragma changes when another connection commits, ours for writing among them. It is
        read before the records, so what is committed in between is noticed the next time.
        """
        [number] = connection.execute("PRAGMA data_version").fetchone()
        if self._seen == (connection, number):
            return None
        held = self._records.held(connection, keys)
        self._seen = (connection, number)
        return held
