"""One call to the storage: bounded in time, its failures of one kind."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, NoReturn, TypeVar, cast

import anyio

from sessioncore._errors import SessionError, StorageError, StorageUnavailable
from sessioncore._events import EventKind, Events
from sessioncore._shield import to_the_end
from sessioncore._storage_protocol import BoundsCalls, Storage
from sessioncore.storage.memory._storage import answers_at_once

__all__ = ["StorageCalls"]

T = TypeVar("T")

_MEANT: Final = ("load", "create", "replace", "move")


class StorageCalls:
    """Makes the calls of one store, and tells of those that failed."""

    __slots__ = ("_bounded", "_events", "_seconds", "_storage")

    def __init__(self, storage: Storage, seconds: float, events: Events) -> None:
        # A cancel scope costs more than a whole load from memory: what bounds itself is awaited as it is.
        self._bounded = _bounded(storage, seconds)
        self._seconds = seconds
        self._storage = storage
        self._events = events

    async def run(self, operation: str, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Await `call()` for at most `storage_timeout`.

        Raises:
            StorageError: the storage refused, or did not answer in time (StorageUnavailable).
        """
        try:
            coroutine = call()
            if getattr(coroutine, "cr_code", None) in self._bounded:
                return await coroutine
            with anyio.CancelScope(deadline=anyio.current_time() + self._seconds):
                return await coroutine
            # The scope swallowed a cancellation, and only its own deadline cancels it.
            raise TimeoutError(f"no answer within {self._seconds:g} s; see storage_timeout")
        except Exception as exc:  # noqa: BLE001 - it is translated and raised
            self._fail(operation, exc)

    async def run_long(self, operation: str, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Await maintenance, whose time depends on how much there is to do.

        Raises:
            StorageError: the storage refused or failed.
        """
        try:
            return await call()
        except Exception as exc:  # noqa: BLE001 - it is translated and raised
            self._fail(operation, exc)

    def whole(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Return what awaits `work` to its end, cancelled or not; `work` itself where nothing in it ever waits."""
        return work if answers_at_once(self._storage) else to_the_end(work)

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
    # By their code: a function that was put in the place of one of them, say by a test, is none of these.
    return frozenset(getattr(vars(kind).get(name), "__code__", None) for name in _MEANT) - {None}
