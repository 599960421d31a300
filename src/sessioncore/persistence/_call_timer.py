"""Times the calls of the storage for the listeners that derive from StorageListener."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import TypeVar

from sessioncore._causes import causes
from sessioncore._errors import KeyTaken
from sessioncore._events import StorageListener, StorageOutcome
from sessioncore._storage_calls import LATER, Call, Later, Reply

__all__ = ["CallTimer", "is_timeout"]

T = TypeVar("T")
_logger = logging.getLogger("sessioncore")


class CallTimer:
    """Notifies listeners of each finished storage call of one store."""

    __slots__ = ("_listeners",)

    def __init__(self, listeners: Sequence[StorageListener]) -> None:
        self._listeners = listeners

    def answering(self, answer_now: Callable[[Call], Reply | Later]) -> Callable[[Call], Reply | Later]:
        """Return an `answer_now` that is timed; a call that it leaves for later is reported after it was awaited."""

        def answer(call: Call) -> Reply | Later:
            started = perf_counter()
            try:
                reply = answer_now(call)
            except Exception as exc:
                self._notify(call.operation, started, _outcome_of(exc))
                raise
            if reply is not LATER:
                self._notify(call.operation, started, "ok")
            return reply

        return answer

    async def awaited(self, operation: str, call: Callable[[], Awaitable[T]]) -> T:
        """Await `call()`, and notify the listeners."""
        outcome: StorageOutcome = "cancelled"
        started = perf_counter()
        try:
            reply = await call()
            outcome = "ok"
        except Exception as exc:
            outcome = _outcome_of(exc)
            raise
        finally:
            self._notify(operation, started, outcome)
        return reply

    def _notify(self, operation: str, started: float, outcome: StorageOutcome) -> None:
        seconds = perf_counter() - started
        for listener in self._listeners:
            try:
                listener.storage_call(operation, seconds, outcome)
            except Exception:
                _logger.exception("storage_call raised for %r; the session is not affected: fix on_event", operation)


def is_timeout(error: BaseException | None) -> bool:
    """Return whether a call failed because the storage did not reply in time."""
    return any(isinstance(one, TimeoutError) for one in causes(error))


def _outcome_of(error: Exception) -> StorageOutcome:
    if isinstance(error, KeyTaken):
        return "ok"  # a reply: the commit tries another key
    return "timeout" if is_timeout(error) else "error"
