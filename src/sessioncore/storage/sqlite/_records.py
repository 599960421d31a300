"""What each call does to the table of records: statements on one connection, inside a transaction of the caller."""

import sqlite3
from collections.abc import Callable
from random import SystemRandom

from sessioncore._errors import KeyTaken
from sessioncore._storage_protocol import PROBE_SUFFIX, Stored, Unreadable, Written

__all__ = ["BATCH", "Records"]

BATCH = 500  # rows removed in one transaction: between two of them other writers get their turn
_new_version = SystemRandom().getrandbits  # from the system: forked processes must not draw alike

# SQLite lets other programs store any type in any column, and an infinite end: such a row is Unreadable and stays.
_OURS = "typeof(data) = 'blob' AND typeof(version) = 'integer' AND typeof(ends) = 'real' AND ends < 9e999"
# NULL instead of values that are not ours: fetching text that is not UTF-8 would fail.
_LOAD = """SELECT iif(%ours%, data, NULL), iif(%ours%, version, NULL), iif(%ours%, ends, NULL)
    FROM records WHERE key = ? AND ends > ?""".replace("%ours%", _OURS)
_TOUCH = "UPDATE records SET ends = ? WHERE key = ? AND ends > ? AND %ours%".replace("%ours%", _OURS)
_RENEW = f"{_TOUCH} RETURNING data, version"
_CREATE = """INSERT INTO records (key, data, version, ends, owner) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (key) DO UPDATE
    SET data = excluded.data, version = excluded.version, ends = excluded.ends, owner = excluded.owner
    WHERE records.ends <= ?"""
_REPLACE = """UPDATE records SET data = ?, version = ?, ends = ?, owner = ?
    WHERE key = ? AND version = ? AND ends > ? AND %ours%""".replace("%ours%", _OURS)
_MOVE = "UPDATE OR IGNORE records SET key = ?, data = ?, version = ?, ends = ?, owner = ? WHERE key = ?"
_MAKE_ROOM = "DELETE FROM records WHERE key = ? AND ends <= ?"
# Expired rows are removed as well: if the clock were set back, they would be live again.
_DELETE = "DELETE FROM records WHERE key = ? RETURNING ends > ?"
_CLEAR = """DELETE FROM records WHERE rowid IN
    (SELECT rowid FROM records WHERE key >= ? AND (? IS NULL OR key < ?) AND substr(key, ?) <> ? LIMIT ?)
    RETURNING ends > ?"""
_OWNED = "SELECT key FROM records WHERE owner = ? AND ends > ?"
_PURGE = "DELETE FROM records WHERE rowid IN (SELECT rowid FROM records WHERE ends <= ? LIMIT ?)"
_CHECK = "SELECT 1 FROM records LIMIT 1"


class Records:
    """The calls of `SQLiteStorage`, without waiting and without transactions."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    def load(self, connection: sqlite3.Connection, key: str) -> Stored | Unreadable | None:
        """Return the live record at `key`, or None."""
        now = self._clock()
        row = connection.execute(_LOAD, (key, now)).fetchone()
        if row is None:
            return None
        data, version, ends = row
        return Unreadable() if data is None else Stored(data, version, ends - now)

    def renew(self, connection: sqlite3.Connection, key: str, ttl: float) -> Stored | Unreadable | None:
        """Set the ttl, and return the live record, or None."""
        now = self._clock()
        rows = connection.execute(_RENEW, (now + ttl, key, now)).fetchall()
        return Stored(rows[0][0], rows[0][1], ttl) if rows else self.load(connection, key)

    def create(
        self, connection: sqlite3.Connection, key: str, data: bytes, ttl: float, owner: str | None
    ) -> int | None:
        """Store a new record and return its version, or None if the key is taken."""
        now, version = self._clock(), _new_version(63)
        made = connection.execute(_CREATE, (key, data, version, now + ttl, owner, now)).rowcount
        return version if made else None

    def replace(
        self, connection: sqlite3.Connection, key: str, data: bytes, ttl: float, *, version: int, owner: str | None
    ) -> Written:
        """Write if the record still has `version`; else return it as it is, or None if it is gone."""
        now, new = self._clock(), _new_version(63)
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
    ) -> Written | KeyTaken:
        """Do what `replace` does, and give the record a new key.

        KeyTaken is returned, not raised: an exception would roll back the other calls of the transaction.
        """
        current = self.load(connection, key)
        if not isinstance(current, Stored) or current.version != version:
            return current
        now, new = self._clock(), _new_version(63)
        connection.execute(_MAKE_ROOM, (new_key, now))
        values = (new_key, data, new, now + ttl, owner, key)
        if new_key == key or not connection.execute(_MOVE, values).rowcount:
            return KeyTaken("cannot move a record onto a key that is taken: choose a new key and try again")
        return new

    def touch(self, connection: sqlite3.Connection, key: str, ttl: float) -> bool:
        """Set the ttl of a live record; False if there is none."""
        now = self._clock()
        return connection.execute(_TOUCH, (now + ttl, key, now)).rowcount > 0

    def delete(self, connection: sqlite3.Connection, keys: tuple[str, ...]) -> int:
        """End these records; return how many were live."""
        now = self._clock()
        return sum(live for key in keys for (live,) in connection.execute(_DELETE, (key, now)).fetchall())

    def clear_batch(self, connection: sqlite3.Connection, prefix: str) -> list[bool]:
        """End up to BATCH records whose keys begin with `prefix`; return for each whether it was live."""
        end = _after(prefix)
        values = (prefix, end, end, -len(PROBE_SUFFIX), PROBE_SUFFIX, BATCH, self._clock())
        return [bool(live) for (live,) in connection.execute(_CLEAR, values).fetchall()]

    def owned_keys(self, connection: sqlite3.Connection, owner: str) -> list[str]:
        """Return the keys of the owner's live records."""
        return [key for (key,) in connection.execute(_OWNED, (owner, self._clock()))]

    def purge_batch(self, connection: sqlite3.Connection) -> int:
        """Remove up to BATCH records that have expired; return how many."""
        return connection.execute(_PURGE, (self._clock(), BATCH)).rowcount

    def check(self, connection: sqlite3.Connection) -> None:
        """Read from the table."""
        connection.execute(_CHECK).fetchall()


def _after(prefix: str) -> str | None:
    """Return the first text that sorts after all texts that begin with `prefix`, or None if there is none.

    SQLite compares text by its UTF-8 bytes, which sort as the code points do.
    """
    for position in range(len(prefix) - 1, -1, -1):
        point = ord(prefix[position]) + 1
        if point <= 0x10FFFF:
            return prefix[:position] + chr(0xE000 if point == 0xD800 else point)  # no surrogates in UTF-8
    return None
