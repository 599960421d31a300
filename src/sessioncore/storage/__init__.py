"""The storage contract, and the embedded storages.

To write your own storage, begin with `Storage`, the seven calls that every storage has. List
whatever else it can do, such as closing connections (`Opens`) or finding the records of a prefix
(`Clears`), in the attribute `capabilities` of its class. Then run
`sessioncore.testing.STORAGE_CHECKS` over it.

`sessioncore.storage.redis`, `.postgres` and `.keyvalue` are imported by name, so that
drivers that are not used are not loaded.
"""

from sessioncore._errors import KeyTaken, WritesRefused
from sessioncore._storage_calls import (
    LATER,
    Call,
    Create,
    Delete,
    Later,
    Load,
    Move,
    Moved,
    Replace,
    Reply,
    Stored,
    Touch,
    Unreadable,
    Written,
)
from sessioncore._storage_capabilities import (
    AnswersNow,
    BoundsCalls,
    Clears,
    KeepsTombstones,
    LoadsMany,
    Opens,
    Purges,
    Scans,
    SpreadsKeys,
    Watches,
)
from sessioncore._storage_protocol import PROBE_SUFFIX, Storage, capabilities_of
from sessioncore.storage._url import storage_from_url
from sessioncore.storage.memory import MemoryStorage
from sessioncore.storage.sqlite import SQLiteStorage

__all__ = [
    "LATER", "PROBE_SUFFIX", "AnswersNow", "BoundsCalls", "Call", "Clears", "Create", "Delete", "KeepsTombstones",
    "KeyTaken", "Later", "Load", "LoadsMany", "MemoryStorage", "Move", "Moved", "Opens", "Purges", "Replace", "Reply",
    "SQLiteStorage", "Scans", "SpreadsKeys", "Storage", "Stored", "Touch", "Unreadable", "Watches", "WritesRefused",
    "Written", "capabilities_of", "storage_from_url",
]  # fmt: skip
