"""What a storage needs once in each event loop: a connection belongs to the loop in which it was opened."""

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

from sessioncore._errors import ConfigError, StorageError, StorageUnavailable
from sessioncore.concurrency._event_loops import asyncio_loop
from sessioncore.concurrency._forks import in_each_child

__all__ = ["PerLoop"]

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One `T` for each event loop of asyncio: made when the loop first needs it, and closed at the latest when it ends.

    A child process makes its own: two processes on one connection would read each other's replies.

    Args:
        make: makes it; called in the loop.
        aclose: closes it, in its loop; called again, it has no effect.
        storage: the class of the storage, for errors.
        driver: its driver, which runs on asyncio only.
    """

    def __init__(
        self, make: Callable[[], T], aclose: Callable[[T], Coroutine[Any, Any, None]], *, storage: str, driver: str
    ) -> None:
        self._make = make
        self._aclose = aclose
        self._storage = storage
        self._driver = driver
        self._by_loop: dict[asyncio.AbstractEventLoop, T] = {}
        self._of_parent: dict[asyncio.AbstractEventLoop, object] = {}  # kept: collecting them might close the parent's
        # The loop and the `_closer` of each T, by its `id`. Kept also after `close`: a loop that ends closes no
        # generator that was collected.
        self._closers: dict[int, tuple[asyncio.AbstractEventLoop, AsyncGenerator[None]]] = {}
        self._current: tuple[asyncio.AbstractEventLoop, T] | None = None  # of `_by_loop`, the one that was used last
        self._mutex = threading.Lock()
        self._closed = False
        in_each_child(self, PerLoop[T].after_fork)

    def after_fork(self) -> None:
        """In a child process: use nothing of what the parent has open."""
        self._mutex = threading.Lock()
        self._of_parent |= self._by_loop
        self._by_loop = {}
        self._current = None

    def here(self) -> T:
        """Return the `T` of the running loop.

        Raises:
            ConfigError: the loop is not asyncio's.
            StorageError: the loop is one of the parent process, which has connections in it.
            StorageUnavailable: the storage was closed.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        current = self._current
        if current is not None and current[0] is loop:
            return current[1]
        return self._switch_to(self._require_asyncio())

    def all(self) -> list[T]:
        """Return the `T` of every loop."""
        with self._mutex:
            return [*self._by_loop.values()]

    def reopen(self) -> None:
        """Let a closed storage be used again."""
        self._closed = False

    async def close(self, *, seconds: float) -> None:
        """Close each in its own loop, as `run_in_each` does, and forget it; until `reopen`, the storage is closed."""

        async def close(one: T) -> None:
            await self._aclose(one)
            _, closer = self._closers.get(id(one), (None, None))
            if closer is not None and not cast("Any", closer).ag_running:  # else its loop ends
                await closer.aclose()

        with self._mutex:
            self._closed = True
            forgotten, self._by_loop = self._by_loop, {}
            self._current = None
        await self._run_in_each(forgotten, close, seconds)

    async def run_in_each(self, do: Callable[[T], Coroutine[Any, Any, None]], *, seconds: float) -> None:
        """Run `do` in each loop that still runs; wait at most `seconds` for each of the other loops.

        Raises:
            ConfigError: there are some, and this loop is not asyncio's.
        """
        with self._mutex:
            by_loop = dict(self._by_loop)
        await self._run_in_each(by_loop, do, seconds)

    async def _run_in_each(
        self,
        by_loop: dict[asyncio.AbstractEventLoop, T],
        do: Callable[[T], Coroutine[Any, Any, None]],
        seconds: float,
    ) -> None:
        for loop, one in by_loop.items():
            if loop is self._require_asyncio():
                await do(one)
            elif loop.is_running():
                work = do(one)
                try:
                    there = asyncio.run_coroutine_threadsafe(work, loop)
                except RuntimeError:
                    work.close()  # the loop has just ended
                else:
                    await asyncio.wait([asyncio.wrap_future(there)], timeout=seconds)

    def _require_asyncio(self) -> asyncio.AbstractEventLoop:
        if (loop := asyncio_loop()) is None:
            raise ConfigError(
                f"{self._storage} runs on asyncio only, as {self._driver} does; on trio use SQLiteStorage or "
                "MemoryStorage"
            )
        return loop

    def _switch_to(self, loop: asyncio.AbstractEventLoop) -> T:
        with self._mutex:
            if self._closed:
                raise StorageUnavailable(
                    f"this {self._storage} is closed; `async with store:` opens it again, as the lifespan of an "
                    "application does"
                )
            if loop in self._of_parent:
                raise StorageError(
                    f"this process was forked while {self._storage} had connections in this event loop, and they "
                    "belong to the parent: run a new loop in the child, as asyncio.run does"
                )
            if loop not in self._by_loop:
                self._by_loop = {at: one for at, one in self._by_loop.items() if not at.is_closed()}
                self._closers = {at: kept for at, kept in self._closers.items() if not kept[0].is_closed()}
                one = self._by_loop[loop] = self._make()
                if sys.get_asyncgen_hooks().finalizer is not None:  # else this loop closes no generators
                    closer = self._closer(loop, one)
                    self._closers[id(one)] = loop, closer
                    with suppress(StopIteration):  # it runs as far as its `yield`
                        closer.asend(None).send(None)
            self._current = loop, self._by_loop[loop]
            return self._current[1]

    async def _closer(self, loop: asyncio.AbstractEventLoop, one: T) -> AsyncGenerator[None]:
        """Close what a loop has, at the latest when it ends: `asyncio.run` and the like then close their generators."""
        try:
            yield
        finally:
            with self._mutex:
                self._closers.pop(id(one), None)
                if self._by_loop.get(loop) is one:
                    del self._by_loop[loop]
                    self._current = None
            if loop not in self._of_parent:
                await self._aclose(one)
