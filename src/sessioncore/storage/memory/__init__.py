"""Records in this process, as a table; see `MemoryStorage`."""

from sessioncore.storage.memory._storage import MemoryStorage

__all__ = ["MemoryStorage"]
