"""Commits the changes of a request by one compare-and-set, as a machine without I/O.

If another request wrote meanwhile, this request's changes are applied to the current record
and written again, for at most `storage_timeout`. If the record is gone, the changes are
dropped. `_verdicts` defines what each answer means.

If the reply to an earlier write was lost, a commit first finds out whether that write was stored
(FIND), so that it is neither lost nor repeated: a record contains the time at which it was written,
so equal bytes mean yes. If not, it can still arrive before the next write: see `absent`.
"""

from time import monotonic
from typing import Final, TypeAlias, assert_never, cast

from msgspec import UNSET

from sessioncore._errors import CorruptRecord, StorageError
from sessioncore._events import EventKind
from sessioncore._storage_calls import Create, Load, Move, Moved, Replace, Stored
from sessioncore.codec._record import Record, decode_record, encode_record
from sessioncore.concurrency._standstill import PolledDeadline
from sessioncore.http._ids import handle_of
from sessioncore.persistence import _commit_errors as errors
from sessioncore.persistence._commit_events import ENDED_TTL, events_of_write
from sessioncore.persistence._load_answers import DEADLINE_DETAIL, UNREADABLE_DETAIL
from sessioncore.persistence._machine import Answer, Step, check_fields, unexpected_answer
from sessioncore.persistence._session_steps import SessionSteps
from sessioncore.persistence._verdicts import STORED, Verdict, verdict_of
from sessioncore.session._attempt import Attempt
from sessioncore.session._changes import changes_of
from sessioncore.session._delta import NO_CHANGES, Correction, Delta
from sessioncore.session._lifecycle import CREATE, FIND, GONE, NOTHING, REPLACE, STALE, TOUCH, Action, decide
from sessioncore.session._pending import Pending

__all__ = ["CommitSteps"]

Theirs: TypeAlias = tuple[Record, int]  # what other requests have made of the record, and its version

MAX_TAKEN_IDS: Final = 8  # IDs of 256 random bits never collide; eight collisions mean a broken generator
# The verdicts on the next write if the lost write has arrived just before it.
_MAY_BE_LATE: Final = frozenset({Verdict.CONFLICT, Verdict.MOVED, Verdict.TAKEN, Verdict.GONE})


