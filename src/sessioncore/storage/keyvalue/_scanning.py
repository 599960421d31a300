"""Lists the records of a key-value store. Only some stores list their keys; only over these `Scans` is declared."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from functools import cache, partial
from typing import Any

from sessioncore._batched import batched
from sessioncore._errors import StorageError
from sessioncore._storage_calls import Stored
from sessioncore._storage_capabilities import Scans
from sessioncore._storage_protocol import PROBE_SUFFIX
from sessioncore.concurrency._gather import gather
from sessioncore.storage.keyvalue._calls import LISTING
from sessioncore.storage.keyvalue._record import key_of

__all__ = ["scan", "scanning", "session_keys"]

_BATCH = 500


def session_keys(names: Iterable[str], prefix: str) -> list[str]:
    """Return the keys of records, from the names of the store's keys, that begin with `prefix`; no probe of `check`."""
    return [key for key in map(key_of, names) if key.startswith(prefix) and not key.endswith(PROBE_SUFFIX)]


@cache
def scanning(kind: type) -> Any:
    """Return a class that is `kind` and declares `Scans`: capabilities belong to a class, not to an object."""
    declared: Any = kind
    return type(kind.__name__, (kind,), {"capabilities": declared.capabilities | {Scans}})


async def scan(
    prefix: str, list_names: Callable[[], Awaitable[list[str]]], load: Callable[[str], Awaitable[object]]
) -> AsyncGenerator[list[str]]:
    """Yield the keys of live records that begin with `prefix`."""
    names = await list_names()
    if len(names) >= LISTING:
        raise StorageError(f"the key-value store lists {LISTING} keys at most, and there may be more")
    keys = session_keys(names, prefix)
    for some in batched(keys, _BATCH):
        loaded = await gather([partial(load, key) for key in some])
        yield [key for key, answer in zip(some, loaded, strict=True) if isinstance(answer, Stored)]
