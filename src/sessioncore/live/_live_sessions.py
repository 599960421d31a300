"""The sessions of one store that are watched, in every event loop."""

from typing import Any

from sessioncore._errors import SessionGone
from sessioncore._storage_capabilities import Watches
from sessioncore._storage_protocol import capability
from sessioncore.concurrency._event_loops import event_loop, has_ended
from sessioncore.live._polling import Polling
from sessioncore.live._watch_task import WatchTask
from sessioncore.persistence._driver import Driver
from sessioncore.persistence._store_context import StoreContext
from sessioncore.session._loaded import Loaded
from sessioncore.session._protocols import OnEnd, Watch
from sessioncore.session._state import SessionState

__all__ = ["LiveSessions"]


class LiveSessions:
    """Notifies open connections and `alive` blocks when their sessions end."""

    __slots__ = ("_context", "_driver", "_tasks", "_watches")

    def __init__(self, context: StoreContext, driver: Driver) -> None:
        storage = context.config.storage
        self._context = context
        self._driver = driver
        watches = capability(storage, Watches)
        self._watches = Polling(storage) if watches is None else watches
        self._tasks: dict[Any, WatchTask] = {}  # by event loop

    def watch(self, state: SessionState, on_end: OnEnd, known: Loaded | None = None) -> Watch:
        """Call `on_end` when the session ends; not when this request, or another, gives it a new ID.

        `known`: the record that the request has used, if that was ended or moved since.

        Raises:
            SessionGone: nothing is stored.
        """
        base = state.loaded or known
        if base is None:
            raise SessionGone(
                "there is no stored session to watch: it is fresh, or it was ended; log in, or save() first"
            )
        loop = event_loop()
        task = self._tasks.get(loop)
        if task is None:
            for ended in filter(has_ended, list(self._tasks)):  # it ended before the store was closed
                self._close(ended)
            task = self._tasks[loop] = WatchTask(self._context, self._driver, self._watches)
        return task.start(state, base, on_end)

    def close(self) -> None:
        """Stop watching in this event loop, because the store is closed."""
        self._close(event_loop())

    def _close(self, loop: object) -> None:
        task = self._tasks.pop(loop, None)  # it refers to the loop, which would stay in memory
        if task is not None:
            task.close()
