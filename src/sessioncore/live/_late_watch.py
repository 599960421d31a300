"""The watch of an open connection that has not used its session yet."""

from collections.abc import Callable

from msgspec import Struct

from sessioncore._opaque import Opaque
from sessioncore.concurrency._event_loops import caller_from_any_thread, event_loop
from sessioncore.session._loaded import Loaded
from sessioncore.session._protocols import Watch
from sessioncore.session._state import SessionState

__all__ = ["LateWatch"]


class LateWatch(Opaque, Struct, eq=False):
    """Begins with the first use of the session, and knows the record as it was before: that use may end it."""

    _begin: Callable[[SessionState, Loaded], Watch] | None  # None: stopped
    _watch: Watch | None = None

    def on_use(self) -> Callable[[SessionState], None]:
        """Return what the first use of the session must call, in whichever thread; call this in the event loop."""
        call_soon = caller_from_any_thread(event_loop())

        def begin_soon(state: SessionState) -> None:
            if state.loaded is not None:
                call_soon(self._begin_watch, state, state.loaded)

        return begin_soon

    def _begin_watch(self, state: SessionState, base: Loaded) -> None:
        if self._begin is not None:
            self._watch = self._begin(state, base)

    def message_received(self) -> None:
        """Count a message from the client as a use, if the session is watched."""
        if self._watch is not None:
            self._watch.message_received()

    def stop(self) -> None:
        """Stop watching the session, or do not begin to."""
        self._begin = None
        if self._watch is not None:
            self._watch.stop()
