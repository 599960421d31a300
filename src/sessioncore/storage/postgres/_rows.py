"""What the rows of a statement's result mean to a storage call."""

from sessioncore._storage_calls import Moved, Stored, Unreadable, Written
from sessioncore.storage._text import moved_to
from sessioncore.storage.postgres._statements import Rows

__all__ = ["found", "written"]


def written(rows: Rows, new: int) -> Written:
    """Return the new version if the write took place, else what the key holds."""
    return new if rows and rows[0]["version"] == new else found(rows)


def found(rows: Rows) -> Stored | Moved | Unreadable | None:
    """Return what the key holds."""
    if not rows:
        return None
    row = rows[0]
    if row["moved_to"] is not None:
        return moved_to(row["moved_to"])
    if row["ttl"] is None:  # it never ends, so this storage did not write it
        return Unreadable()
    return Stored(row["data"], row["version"], row["ttl"])
