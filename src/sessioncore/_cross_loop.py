"""What tasks of several event loops need to work together: locks, and calls into another loop.

One process can have several loops, each in a thread of its own: a server with a loop per worker
thread, `asyncio.run` in synchronous views. The locks of asyncio, trio and anyio belong to one loop.
"""

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, Self
from weakref import WeakValueDictionary

from anyio import Event
from anyio.lowlevel import checkpoint_if_cancelled

__all__ = ["CrossLoopLock", "NamedLocks", "asyncio_loop", "caller_from_any_thread", "event_loop", "has_ended"]


def asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """Return asyncio's event loop, also in a callback; None in a task of trio.

    There asyncio may have a running loop, too: trio-asyncio runs one inside trio, and trio's guest mode is run by one.
    """
    if "trio" in sys.modules:
        with suppress(AttributeError, RuntimeError):  # trio is not imported completely, or does not run
            sys.modules["trio"].lowlevel.current_task()
            return None
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def event_loop() -> Any:
    """Return asyncio's event loop or trio's token, also in a callback of asyncio's loop.

    If sniffio is installed, anyio finds a loop only in a task, unless `anyio.run` has started the loop.
    """
    loop = asyncio_loop()
    if loop is not None:
        return loop
    import trio  # noqa: PLC0415 - optional, and it is running

    return trio.lowlevel.current_trio_token()


def has_ended(loop: Any) -> bool:
    """Return whether an `event_loop` will run no more."""
    if isinstance(loop, asyncio.AbstractEventLoop):
        return loop.is_closed()
    return not _reaches_loop(loop.run_sync_soon, _nothing)


def _nothing() -> None:
    """Do nothing, in another event loop."""


def _reaches_loop(call: Callable[..., object], *args: object) -> bool:
    """Call a function that needs its event loop; return False if the loop has ended."""
    try:
        call(*args)
    except RuntimeError:
        return False
    return True


def caller_from_any_thread() -> Callable[..., bool]:
    """Return a function that has this event loop call its arguments soon.

    After the loop has ended, it returns False and does nothing.
    """
    loop = event_loop()
    call_soon = loop.call_soon_threadsafe if isinstance(loop, asyncio.AbstractEventLoop) else loop.run_sync_soon
    return partial(_reaches_loop, call_soon)


class _Waiter:
    """A task that waits for the lock."""

    __slots__ = ("_call_soon", "_thread", "has_lock", "woken")

    def __init__(self) -> None:
        self.has_lock = False
        self.woken = Event()
        self._call_soon = caller_from_any_thread()
        self._thread = threading.get_ident()

    def wake(self, ended: type[BaseException] | None) -> bool:
        """Wake the task; return False if its event loop has ended. `ended`: what ends the task that had the lock."""
        # A task of this thread is woken at once, because a call through the loop takes some more of its iterations. Not
        # if garbage collection ends the task that had the lock: this loop may be about to sleep, and would not notice.
        if ended is not GeneratorExit and self._thread == threading.get_ident():
            return _reaches_loop(self.woken.set)
        return self._call_soon(self.woken.set)


class CrossLoopLock:
    """A lock for tasks, which may be in different event loops; the tasks get it in the order in which they came."""

    __slots__ = ("__weakref__", "_held", "_mutex", "_waiters")

    def __init__(self) -> None:
        self._held = False
        self._waiters: deque[_Waiter] = deque()  # empty while the lock is not held
        # Reentrant, because a task of an event loop that has ended releases its lock when it is collected as garbage.
        self._mutex = threading.RLock()

    async def __aenter__(self) -> Self:
        """Wait for the lock."""
        await checkpoint_if_cancelled()
        with self._mutex:
            if not self._held:
                self._held = True
                return self
        waiter = _Waiter()
        with self._mutex:
            self._waiters.append(waiter)
            if not self._held:  # it was released meanwhile
                self._held = True
                self._waiters.pop()
                return self
        try:
            await waiter.woken.wait()
        except BaseException as exc:
            with self._mutex:
                if waiter.has_lock:
                    waiter.has_lock = False
                    self._release(type(exc))
                elif waiter in self._waiters:  # else it was passed over, because its event loop has ended
                    self._waiters.remove(waiter)
            raise
        return self

    async def __aexit__(self, ended: type[BaseException] | None, *_: object) -> None:
        """Give the lock to the task that waits longest."""
        self._release(ended)

    def _release(self, ended: type[BaseException] | None) -> None:
        with self._mutex:
            while self._waiters:
                waiter = self._waiters.popleft()
                waiter.has_lock = True
                if waiter.wake(ended) or not waiter.has_lock:  # not: it was collected as garbage, and gave it on
                    return
                waiter.has_lock = False
            self._held = False


class NamedLocks:
    """One lock for each name, kept only while a task holds it or waits for it."""

    __slots__ = ("_locks", "_mutex")

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, CrossLoopLock] = WeakValueDictionary()
        self._mutex = threading.Lock()

    def held(self, *names: str) -> "_HeldLocks":
        """Hold the locks of these names; every caller takes them in the same order, so there is no deadlock."""
        with self._mutex:
            return _HeldLocks([self._locks.setdefault(name, CrossLoopLock()) for name in sorted(set(names))])


class _HeldLocks(AsyncExitStack):
    """Several locks. No generator, which would keep them if it is collected as garbage while it waits for one."""

    def __init__(self, locks: list[CrossLoopLock]) -> None:
        super().__init__()
        self._locks = locks

    async def __aenter__(self) -> Self:
        try:
            for lock in self._locks:
                await self.enter_async_context(lock)
        except BaseException as exc:
            await self.__aexit__(type(exc), exc, exc.__traceback__)
            raise
        return self
