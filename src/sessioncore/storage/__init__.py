"""Where records live: the contract, and the embedded storages.

`sessioncore.storage.redis`, `.postgres` and `.keyvalue` are imported by name, so
that nobody pays for a driver that is not used.
"""

from sessioncore._errors import KeyTaken
from sessioncore._storage_protocol import Storage, Stored
from sessioncore.storage._url import storage_from_url
from sessioncore.storage.memory._storage import MemoryStorage
from sessioncore.storage.sqlite._storage import SQLiteStorage

__all__ = ["KeyTaken", "MemoryStorage", "SQLiteStorage", "Storage", "Stored", "storage_from_url"]
