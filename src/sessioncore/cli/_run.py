"""Running the work of a command against its storage."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import anyio
from anyio import CancelScope

from sessioncore._storage_capabilities import Opens, Scans
from sessioncore._storage_protocol import capability
from sessioncore._store import SessionStore
from sessioncore.cli._failures import UNREACHABLE, USAGE, Failure
from sessioncore.persistence._store_persistence import StorePersistence
from sessioncore.storage.memory import MemoryStorage
from sessioncore.storage.sqlite import SQLiteStorage

__all__ = ["check_place", "open_storage", "persistence_of", "run", "scan"]

T = TypeVar("T")


def run(store: SessionStore, work: Callable[[], Awaitable[T]], *, opened: bool = True) -> T:
    """Open the storage, unless `work` does that itself; do the work, and close the storage.

    Unlike `SessionStore.start`, this does not check the storage: looking at sessions must not need the right to write.
    """
    check_place(store)

    async def main() -> T:
        try:
            if opened:
                await open_storage(store)
            return await work()
        finally:
            with CancelScope(shield=True):
                await store.aclose()

    return anyio.run(main)


async def open_storage(store: SessionStore) -> None:
    """Open the storage, if it has anything to open."""
    if (storage := capability(store.storage, Opens)) is not None:
        await persistence_of(store).driver.unbounded("open", storage.open)


def check_place(store: SessionStore) -> None:
    """Refuse sessions that cannot be seen from here, and a file that opening would create.

    Raises:
        Failure: they are in the memory of another process, or there is no such file.
    """
    storage = store.storage
    if isinstance(storage, MemoryStorage):
        raise Failure(USAGE, "these sessions are in the memory of the server's process, which no command can see")
    if isinstance(storage, SQLiteStorage) and not _exists(Path(storage.path)):
        raise Failure(
            UNREACHABLE,
            f"there is no file {storage.path}, or you have no access to it; the application creates it when it starts",
        )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder that this user may not enter
        return False


def scan(store: SessionStore) -> AsyncIterator[list[str]]:
    """Return the keys of the store's sessions, a few hundred at a time.

    Raises:
        Failure: the storage cannot list its records.
    """
    storage = capability(store.storage, Scans)
    if storage is None:
        raise Failure(USAGE, "this storage cannot list its sessions: they can be neither counted nor ended all at once")
    return _batches(store, storage)


async def _batches(store: SessionStore, storage: Scans) -> AsyncIterator[list[str]]:
    unbounded, batches = persistence_of(store).driver.unbounded, storage.scan(store.config.key_prefix)
    while (batch := await unbounded("scan", lambda: anext(batches, None))) is not None:
        yield batch


def persistence_of(store: SessionStore) -> StorePersistence:
    """Return the persistence of a store, to read records as they are, which no method of the store does."""
    return store._persistence  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]  # a second one would have listeners, too
