"""The sessions of one store that are watched, in every event loop."""

from anyio.lowlevel import RunVar

from sessioncore._config import SessionConfig
from sessioncore._errors import SessionGone
from sessioncore._storage_capabilities import Watches
from sessioncore._storage_protocol import capability
from sessioncore.live._polling import Polling
from sessioncore.live._watch import Watch
from sessioncore.live._watcher import Watcher
from sessioncore.persistence._drive import Driver
from sessioncore.persistence._persistence import StorePersistence
from sessioncore.persistence._store_context import StoreContext
from sessioncore.session._persistence import OnEnd
from sessioncore.session._state import SessionState

__all__ = ["LiveSessions", "persistence_for"]


def persistence_for(config: SessionConfig) -> StorePersistence:
    """Return what the store with this configuration consists of."""
    context = StoreContext(config)
    driver = Driver(config, context.events, context.health)
    return StorePersistence(context, driver, LiveSessions(context, driver))


class LiveSessions:
    """Notifies open connections and `alive` blocks when their sessions end."""

    __slots__ = ("_context", "_driver", "_watcher", "_watching")

    def __init__(self, context: StoreContext, driver: Driver) -> None:
        storage = context.config.storage
        self._context = context
        self._driver = driver
        watches = capability(storage, Watches)
        self._watching = Polling(storage) if watches is None else watches
        self._watcher: RunVar[Watcher] = RunVar("watcher")  # a store may serve several event loops

    def watch(self, state: SessionState, on_end: OnEnd) -> Watch:
        """Call `on_end` when the session ends; not when this request, or another, gives it a new ID.

        Raises:
            SessionGone: nothing is stored.
        """
        base = state.loaded
        if base is None:
            raise SessionGone(
                "there is no stored session to watch: it is fresh, or it was ended; log in, or save() first"
            )
        try:
            watcher = self._watcher.get()
        except LookupError:
            watcher = Watcher(self._context, self._driver, self._watching)
            self._watcher.set(watcher)
        return watcher.start(state, base, on_end)

    def close(self) -> None:
        """Stop watching in this event loop, because the store is closed."""
        if (watcher := self._watcher.get(None)) is not None:
            watcher.close()