class CommitSteps(SessionSteps, eq=False):
    """Commits one session once.

    Invariant: a write that was sent is the state's `in_flight`, and stays there if its outcome
    is unknown, even if the driver was cancelled.
    """

    action: Action = NOTHING  # of the current call
    correction: Correction | None = None  # of a login; sends no event, and is stored even after the absolute deadline
    tries: int = 1
    taken_ids: int = 0  # how many new IDs were in use already
    absent: tuple[Attempt, Pending | None] | None = None  # a lost write that FIND did not see, and the journal after it
    searched_twice: bool = False
    deadline: PolledDeadline | None = None  # by the monotonic clock; None: there was no conflict yet

    def __repr__(self) -> str:
        return f"<CommitSteps {self.action.name}>"

    def start(self) -> Step | None:
        """Return the first call of the commit; if the reply to an earlier write was lost, that is a load."""
        state, context = self.state, self.context
        if state.in_flight is not None:
            self.action = FIND
            return Load(context.config.key_prefix + state.in_flight.handle, uncached=True)
        delta, loaded = changes_of(state), state.loaded
        if delta is NO_CHANGES and state.pending is not None:
            state.drop_pending()
        changed, metadata = delta.has_changes(loaded), delta.metadata
        due = loaded is not None and (
            loaded.renewal_due or (self.explicit and context.lifetimes.is_renewal_due(loaded, context.config.clock()))
        )
        login = metadata.login is not None
        action = decide(state.phase, changed=changed, rotated=metadata.rotate, login=login, renewal_due=due)
        if action is TOUCH:
            self.action = TOUCH
            if (step := self._renewal()) is not None:
                return step
        elif action is not NOTHING:
            self.action = action
            return self._send(delta, state.pending)
        if state.phase is GONE or state.phase is STALE:
            self._set_gone_error()
        return None

    def start_create(self) -> Step | None:
        """Store a fresh session, even if it is empty."""
        self.action = CREATE
        return self._send(changes_of(self.state), self.state.pending)

    def start_correction(self) -> Step | None:
        """Store the `correction` of a login, whose record is the loaded one; the pending changes stay pending."""
        self.action = REPLACE
        return self._send(NO_CHANGES, None)

    def _send(
        self, delta: Delta, pending: Pending | None, new_id: str | None = None, theirs: Theirs | None = None
    ) -> Step | None:
        """Write the loaded record, or `theirs`, with the changes applied, unless its absolute deadline has passed."""
        context, state, action = self.context, self.state, self.action
        config, loaded = context.config, state.loaded
        if loaded is None:
            base, version, old, merged = None, 0, "", state.phase is STALE
        else:
            base, version, old, merged = loaded.record, loaded.version, loaded.handle, theirs is not None
            if theirs is not None:
                base, version = theirs
        now = config.clock()
        record = (self.correction or delta).apply_to(base, now, context.codec if merged else None)
        ttl = context.lifetimes.time_left(record.created_at, record.idle, record.absolute, now)
        if ttl <= 0.0:
            if self.correction is None and delta.metadata.settings.absolute is UNSET:
                self._gone(EventKind.EXPIRED, DEADLINE_DETAIL)
                return None
            ttl = ENDED_TTL  # store the change that ends the session: with the stored record it would live on
        data, prefix, owner = encode_record(record, config.max_size), config.key_prefix, record.owner
        if owner is not None:
            owner = prefix + owner
        call: Create | Replace | Move
        if action is REPLACE:
            handle = old
            call = Replace(prefix + handle, data, ttl, version, owner)
        else:
            new_id = new_id or state.next_id or state.choose_id(context.new_id())
            handle = handle_of(new_id)
            if action is CREATE:
                call = Create(prefix + handle, data, ttl, owner)
            else:
                call = Move(prefix + old, prefix + handle, data, ttl, version, owner, context.tombstone)
        state.begin_attempt(Attempt(action, call, record, delta, pending, new_id, handle, merged, base))
        return call

    def answered(self, answer: Answer) -> Step | None:
        """Handle the answer to the current call, and return the next one."""
        verdict = verdict_of(self.action, answer)
        if verdict is STORED:  # in most requests; looking up the other members is slow
            self._finish_stored(answer)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a version
            return None
        if verdict is None:  # the write stays in flight: it may have been stored all the same
            operation = Load.operation if self.action is FIND else self.action.name.lower()
            raise unexpected_answer(self.context.config.storage, operation, answer)
        try:
            return self._apply_verdict(verdict, answer)
        except BaseException:  # a value or a function of the user failed, and the last write has changed nothing
            self.state.roll_back()
            raise

    def _apply_verdict(self, verdict: Verdict, answer: Answer) -> Step | None:  # noqa: C901, PLR0912 - a case for each verdict
        state = self.state
        if self.absent is not None and verdict in _MAY_BE_LATE:
            return self._find_again()
        match verdict:
            case Verdict.CONFLICT:
                return self._conflict(cast("Stored", answer))
            case Verdict.MOVED:
                return self._moved(cast("Moved", answer))
            case Verdict.TAKEN:
                return self._retry_under_new_id()
            case Verdict.FOUND:
                return self._found(cast("Stored", answer))
            case Verdict.MISSING:
                return self._not_found()
            case Verdict.FOREIGN:
                self._refuse_unreadable(UNREADABLE_DETAIL)
            case Verdict.GONE:
                self._gone()
            case Verdict.RENEWED:
                self._finish_renewed()
            case Verdict.REFUSED:
                state.roll_back()
                self._fail(cast("StorageError", answer))
            case Verdict.UNKNOWN:
                self._fail(cast("StorageError", answer))
            case Verdict.OVERTAKEN:
                self._fail(errors.overtaken_error())
            case Verdict.IGNORED | Verdict.STORED:  # `answered` has handled the second
                pass
            case _:
                assert_never(verdict)
        return None

    def _finish_stored(self, version: int) -> None:
        before = self.state.loaded
        attempt = self.state.apply_committed(version)
        if self.context.events.has_listener and self.correction is None:
            self._queue(events_of_write(attempt, before, self.tries, self.context.lifetimes))

    def _moved(self, moved: Moved) -> Step | None:
        """Drop the changes, because the client has another ID now; a login starts another session with them."""
        attempt, state = self.state.current_attempt(), self.state
        if self.action is FIND and attempt.new_id is None:  # a replace: sent again, it shows what became of the record
            return self._not_found()
        if moved.key == self.context.config.key_prefix + attempt.handle:
            self._gone()  # our own move, whose reply was lost, had arrived; the record has ended since
            return None
        self._queue_event(EventKind.STALE_ID)
        if self.action is not FIND:  # else the lost write arrived, and moved on with the record
            state.roll_back()
        if state.mark_stale():
            return self.start()
        self._set_gone_error()
        return None

    def _conflict(self, current: Stored) -> Step | None:
        attempt, now = self.state.current_attempt(), monotonic()
        if self.deadline is None:
            self.deadline = PolledDeadline(now + self.context.config.storage_timeout.total_seconds())
        if self.deadline.left(now) <= 0:
            self.state.roll_back()
            self._queue_event(EventKind.CONFLICT, str(self.tries))
            self._fail(errors.conflict_error())
            return None
        try:
            record = decode_record(current.data, self.context.config.max_size)
        except CorruptRecord as exc:  # for example, a newer version of the program wrote it: leave it unchanged
            self._refuse_unreadable(str(exc))
            return None
        except TypeError:
            check_fields(self.context.config.storage, self.action.name.lower(), current)
            raise
        self.tries += 1
        return self._send(attempt.delta, attempt.pending, attempt.new_id, (record, current.version))

    def _retry_under_new_id(self) -> Step | None:
        attempt = self.state.current_attempt()
        self.taken_ids += 1
        if self.taken_ids == MAX_TAKEN_IDS:
            self.state.roll_back()
            self._fail(errors.id_error())
            return None
        return self._send(attempt.delta, attempt.pending, self.state.choose_id(self.context.new_id()))

    def _found(self, current: Stored) -> Step | None:
        """Compare the stored record with the write whose reply was lost."""
        attempt = self.state.current_attempt()
        if attempt.is_stored_as(current):
            self._finish_stored(current.version)
            return self.start()
        if isinstance(attempt.call, Replace) and current.version == attempt.call.version:
            return self._not_found()
        self._fail(errors.overtaken_error())
        return None

    def _not_found(self) -> Step | None:
        """The lost write was not stored, or not yet: write its changes together with the later ones."""
        state = self.state
        if not self.searched_twice:
            state.adopt_defaults()  # now, or the next write would note them in the journal of the lost one
            self.absent = state.current_attempt(), state.pending
        state.roll_back()
        return self.start()

    def _find_again(self) -> Step | None:
        """Something was stored or moved before this write: find out whether it was the lost write, arriving late."""
        assert self.absent is not None
        self.state.undo_roll_back(*self.absent)
        self.absent, self.searched_twice = None, True
        return self.start()
