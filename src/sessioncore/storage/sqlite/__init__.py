"""Records in one SQLite file; see `SQLiteStorage`."""

from sessioncore.storage.sqlite._storage import SQLiteStorage

__all__ = ["SQLiteStorage"]
