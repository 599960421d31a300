"""One call to the storage: bounded in time, its failures of one kind.

An entered cancel scope costs more than a whole load from memory, so the scope is
entered only once a call really waits: a call that never suspends cannot be slow
and has no point at which it could be cancelled.
"""

import types
from collections.abc import Coroutine, Generator
from typing import Any, NoReturn, TypeVar

import anyio

from sessioncore._errors import SessionError, StorageError, StorageUnavailable
from sessioncore._events import EventKind, Events

__all__ = ["StorageCalls"]

T = TypeVar("T")


class StorageCalls:
    """Makes the calls of one store, and tells of those that failed."""

    __slots__ = ("_events", "_seconds")

    def __init__(self, seconds: float, events: Events) -> None:
        self._seconds = seconds
        self._events = events

    @types.coroutine  # a bare generator: an `async def` could not run a call up to its first suspension
    def run(self, operation: str, call: Coroutine[Any, Any, T], *, shield: bool = True) -> Generator[Any, Any, T]:
        """Await `call` for at most `storage_timeout`; with `shield`, a cancelled request waits until it is done.

        Raises:
            StorageError: the storage refused, or did not answer in time (StorageUnavailable).
        """
        try:
            waiting = call.send(None)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]  # the hot path: it never waited
        except Exception as exc:  # noqa: BLE001 - it is translated and raised
            self._fail(operation, exc)
        deadline = anyio.current_time() + self._seconds
        try:
            with anyio.CancelScope(deadline=deadline, shield=shield):  # noqa: ASYNC100 - it waits in `_rest`
                return (yield from _rest(call, waiting))
        except Exception as exc:  # noqa: BLE001 - it is translated and raised
            self._fail(operation, exc)
        # The scope swallowed a cancellation, and only its own deadline cancels it.
        self._fail(operation, TimeoutError(f"no answer within {self._seconds:g} s; see storage_timeout"))

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


def _rest(call: Coroutine[Any, Any, T], waiting: Any) -> Generator[Any, Any, T]:
    """Drive a call as `await` would: pass out what it waits for, pass in what comes back."""
    try:
        while True:
            try:
                answer = yield waiting
            except GeneratorExit:
                call.close()
                raise
            except BaseException as exc:  # noqa: BLE001 - it belongs to the call, cancellation too
                waiting = call.throw(exc)
            else:
                waiting = call.send(answer)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
