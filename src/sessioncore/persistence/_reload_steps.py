"""Reloads a session: takes over what other requests have stored meanwhile, as a machine without I/O.

`_load_answers` says what the answer of the storage means, `session._reload` what the session then shows.
Only a session that is stored has something to take over.
"""

from sessioncore._errors import StorageError
from sessioncore._events import EventKind
from sessioncore._storage_calls import Load, Touch
from sessioncore.persistence._load_answers import interpret_load
from sessioncore.persistence._machine import Answer, Step, unexpected_answer
from sessioncore.persistence._session_steps import SessionSteps
from sessioncore.persistence._verdicts import Verdict, verdict_of
from sessioncore.session._lifecycle import GONE, STALE, TOUCH
from sessioncore.session._loaded import Loaded
from sessioncore.session._reload import take_over

__all__ = ["ReloadSteps"]


class ReloadSteps(SessionSteps, eq=False):
    """Reloads one session once, when none of its writes is in flight."""

    touching: bool = False  # the current call renews the idle clock; else it loads the record

    def start(self) -> Step | None:
        """Return the load, if a record is stored."""
        state, context = self.state, self.context
        if state.loaded is not None:
            return Load(context.config.key_prefix + state.loaded.handle, context.renew_on_load, uncached=True)
        if state.phase is GONE or state.phase is STALE:
            self._set_gone_error()
        return None

    def answered(self, answer: Answer) -> Step | None:
        """Handle the record, or the renewal of its idle clock."""
        if (released := self.state.limits.write) is not None:  # another task has released the session meanwhile
            self._fail(released())
        elif self.touching:
            verdict = verdict_of(TOUCH, answer)
            if verdict is Verdict.RENEWED:
                self._finish_renewed()
            elif verdict is Verdict.GONE:
                self._gone()
            elif verdict is None:
                self._fail(unexpected_answer(self.context.config.storage, Touch.operation, answer))
        elif isinstance(answer, StorageError):
            self._fail(answer)
        else:
            return self._loaded(answer)
        return None

    def _loaded(self, answer: Answer) -> Step | None:
        state, context, loaded = self.state, self.context, self.state.loaded
        assert loaded is not None, "only this task can end the session while it has its turn"
        found = interpret_load(context, loaded.session_id, loaded.handle, answer, counts_as_use=True)
        if isinstance(found, Loaded):
            take_over(state, found)
            if found.renewal_due:
                self.touching = True
                return self._renewal()
            return None
        if found.kind is EventKind.CORRUPT:
            self._refuse_unreadable(found.detail)
        elif found.kind is EventKind.STALE_ID:
            self._queue_event(EventKind.STALE_ID)
            state.mark_stale()
            self._set_gone_error()
        else:
            self._gone(EventKind.EXPIRED if found.kind is EventKind.EXPIRED else EventKind.GONE, found.detail)
        return None
