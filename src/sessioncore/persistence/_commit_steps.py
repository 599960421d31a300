"""Commits the changes of a request by one compare-and-set, as a machine without I/O.

If another request wrote meanwhile, this request's changes are applied to the current record
and written again, for at most `storage_timeout`. If the record is gone, the changes are
dropped. `_verdicts` defines what each answer means.

If the reply to an earlier write was lost, a commit first loads the record (FIND), so that the
write is neither lost nor repeated. The record contains the time at which it was written, so
equal bytes mean that the write was stored.
"""

from time import monotonic
from typing import Final, TypeAlias, assert_never, cast

from msgspec import Struct

from sessioncore._errors import CorruptRecord, SessionError, SessionGone, StorageError, StorageUnavailable
from sessioncore._events import EventKind
from sessioncore._storage_calls import Create, Load, Move, Moved, Replace, Stored, Touch
from sessioncore.codec._record import Record, decode_record, encode_record
from sessioncore.http._ids import handle_of
from sessioncore.persistence._drive import Answer, QueuedEvent, Step
from sessioncore.persistence._load_steps import UNREADABLE_DETAIL
from sessioncore.persistence._store_context import StoreContext
from sessioncore.persistence._verdicts import Verdict, verdict_of
from sessioncore.session._attempt import Attempt
from sessioncore.session._changes import changes_of
from sessioncore.session._delta import NO_CHANGES, Delta
from sessioncore.session._lifecycle import CREATE, FIND, GONE, MOVE, NOTHING, REPLACE, STALE, TOUCH, Action, decide
from sessioncore.session._loaded import Loaded
from sessioncore.session._merge import Rewrite
from sessioncore.session._pending import UNCHANGED, Pending
from sessioncore.session._state import SessionState

__all__ = ["CommitSteps"]

Theirs: TypeAlias = tuple[Record | None, int]  # what other requests have made of the record, and its version

MAX_TAKEN_IDS: Final = 8  # IDs of 256 random bits never collide; eight collisions mean a broken generator


