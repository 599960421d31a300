"""Records in any store of py-key-value; see `KeyValueStorage`."""

from sessioncore.storage.keyvalue._protocol import KeyValueStore
from sessioncore.storage.keyvalue._storage import KeyValueStorage

__all__ = ["KeyValueStorage", "KeyValueStore"]
