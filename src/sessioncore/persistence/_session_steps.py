"""What committing and reloading share: a renewal of the idle clock, and a record that is gone or unreadable."""

from msgspec import Struct

from sessioncore._errors import SessionError
from sessioncore._events import EventKind
from sessioncore._opaque import Opaque
from sessioncore._storage_calls import Touch
from sessioncore.persistence import _commit_errors as errors
from sessioncore.persistence._machine import QueuedEvent, Step
from sessioncore.persistence._store_context import StoreContext
from sessioncore.session._lifecycle import STALE
from sessioncore.session._state import SessionState

__all__ = ["SessionSteps"]


class SessionSteps(Opaque, Struct, eq=False):
    """The base of `CommitSteps` and `ReloadSteps`; see `_machine`."""

    context: StoreContext
    state: SessionState
    explicit: bool = False  # the handler called save() or reload(): raise SessionGone, and check the idle clock
    events: list[QueuedEvent] | None = None  # None: there are none
    error: SessionError | None = None  # raised at the end; None: there is none

    def _renewal(self) -> Step | None:
        """Return the call that renews the idle clock; None if the absolute deadline has passed."""
        context, loaded = self.context, self.state.loaded
        assert loaded is not None, "only a stored session has an idle clock"
        ttl = context.lifetimes.renewed_ttl(loaded.record, context.config.clock())
        return Touch(context.config.key_prefix + loaded.handle, ttl) if ttl > 0 else None

    def _finish_renewed(self) -> None:
        loaded, now = self.state.loaded, self.context.config.clock()
        assert loaded is not None, "only a stored session has an idle clock"
        self.state.apply_renewed(self.context.lifetimes.renewed_ttl(loaded.record, now), now)
        self._queue_event(EventKind.RENEWED)

    def _gone(self, kind: EventKind = EventKind.GONE, detail: str = "") -> None:
        self._queue_event(kind, detail)
        self.state.mark_gone()
        self._set_gone_error()

    def _refuse_unreadable(self, why: str) -> None:
        self._queue([QueuedEvent(EventKind.CORRUPT, self.state.handle, detail=why)])
        self.state.roll_back()
        self._fail(errors.unreadable_error())

    def _set_gone_error(self) -> None:
        if self.explicit:
            self._fail(errors.gone_error(stale=self.state.phase is STALE))

    def _fail(self, error: SessionError) -> None:
        self.error = error

    def _queue_event(self, kind: EventKind, detail: str = "") -> None:
        """Queue an event about the stored session, if anybody listens."""
        if self.context.events.has_listener:
            loaded = self.state.loaded
            handle, owner = (None, None) if loaded is None else (loaded.handle, loaded.record.owner)
            self._queue([QueuedEvent(kind, handle, owner, detail)])

    def _queue(self, events: list[QueuedEvent]) -> None:
        if events:
            self.events = [*(self.events or ()), *events]
