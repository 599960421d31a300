"""Records in this process, as a table; see `MemoryStorage`."""

from sessioncore.storage.memory._storage import MemoryStorage
from sessioncore.storage.memory._workers import warn_in_workers

__all__ = ["MemoryStorage", "warn_in_workers"]
