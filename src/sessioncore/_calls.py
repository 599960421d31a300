"""One call to the storage: bounded in time, its failures of one kind.

An entered cancel scope costs more than a whole load from memory, so the scope is
entered only once a call really waits: a call that never suspends cannot be slow
and has no point at which it could be cancelled.
"""

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

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

    async def run(self, operation: str, call: Coroutine[Any, Any, T], *, shield: bool = True) -> T:
        """Await `call` for at most `storage_timeout`; with `shield`, a cancelled request waits until it is done.

        Raises:
            StorageError: the storage refused, or did not answer in time (StorageUnavailable).
        """
        try:
            return await _Bounded(call, self._seconds, shield=shield)
        except StorageError as exc:
            cause = exc.__cause__ or exc
            self._events.send(EventKind.STORAGE_ERROR, detail=f"{operation}: {type(cause).__name__}")
            raise


class _Bounded(Generic[T]):
    """Awaits `call` for at most `seconds`; with `shield`, cancellation waits until it is done.

    Raises:
        StorageUnavailable: no answer in time, or an error that the storage did not translate.
    """

    __slots__ = ("_call", "_seconds", "_shield")

    def __init__(self, call: Coroutine[Any, Any, T], seconds: float, *, shield: bool) -> None:
        self._call = call.__await__()
        self._seconds = seconds
        self._shield = shield

    def __await__(self) -> Generator[Any, Any, T]:
        """Run to the first suspension; only from there on, under a deadline."""
        try:
            waiting = next(self._call)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        except SessionError:
            raise
        except Exception as exc:
            raise _unavailable(exc) from exc
        deadline = anyio.current_time() + self._seconds
        with anyio.CancelScope(deadline=deadline, shield=self._shield):  # noqa: ASYNC100 - it waits in the yields below
            return (yield from self._rest(waiting))
        # The scope swallowed a cancellation, and only its own deadline cancels it.
        raise StorageUnavailable(f"the storage did not answer within {self._seconds:g} s; see storage_timeout")

    def _rest(self, waiting: Any) -> Generator[Any, Any, T]:
        """Drive the call as `await` would: pass out what it waits for, pass in what comes back."""
        call = self._call
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
        except SessionError:
            raise
        except Exception as exc:
            raise _unavailable(exc) from exc


def _unavailable(exc: Exception) -> StorageUnavailable:
    return StorageUnavailable(f"the storage failed ({type(exc).__name__}); see the cause")
