"""A store whose sessions are watched, by a storage that reports changes or by one that is polled."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
from anyio import wait_all_tasks_blocked
from tests.stores import SpyStorage
from tests.turns import comes_true

from sessioncore import MemoryStorage, Session, SessionConfig, SessionError, SessionGone, SessionStore

__all__ = ["FAST", "STORAGES", "Watched", "watched"]

# 0.1 s is no multiple of it: `wait_all_tasks_blocked` looks every 0.1 s, and would always find the watcher awake.
FAST = timedelta(seconds=0.07)
STORAGES: dict[str, Callable[[], Any]] = {"memory": MemoryStorage, "polled": SpyStorage}


class Watched:
    """A session in an `alive` block, and the same session as another request has it."""

    def __init__(self, store: SessionStore, mine: Session, other: Session) -> None:
        self.store = store
        self.mine = mine
        self.other = other
        self.error: SessionError | None = None
        self.ended = anyio.Event()

    async def stay(self, began: anyio.Event) -> None:
        """Wait in an `alive` block for its end."""
        try:
            async with self.mine.alive():
                began.set()
                await anyio.sleep_forever()
        except SessionError as error:
            self.error = error
        self.ended.set()

    async def ends(self, error: type[SessionError] = SessionGone) -> None:
        """Wait for the end of the block, and check its error."""
        await self.ended.wait()
        assert isinstance(self.error, error)

    async def goes_on(self) -> None:
        """Check that nothing that has happened so far has ended the block."""
        await self.looked_up()
        assert not self.ended.is_set()

    async def looked_up(self) -> None:
        """Return when everything that has happened so far has been looked up."""
        storage = self.store.storage
        if isinstance(storage, SpyStorage):
            seen = storage.calls.count("load")
            await comes_true(lambda: storage.calls.count("load") >= seen + 2)
        else:
            await wait_all_tasks_blocked()


@asynccontextmanager
async def watched(
    storage: object, begin: Callable[[SessionStore], Awaitable[Session]] | None = None, **config: Any
) -> AsyncGenerator[Watched]:
    """Run a block while an `alive` block waits in another task."""
    config = {"watch_interval": FAST, "storage": storage, **config}
    store = SessionStore(SessionConfig.development(**config))
    mine = await store.create({"n": 1}, owner="u") if begin is None else await begin(store)
    one = Watched(store, mine, await store.get_by_id(mine.id))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            began = anyio.Event()
            tasks.start_soon(one.stay, began)
            await began.wait()
            await one.looked_up()
            yield one
            tasks.cancel_scope.cancel()
