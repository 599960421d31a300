"""Locks for tasks of several event loops; those of asyncio, trio and anyio belong to one loop."""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Self
from weakref import WeakValueDictionary

from anyio import Event
from anyio.lowlevel import checkpoint_if_cancelled

from sessioncore.concurrency._event_loops import caller_from_any_thread, event_loop, has_ended, reaches_loop
from sessioncore.concurrency._forks import in_each_child

__all__ = ["CrossLoopLock", "NamedLocks"]


class _Waiter:
    """A task that waits for the lock."""

    __slots__ = ("_call_soon", "_thread", "has_lock", "is_needless", "loop", "woken")

    def __init__(self, is_needless: Callable[[], bool], loop: Any) -> None:
        self.has_lock = False
        self.loop = loop
        self.is_needless = is_needless
        self.woken = Event()
        self._call_soon = caller_from_any_thread(loop)
        self._thread = threading.get_ident()

    def wake(self, ended: type[BaseException] | None) -> bool:
        """Wake the task; return False if its event loop has ended. `ended`: what ends the task that had the lock."""
        # A task of this thread is woken directly, because a call through the loop takes more of its iterations. But if
        # garbage collection ends the task that had the lock, this loop may be about to sleep, and would not notice.
        if ended is not GeneratorExit and self._thread == threading.get_ident():
            return reaches_loop(self.woken.set)
        return self._call_soon(self.woken.set)


class CrossLoopLock:
    """A lock for tasks, which may be in different event loops; the tasks get it in the order in which they came."""

    __slots__ = ("__weakref__", "_holder", "_lost", "_mutex", "_waiters", "for_next")

    def __init__(self) -> None:
        self.for_next: Any = None  # what the task that had the lock leaves for the next one
        self._holder: Any = None  # the event loop of the task that has the lock; None: it is free
        self._lost = 0  # tasks that had the lock when their event loop was closed, and have not released it yet
        self._waiters: deque[_Waiter] = deque()  # empty while the lock is free
        # Reentrant, because a task of an event loop that has ended releases its lock when it is collected as garbage.
        self._mutex = threading.RLock()

    async def __aenter__(self) -> Self:
        """Wait for the lock."""
        await self.acquire(_never)
        return self

    async def acquire(self, is_needless: Callable[[], bool]) -> bool:
        """Wait for the lock, and return True; or return False once it is released and `is_needless` returns True.

        The tasks that do not need it any more are all woken at the same time: one after the other, each of them
        would take another iteration of the event loop.
        """
        await checkpoint_if_cancelled()
        loop = event_loop()
        with self._mutex:
            if self._take(loop):
                return True
        waiter = _Waiter(is_needless, loop)
        with self._mutex:
            self._waiters.append(waiter)
            if self._take(loop):  # it was released meanwhile
                self._waiters.pop()
                return True
        try:
            await waiter.woken.wait()
        except BaseException as exc:
            with self._mutex:
                if waiter.has_lock:
                    waiter.has_lock = False
                    self.release(type(exc))
                elif waiter in self._waiters:  # else it was passed over, because its event loop has ended
                    self._waiters.remove(waiter)
            raise
        return waiter.has_lock

    def _take(self, loop: object) -> bool:
        """Take the lock if it is free, or if the task that has it runs no more, because its event loop was closed."""
        if self._holder is not None:
            if not has_ended(self._holder):
                return False
            self._lost += 1
        self._holder = loop
        return True

    async def __aexit__(self, ended: type[BaseException] | None, *_: object) -> None:
        """Give the lock to the task that has waited longest."""
        self.release(ended)

    def release(self, ended: type[BaseException] | None, *_: object) -> None:
        """Wake the tasks that no longer need the lock, and give it to the one that has waited longest."""
        with self._mutex:
            if ended is GeneratorExit and self._lost:  # another task has taken the lock from the one that is collected
                self._lost -= 1
                return
            while self._waiters:
                waiter = self._waiters.popleft()
                if waiter.is_needless():
                    waiter.wake(ended)
                    continue
                waiter.has_lock, self._holder = True, waiter.loop
                if waiter.wake(ended) or not waiter.has_lock:  # or it was collected as garbage, and passed the lock on
                    return
                waiter.has_lock = False
            self._holder = None


def _never() -> bool:
    return False


class NamedLocks:
    """One lock for each name, kept only while a task holds it or waits for it."""

    __slots__ = ("__weakref__", "_locks", "_mutex")

    def __init__(self) -> None:
        self.after_fork()
        in_each_child(self, NamedLocks.after_fork)

    def after_fork(self) -> None:
        """Begin without locks, also in a child process, where no task of the parent goes on to release its locks."""
        self._locks: WeakValueDictionary[str, CrossLoopLock] = WeakValueDictionary()
        self._mutex = threading.Lock()

    def named(self, name: str) -> CrossLoopLock:
        """Return the lock of this name."""
        with self._mutex:
            return self._locks.setdefault(name, CrossLoopLock())

    def held(self, *names: str) -> "_HeldLocks":
        """Hold the locks of these names; every caller takes them in the same order, so there is no deadlock."""
        return _HeldLocks([self.named(name) for name in sorted(set(names))])


class _HeldLocks(AsyncExitStack):
    """Several locks. A generator would keep them if it were collected as garbage while it waits for one."""

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
