"""Records in a PostgreSQL table; see `PostgresStorage`."""

from sessioncore.storage.postgres._storage import PostgresStorage

__all__ = ["PostgresStorage"]