class CommitSteps(Struct, eq=False):
    """Commits one session once.

    Invariant: a write that was sent is the state's `in_flight`, and stays there if its outcome
    is unknown, even if the driver was cancelled.
    """

    context: StoreContext
    state: SessionState
    explicit: bool = False  # the handler called save(): raise SessionGone, and check the idle clock
    undo: bool = False  # undo a login: send no event, and store it even after the absolute deadline
    rewrite: Rewrite | None = None  # the changes to the record; None: nothing is being written
    action: Action = NOTHING  # of the current call
    tries: int = 1
    taken_ids: int = 0  # how many new IDs were in use already
    give_up_at: float = 0.0  # by the monotonic clock; 0: there was no conflict yet
    events: list[QueuedEvent] | None = None
    error: SessionError | None = None

    def __repr__(self) -> str:
        return f"<CommitSteps {self.action.name}>"

    def start(self) -> Step | None:
        """Return the first call of the commit; if the reply to an earlier write was lost, that is a load."""
        state, context = self.state, self.context
        if state.in_flight is not None:
            self.action = FIND
            return Load(context.config.key_prefix + state.in_flight.handle)
        delta, loaded = changes_of(state), state.loaded
        if delta is None and state.pending is not None:
            state.drop_pending()
        changed = delta is not None and delta.has_changes(stored=loaded is not None)
        metadata = UNCHANGED if delta is None else delta.metadata
        due = loaded is not None and (loaded.renewal_due or (self.explicit and self._is_stale(loaded)))
        action = decide(state.phase, changed=changed, rotated=metadata.rotate, login=metadata.login, renewal_due=due)
        if action is TOUCH and loaded is not None:
            ttl = context.lifetimes.time_left(loaded.record.created_at, loaded.record.idle, context.config.clock())
            if ttl > 0:
                self.action = TOUCH
                return Touch(context.config.key_prefix + loaded.handle, ttl)
        elif action is not NOTHING and delta is not None:
            self.action, self.rewrite = action, delta
            return self._send(delta, state.pending)
        if state.phase is GONE or state.phase is STALE:
            self._set_gone_error()
        return None

    def start_create(self) -> Step | None:
        """Store a fresh session, even if it is empty."""
        self.action, self.rewrite = CREATE, changes_of(self.state) or NO_CHANGES
        return self._send(self.rewrite, self.state.pending)

    def start_rewrite(self, action: Action, rewrite: Rewrite) -> Step | None:
        """Store the record as `rewrite` changes it; the pending changes of this request stay pending."""
        self.action, self.rewrite = action, rewrite
        return self._send(NO_CHANGES, None)

    def answered(self, answer: Answer) -> Step | None:
        """Handle the answer to the current call, and return the next one."""
        verdict = verdict_of(self.action, answer)
        try:
            return self._apply_verdict(verdict, answer)
        except BaseException:  # a value or a function of the user failed, and the last write has changed nothing
            self.state.roll_back()
            raise

    def _send(
        self, delta: Delta, pending: Pending | None, new_id: str | None = None, theirs: Theirs | None = None
    ) -> Step | None:
        """Write the loaded record, or `theirs`, with the changes applied, unless its absolute deadline has passed."""
        context, state, rewrite, action = self.context, self.state, self.rewrite, self.action
        config, loaded, version = context.config, state.loaded, 0
        assert rewrite is not None
        if new_id is None and action is not REPLACE:
            new_id = state.next_id or state.choose_id(context.new_id())
        base = None
        if theirs is not None:
            base, version = theirs
        elif loaded is not None:
            base, version = loaded.record, loaded.version
        now, merged = config.clock(), theirs is not None
        record = rewrite.apply_to(base, now, context.codec if merged else None)
        ttl = context.lifetimes.time_left(record.created_at, record.idle, now)
        if ttl <= 0.0:
            if not self.undo:
                self._gone(EventKind.EXPIRED, "the absolute deadline has passed")
                return None
            ttl = 0.001
        data, prefix, owner = encode_record(record, config.max_size), config.key_prefix, record.owner
        if owner is not None:
            owner = prefix + owner
        call: Create | Replace | Move
        old = None if loaded is None else loaded.handle
        handle = old if new_id is None else handle_of(new_id)
        assert handle is not None
        if action is CREATE:
            call = Create(prefix + handle, data, ttl, owner)
        elif action is REPLACE:
            call = Replace(prefix + handle, data, ttl, version, owner)
        else:
            call = Move(f"{prefix}{old}", prefix + handle, data, ttl, version, owner, context.tombstone)
        state.begin_attempt(Attempt(action, call, record, delta, pending, new_id, handle, merged))
        return call

    def _apply_verdict(self, verdict: Verdict, answer: Answer) -> Step | None:  # noqa: C901, PLR0912 - a case for each verdict
        state = self.state
        match verdict:
            case Verdict.STORED:
                return self._finish_stored(cast("int", answer))
            case Verdict.CONFLICT:
                return self._conflict(cast("Stored", answer))
            case Verdict.MOVED:
                return self._moved(cast("Moved", answer))
            case Verdict.TAKEN:
                return self._retry_under_new_id()
            case Verdict.FOUND:
                return self._found(cast("Stored", answer))
            case Verdict.MISSING:
                state.roll_back()
                return self.start()
            case Verdict.FOREIGN:
                return self._refuse_unreadable(UNREADABLE_DETAIL)
            case Verdict.GONE:
                self._gone()
            case Verdict.RENEWED:
                self._finish_renewed()
            case Verdict.REFUSED:
                state.roll_back()
                self.error = cast("StorageError", answer)
            case Verdict.UNKNOWN:
                self.error = cast("StorageError", answer)
            case Verdict.OVERTAKEN:
                self.error = _overtaken_error()
            case Verdict.IGNORED:
                pass
            case _:
                assert_never(verdict)
        return None

    def _finish_stored(self, version: int) -> Step | None:
        state = self.state
        before = state.loaded
        attempt = state.apply_committed(version)
        if self.undo:
            return None
        owner, action = attempt.record.owner, attempt.action
        if self.tries > 1:
            self._queue_event(EventKind.CONFLICT, None if before is None else before.handle, owner, str(self.tries))
        if action is CREATE:
            self._queue_event(EventKind.CREATED, attempt.handle, owner)
        elif action is MOVE and before is not None:
            kind = EventKind.LOGIN if attempt.delta.metadata.login else EventKind.REGENERATED
            self._queue_event(kind, attempt.handle, owner, f"was {before.handle}")
        return None

    def _gone(self, kind: EventKind = EventKind.GONE, detail: str = "") -> None:
        if not self.undo:
            self._queue_event(kind, *self._handle_and_owner(), detail)
        self.state.mark_gone()
        self._set_gone_error()

    def _moved(self, moved: Moved) -> Step | None:
        """Drop the changes, because the client has another ID now; a login starts another session with them."""
        attempt, state = self.state.current_attempt(), self.state
        if self.action is FIND and attempt.new_id is None:  # a replace; sent again, it learns what became of the record
            state.roll_back()
            return self.start()
        if moved.key == self.context.config.key_prefix + attempt.handle:
            self._gone()  # our own move, whose reply was lost, had arrived; the record has ended since
            return None
        if not self.undo:
            self._queue_event(EventKind.STALE_ID, *self._handle_and_owner())
        if self.action is MOVE and attempt.delta.metadata.login:
            state.mark_stale(drop=False)
            self.action = CREATE
            return self._send(attempt.delta, attempt.pending, attempt.new_id, (None, 0))
        state.mark_stale(drop=True)
        self._set_gone_error()
        return None

    def _conflict(self, current: Stored) -> Step | None:
        attempt, now = self.state.current_attempt(), monotonic()
        self.give_up_at = self.give_up_at or now + self.context.config.storage_timeout.total_seconds()
        if now >= self.give_up_at:
            self.state.roll_back()
            self.error = StorageUnavailable("other requests kept writing this session until storage_timeout; try again")
            return None
        try:
            record = decode_record(current.data, self.context.config.max_size)
        except CorruptRecord as exc:  # for example, a newer version of the program wrote it: leave it unchanged
            return self._refuse_unreadable(str(exc))
        self.tries += 1
        return self._send(attempt.delta, attempt.pending, attempt.new_id, (record, current.version))

    def _retry_under_new_id(self) -> Step | None:
        attempt = self.state.current_attempt()
        self.taken_ids += 1
        if self.taken_ids == MAX_TAKEN_IDS:
            self.state.roll_back()
            self.error = StorageError("id_generator returned IDs in use eight times in a row; make it random")
            return None
        new_id = self.state.choose_id(self.context.new_id())
        return self._send(attempt.delta, attempt.pending, new_id)

    def _found(self, current: Stored) -> Step | None:
        """Compare the stored record with the write whose reply was lost."""
        attempt = self.state.current_attempt()
        if current.data == attempt.call.data:
            self._finish_stored(current.version)
        elif isinstance(attempt.call, Replace) and current.version == attempt.call.version:
            self.state.roll_back()  # the write was not stored
        else:
            self.error = _overtaken_error()
            return None
        return self.start()

    def _finish_renewed(self) -> None:
        loaded, now = self.state.loaded, self.context.config.clock()
        if loaded is not None:
            ttl = self.context.lifetimes.time_left(loaded.record.created_at, loaded.record.idle, now)
            self.state.apply_renewed(ttl, now)
            self._queue_event(EventKind.RENEWED, loaded.handle, loaded.record.owner)

    def _refuse_unreadable(self, why: str) -> Step | None:
        self._queue_event(EventKind.CORRUPT, self._handle_and_owner()[0], None, why)
        self.state.roll_back()
        self.error = StorageError(
            "the session was overwritten by something that cannot be read here, so nothing was stored; see `corrupt`"
        )
        return None

    def _set_gone_error(self) -> None:
        if self.explicit:
            self.error = SessionGone(
                "the session was ended meanwhile, and nothing was stored; call reset() or destroy() to start a new one"
            )

    def _is_stale(self, loaded: Loaded) -> bool:
        now, record, lifetimes = self.context.config.clock(), loaded.record, self.context.lifetimes
        renewed_ttl = lifetimes.time_left(record.created_at, record.idle, now)
        return lifetimes.is_stale(renewed_ttl, record.idle, loaded.ttl - (now - loaded.as_of))

    def _handle_and_owner(self) -> tuple[str | None, str | None]:
        loaded = self.state.loaded
        return (None, None) if loaded is None else (loaded.handle, loaded.record.owner)

    def _queue_event(self, kind: EventKind, handle: str | None, owner: str | None, detail: str = "") -> None:
        if not self.context.events.has_listener:
            return
        if self.events is None:
            self.events = []
        self.events.append((kind, handle, owner, detail))


def _overtaken_error() -> StorageUnavailable:
    return StorageUnavailable(
        "the reply to a write was lost, and another request has written since; try again in a new request"
    )
