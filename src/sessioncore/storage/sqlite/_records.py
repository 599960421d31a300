"""What each call does to the table of records: statements on one connection, inside a transaction of the caller."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence

from sessioncore._errors import KeyTaken
from sessioncore._storage_calls import Moved, Stored, Unreadable, Written
from sessioncore._storage_protocol import PROBE_SUFFIX
from sessioncore._watchers import Held, held_of
from sessioncore.storage._text import keys_of, moved_to
from sessioncore.storage._versions import random_version

__all__ = ["BATCH", "Records"]

BATCH = 500  # rows removed in one transaction, or read in one query: between two of them others get their turn

# SQLite lets other programs store any type in any column, and an infinite end: such a row is Unreadable and stays.
# A row with `moved_to` is a tombstone: the key that the record has now, and no data. It is read as bytes, because
# fetching text that is not UTF-8 fails.
_TARGET = "iif(typeof(moved_to) = 'text', CAST(moved_to AS BLOB), NULL)"
_OURS = """typeof(data) = 'blob' AND typeof(version) = 'integer' AND typeof(ends) = 'real' AND ends < 9e999
    AND moved_to IS NULL"""
# NULL instead of values that are not ours.
_LOAD = """SELECT iif(%ours%, data, NULL), iif(%ours%, version, NULL), iif(%ours%, ends, NULL), %target%
    FROM records WHERE key = ? AND ends > ?""".replace("%ours%", _OURS).replace("%target%", _TARGET)
_TOUCH = "UPDATE records SET ends = ? WHERE key = ? AND ends > ? AND %ours%".replace("%ours%", _OURS)
_RENEW = f"{_TOUCH} RETURNING data, version"
_CREATE = """INSERT INTO records (key, data, version, ends, owner) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE
    SET data = excluded.data, version = excluded.version, ends = excluded.ends, owner = excluded.owner, moved_to = NULL
    WHERE records.ends <= ?"""
_REPLACE = """UPDATE records SET data = ?, version = ?, ends = ?, owner = ?
    WHERE key = ? AND version = ? AND ends > ? AND %ours%""".replace("%ours%", _OURS)
_MOVE = "UPDATE OR IGNORE records SET key = ?, data = ?, version = ?, ends = ?, owner = ? WHERE key = ?"
_MAKE_ROOM = "DELETE FROM records WHERE key = ? AND ends <= ?"
# Its data is text: for a release that knows no tombstones it is Unreadable.
_BURY = "INSERT INTO records (key, data, version, ends, moved_to) VALUES (?, '', ?, ?, ?)"
# Expired rows are removed as well: if the clock were set back, they would be live again. RETURNING has no
# `moved_to IS NULL`, which SQLite 3.40 takes for false there.
_DELETE = "DELETE FROM records WHERE key = ? RETURNING ends > ?, CAST(moved_to AS BLOB)"
_CLEAR = """DELETE FROM records WHERE rowid IN
    (SELECT rowid FROM records WHERE key >= ? AND key < ? AND substr(key, ?) <> ? LIMIT ?)
    RETURNING ends > ?, typeof(moved_to)"""
_SCAN = """SELECT CAST(key AS BLOB), %ours% AND ends > ? AND substr(key, ?) <> ? FROM records
    WHERE key >= CAST(? AS TEXT) AND key < ? ORDER BY key LIMIT ?""".replace("%ours%", _OURS)
_OWNED = "SELECT CAST(key AS BLOB) FROM records WHERE owner = ? AND ends > ? AND typeof(key) = 'text'"
_PURGE = """DELETE FROM records WHERE rowid IN (SELECT rowid FROM records WHERE ends <= ? LIMIT ?)
    RETURNING typeof(moved_to)"""
_HELD = """SELECT key, iif(%ours%, version, NULL), %target% FROM records
    WHERE ends > ? AND key IN (%keys%)""".replace("%ours%", _OURS).replace("%target%", _TARGET)
_CHECK = "SELECT key, data, version, ends, owner, moved_to FROM records LIMIT 1"


class Records:
    """The calls of `SQLiteStorage`, without waiting and without transactions; `Storage` says what they promise."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def load(self, connection: sqlite3.Connection, key: str) -> Stored | Moved | Unreadable | None:
        now = self._clock()
        row = connection.execute(_LOAD, (key, now)).fetchone()
        if row is None:
            return None
        data, version, ends, target = row
        if target is not None:
            return moved_to(target)
        return Unreadable() if data is None else Stored(data, version, ends - now)

    def renew(self, connection: sqlite3.Connection, key: str, ttl: float) -> Stored | Moved | Unreadable | None:
        """Set the ttl, and return the live record, or None."""
        now = self._clock()
        rows = connection.execute(_RENEW, (now + ttl, key, now)).fetchall()
        return Stored(rows[0][0], rows[0][1], ttl) if rows else self.load(connection, key)

    def create(
        self, connection: sqlite3.Connection, key: str, data: bytes, ttl: float, owner: str | None
    ) -> int | None:
        now, version = self._clock(), random_version()
        made = connection.execute(_CREATE, (key, data, version, now + ttl, owner, now)).rowcount
        return version if made else None

    def replace(
        self, connection: sqlite3.Connection, key: str, data: bytes, ttl: float, *, version: int, owner: str | None
    ) -> Written:
        now, new = self._clock(), random_version()
        values = (data, new, now + ttl, owner, key, version, now)
        return new if connection.execute(_REPLACE, values).rowcount else self.load(connection, key)

    def move(
        self,
        connection: sqlite3.Connection,
        key: str,
        new_key: str,
        data: bytes,
        ttl: float,
        *,
        version: int,
        owner: str | None,
        tombstone: float,
    ) -> Written | KeyTaken:
        """Return KeyTaken instead of raising it: an exception would roll back the other calls of the transaction."""
        current = self.load(connection, key)
        if not isinstance(current, Stored) or current.version != version:
            return current
        now, new = self._clock(), random_version()
        connection.execute(_MAKE_ROOM, (new_key, now))
        values = (new_key, data, new, now + ttl, owner, key)
        if new_key == key or not connection.execute(_MOVE, values).rowcount:
            return KeyTaken()
        if tombstone > 0:
            connection.execute(_BURY, (key, random_version(), now + tombstone, new_key))
        return new

    def touch(self, connection: sqlite3.Connection, key: str, ttl: float) -> bool:
        now = self._clock()
        return connection.execute(_TOUCH, (now + ttl, key, now)).rowcount > 0

    def delete(self, connection: sqlite3.Connection, keys: Iterable[str]) -> int:
        now, ended, left = self._clock(), 0, list(keys)
        while left:
            for live, target in connection.execute(_DELETE, (left.pop(), now)).fetchall():
                if live and target is not None and isinstance(tombstone := moved_to(target), Moved):
                    left.append(tombstone.key)
                else:
                    ended += live
        return ended

    def clear_batch(self, connection: sqlite3.Connection, prefix: str) -> tuple[int, int]:
        """Remove up to BATCH rows whose keys begin with `prefix`; return how many, and how many records were live."""
        values = (prefix, _after(prefix), -len(PROBE_SUFFIX), PROBE_SUFFIX, BATCH, self._clock())
        rows = connection.execute(_CLEAR, values).fetchall()
        return len(rows), sum(live for live, kind in rows if kind == "null")

    def scan_batch(self, connection: sqlite3.Connection, prefix: str, start: bytes) -> tuple[list[str], bytes | None]:
        """Look at up to BATCH rows from the key `start` on; return the keys of live records, and where to go on."""
        values = (self._clock(), -len(PROBE_SUFFIX), PROBE_SUFFIX, start, _after(prefix), BATCH)
        rows = connection.execute(_SCAN, values).fetchall()
        following = rows[-1][0] + b"\0" if len(rows) == BATCH else None  # nothing sorts between a text and this one
        return keys_of(key for key, live in rows if live), following

    def owned_keys(self, connection: sqlite3.Connection, owner: str) -> list[str]:
        return keys_of(key for (key,) in connection.execute(_OWNED, (owner, self._clock())))

    def purge_batch(self, connection: sqlite3.Connection) -> tuple[int, int]:
        """Remove up to BATCH rows that have expired; return how many, and how many of them were records."""
        rows = connection.execute(_PURGE, (self._clock(), BATCH)).fetchall()
        return len(rows), sum(kind == "null" for (kind,) in rows)

    def held(self, connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Held]:
        """Return what up to BATCH keys hold, without their data."""
        sql = _HELD.replace("%keys%", ",".join("?" * len(keys)))
        rows = connection.execute(sql, (self._clock(), *keys))
        return {key: version if target is None else held_of(moved_to(target)) for key, version, target in rows}

    def check(self, connection: sqlite3.Connection) -> None:
        """Read from the table."""
        connection.execute(_CHECK).fetchall()


def _after(prefix: str) -> str | bytes:
    """Return the first value that sorts after all texts that begin with `prefix`: a text, or a BLOB.

    SQLite compares text by its UTF-8 bytes, which sort as the code points do.
    """
    for position in range(len(prefix) - 1, -1, -1):
        point = ord(prefix[position]) + 1
        if point <= 0x10FFFF:
            return prefix[:position] + chr(0xE000 if point == 0xD800 else point)  # no surrogates in UTF-8
    return b""  # SQLite sorts every BLOB after every text
