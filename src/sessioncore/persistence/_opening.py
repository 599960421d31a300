"""Opens the storage of a store, checks it, and closes it after its last use."""

import logging
from collections.abc import Callable
from contextlib import suppress
from inspect import isawaitable
from weakref import WeakKeyDictionary

from anyio import CancelScope

from sessioncore._config import SessionConfig
from sessioncore._errors import WritesRefused
from sessioncore._storage_capabilities import Opens
from sessioncore._storage_protocol import capability
from sessioncore.concurrency._event_loops import event_loop, has_ended
from sessioncore.concurrency._forks import in_each_child
from sessioncore.concurrency._locks import CrossLoopLock
from sessioncore.persistence._driver import Driver
from sessioncore.persistence._machine import unexpected_answer
from sessioncore.persistence._probe import check_storage

__all__ = ["Opening"]

_logger = logging.getLogger("sessioncore")


class Opening:
    """Opens and closes the storage; of several `async with store` blocks, the last one to end closes it."""

    __slots__ = ("__weakref__", "_blocks", "_config", "_driver", "_lock", "_stop_watching")

    def __init__(self, config: SessionConfig, driver: Driver, stop_watching: Callable[[], None]) -> None:
        self._config = config
        self._driver = driver
        self._stop_watching = stop_watching  # open connections, in this event loop
        self.after_fork()
        in_each_child(self, Opening.after_fork)

    def after_fork(self) -> None:
        """Begin without blocks, also in a child process, where those of the parent keep nothing open."""
        self._blocks = WeakKeyDictionary[object, int]()  # how many are open, by event loop
        self._lock = CrossLoopLock()

    async def open(self, *, block: bool) -> None:
        """Open and check the storage; if it takes no writes at the moment, log that.

        `block`: until `leave`, the storage stays open when other blocks end.

        Raises:
            StorageError: it cannot be used.
        """
        try:
            async with self._lock:  # a block that ends in another thread must not close what this one has opened
                await self._open_and_check()
                if block:
                    loop = event_loop()
                    self._blocks[loop] = self._blocks.get(loop, 0) + 1
        except BaseException:
            with suppress(Exception):  # the error that stopped the start says more
                await self._close_unless_used()
            raise

    async def leave(self) -> None:
        """End a block."""
        loop = event_loop()
        others = self._blocks.get(loop, 0) - 1
        if others > 0:
            self._blocks[loop] = others
        else:
            self._blocks.pop(loop, None)
            self._stop_watching()
            await self._close_unless_used()

    async def close(self) -> None:
        """Close the storage at once, also if a block is open."""
        self._stop_watching()
        if (storage := capability(self._config.storage, Opens)) is not None:
            # Not by the driver, which would take the return of this call to mean that the storage works again.
            if not isawaitable(closing := storage.aclose()):
                raise unexpected_answer(storage, "aclose", closing)
            await closing

    async def _close_unless_used(self) -> None:
        with CancelScope(shield=True):
            async with self._lock:
                # Copied in one step, because other threads begin and end blocks.
                loops = [loop() for loop in self._blocks.keyrefs()]
                if all(loop is None or has_ended(loop) for loop in loops):
                    await self.close()

    async def _open_and_check(self) -> None:
        if (storage := capability(self._config.storage, Opens)) is None:
            return
        try:
            await self._driver.unbounded("open", storage.open)
            await check_storage(self._config, self._driver)
        except WritesRefused as exc:
            _logger.error(  # noqa: TRY400 - the text says it all
                "the storage takes no writes: until it does, they are answered with status 503: %s", exc
            )
