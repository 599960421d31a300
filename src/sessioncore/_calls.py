"""One call to the storage: bounded in time, its failures of one kind."""

from collections.abc import Awaitable, Coroutine
from typing import Any, Final, NoReturn, TypeVar, cast

import anyio

from sessioncore._errors import SessionError, StorageError, StorageUnavailable
from sessioncore._events import EventKind, Events
from sessioncore.storage import MemoryStorage, Storage
from sessioncore.storage._protocol import BoundsCalls

__all__ = ["StorageCalls"]

T = TypeVar("T")

# By their code: a function that was put in the place of one of them, say by a test, is none of these.
_AT_ONCE: Final = tuple(
    method.__code__ for method in (MemoryStorage.load, MemoryStorage.replace, MemoryStorage.create, MemoryStorage.move)
)
_MEANT: Final = ("load", "create", "replace", "move")


class StorageCalls:
    """Makes the calls of one store, and tells of those that failed."""

    __slots__ = ("_bounded", "_events", "_immediate", "_seconds")

    def __init__(self, storage: Storage, seconds: float, events: Events) -> None:
        # A cancel scope costs more than a whole load from memory, and what never suspends needs none:
        # it cannot be slow without blocking the loop, and has no point at which it could be cancelled.
        # Its calls are then awaited as they are. A subclass may do what it likes, so it is not meant here.
        self._immediate = type(storage) is MemoryStorage
        self._bounded = _bounded(storage, seconds)
        self._seconds = seconds
        self._events = events

    def quick(self, operation: str, call: Coroutine[Any, Any, T], *, shield: bool = True) -> Awaitable[T]:
        """Return `call` itself where it answers at once, else what bounds it; of either, await the result."""
        code = getattr(call, "cr_code", None)
        if self._immediate and code in _AT_ONCE:
            return call
        if code in self._bounded:
            return self._run_shielded(operation, call) if shield else self.run_long(operation, call)
        return self.run(operation, call, shield=shield)

    async def run(self, operation: str, call: Coroutine[Any, Any, T], *, shield: bool = True) -> T:
        """Await `call` for at most `storage_timeout`; with `shield`, a cancelled request waits until it is done.

        Raises:
            StorageError: the storage refused, or did not answer in time (StorageUnavailable).
        """
        try:
            with anyio.CancelScope(deadline=anyio.current_time() + self._seconds, shield=shield):
                return await call
            # The scope swallowed a cancellation, and only its own deadline cancels it.
            raise TimeoutError(f"no answer within {self._seconds:g} s; see storage_timeout")
        except Exception as exc:  # noqa: BLE001 - it is translated and raised
            self._fail(operation, exc)

    async def _run_shielded(self, operation: str, call: Coroutine[Any, Any, T]) -> T:
        """Do what `run` does for a call that bounds itself: its timer is half of what the scope would cost."""
        try:
            with anyio.CancelScope(shield=True):
                return await call
            raise AssertionError("nobody cancels this scope")
        except Exception as exc:  # noqa: BLE001 - it is translated and raised
            self._fail(operation, exc)

    async def run_long(self, operation: str, call: Coroutine[Any, Any, T]) -> T:
        """Await what the store sets no limit: maintenance, which takes its time, and loads that bound themselves.

        Raises:
            StorageError: the storage refused or failed.
        """
        try:
            return await call
        except Exception as exc:  # noqa: BLE001 - it is translated and raised
            self._fail(operation, exc)

    def _fail(self, operation: str, exc: Exception) -> NoReturn:
        """Tell of a failure and raise it; what the storage did not translate is a failure of the storage all the same.

        Raises:
            StorageError: always, but for errors of the core itself.
        """
        if isinstance(exc, SessionError) and not isinstance(exc, StorageError):
            raise exc
        cause = exc.__cause__ or exc if isinstance(exc, StorageError) else exc
        self._events.send(EventKind.STORAGE_ERROR, detail=f"{operation}: {type(cause).__name__}")
        if isinstance(exc, StorageError):
            raise exc
        raise StorageUnavailable(f"the storage failed during {operation} ({type(exc).__name__})") from exc


def _bounded(storage: Storage, seconds: float) -> frozenset[object]:
    """Return the code of the calls that bound themselves (see `BoundsCalls`), if the storage takes that upon itself."""
    # Asked of the classes: what a wrapper passes on by __getattr__ promises nothing for the wrapper's own calls.
    kind = next((kind for kind in type(storage).__mro__ if "bound_calls" in vars(kind)), None)
    if kind is None or not cast("BoundsCalls", storage).bound_calls(seconds):
        return frozenset()
    return frozenset(getattr(vars(kind).get(name), "__code__", None) for name in _MEANT) - {None}
