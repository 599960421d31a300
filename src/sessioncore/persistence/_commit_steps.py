"""Committing: from what a request changed to the calls that store it, as a machine without I/O.

One compare-and-set. When others wrote meanwhile, this request's own changes are applied to
the current record and tried again, for as long as `storage_timeout` allows; when the
record is gone, the changes are dropped.
`_verdicts` says what each answer means.

FIND looks for an earlier write whose reply was lost, before anything else is sent: it must
be neither lost nor done twice. Its bytes tell: they hold the time of writing, so another
request's are not the same.
"""

from time import monotonic
from typing import Final, assert_never, cast

from msgspec import Struct

from sessioncore._errors import CorruptRecord, SessionError, SessionGone, StorageError, StorageUnavailable
from sessioncore._events import EventKind
from sessioncore._storage_calls import Create, Load, Move, Replace, Stored, Touch
from sessioncore.codec._record import Record, decode_record, encode_record
from sessioncore.http._ids import handle_of
from sessioncore.persistence._drive import Answer, Step, Telling
from sessioncore.persistence._load_steps import FOREIGN
from sessioncore.persistence._store_context import StoreContext
from sessioncore.persistence._verdicts import Verdict, verdict_of
from sessioncore.session._attempt import Attempt
from sessioncore.session._changes import changes_of
from sessioncore.session._delta import NO_CHANGES, Delta
from sessioncore.session._lifecycle import CREATE, GONE, MOVE, NOTHING, REPLACE, TOUCH, Action, decide
from sessioncore.session._loaded import Loaded
from sessioncore.session._merge import Rewrite
from sessioncore.session._pending import Pending
from sessioncore.session._state import SessionState

__all__ = ["CommitSteps"]

TRIES_FOR_AN_ID: Final = 8  # one collision of 256-bit IDs will never be seen; eight mean a broken generator
FIND = Action.FIND
STORED = Verdict.STORED


class CommitSteps(Struct, eq=False):
    """Commits one session once.

    Invariant: while a write is under way it is the state's `in_flight`; it stays there if
    its outcome is unknown, also when the driver was cancelled.
    """

    context: StoreContext
    state: SessionState
    explicit: bool = False  # a verb of the handler: SessionGone is raised, and the idle clock is looked at
    undo: bool = False  # takes a login back: no event, and no deadline keeps it from being stored
    rewrite: Rewrite | None = None  # what becomes of the record; None: no write is under way
    action: Action = NOTHING  # of the call under way
    tries: int = 1
    ids: int = 0  # that were taken
    give_up_at: float = 0.0  # by the monotonic clock; 0: no conflict yet
    events: list[Telling] | None = None
    error: SessionError | None = None

    def __repr__(self) -> str:
        return f"<CommitSteps {self.action.name}>"

    def start(self) -> Step | None:
        """Return the call that a commit needs; first look for an earlier write whose reply was lost."""
        state, context = self.state, self.context
        if state.in_flight is not None:
            self.action = FIND
            return Load(context.config.key_prefix + state.in_flight.handle)
        delta, loaded = changes_of(state), state.loaded
        if delta is None and state.pending is not None:
            state.forget_unchanged()
        changed = delta is not None and delta.has_changes(stored=loaded is not None)
        rotated = delta is not None and delta.metadata.rotate
        due = loaded is not None and (loaded.renewal_due or (self.explicit and self._is_stale(loaded)))
        action = decide(state.phase, changed=changed, rotated=rotated, renewal_due=due)
        if action is TOUCH and loaded is not None:
            ttl = context.lifetimes.left(loaded.record.created_at, loaded.record.idle, context.config.clock())
            if ttl > 0:
                self.action = TOUCH
                return Touch(context.config.key_prefix + loaded.handle, ttl)
        elif action is not NOTHING and delta is not None:
            self.action, self.rewrite = action, delta
            return self._send(delta, state.pending)
        if state.phase is GONE:
            self._gone()
        return None

    def start_create(self) -> Step | None:
        """Store a fresh session, also an empty one."""
        self.action, self.rewrite = CREATE, changes_of(self.state) or NO_CHANGES
        return self._send(self.rewrite, self.state.pending)

    def start_rewrite(self, action: Action, rewrite: Rewrite) -> Step | None:
        """Store what `rewrite` makes of the record; what this request has pending is left alone."""
        self.action, self.rewrite = action, rewrite
        return self._send(NO_CHANGES, None)

    def answered(self, answer: Answer) -> Step | None:
        """Take the reply to the call under way."""
        verdict = verdict_of(self.action, answer)
        try:
            if verdict is STORED:
                return self._stored(cast("int", answer))
            return self._take(verdict, answer)
        except BaseException:  # a value or a function of the user's failed; what was sent before has changed nothing
            self.state.roll_back()
            raise

    def _send(
        self, delta: Delta, pending: Pending | None, new_id: str | None = None, theirs: tuple[Record, int] | None = None
    ) -> Step | None:
        """Write what results on top of the record that was loaded, or of `theirs`; not past its absolute deadline."""
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
        record = rewrite.on(base, now, context.codec if merged else None)
        ttl = context.lifetimes.left(record.created_at, record.idle, now)
        if ttl <= 0.0:
            if not self.undo:
                self._expire()
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
            call = Move(f"{prefix}{old}", prefix + handle, data, ttl, version, owner)
        state.send(Attempt(action, call, record, delta, pending, new_id, handle, merged))
        return call

    def _take(self, verdict: Verdict, answer: Answer) -> Step | None:  # noqa: C901, PLR0912 - a case for each verdict
        state = self.state
        match verdict:
            case Verdict.STORED:
                return self._stored(cast("int", answer))
            case Verdict.CONFLICT:
                return self._conflict(cast("Stored", answer))
            case Verdict.TAKEN:
                return self._taken()
            case Verdict.FOUND:
                return self._found(cast("Stored", answer))
            case Verdict.MISSING:
                state.roll_back()
                return self.start()
            case Verdict.FOREIGN:
                return self._foreign(FOREIGN)
            case Verdict.GONE:
                if not self.undo:
                    self._tell(EventKind.GONE, *self._who())
                state.mark_gone()
                self._gone()
            case Verdict.RENEWED:
                self._renewed()
            case Verdict.REFUSED:
                state.roll_back()
                self.error = cast("StorageError", answer)
            case Verdict.UNKNOWN:
                self.error = cast("StorageError", answer)
            case Verdict.OVERTAKEN:
                self.error = _overtaken()
            case Verdict.IGNORED:
                pass
            case _:
                assert_never(verdict)
        return None

    def _stored(self, version: int) -> Step | None:
        state = self.state
        was = state.loaded
        sent = state.apply_committed(version)
        if self.undo:
            return None
        owner, action = sent.record.owner, sent.action
        if self.tries > 1:
            self._tell(EventKind.CONFLICT, None if was is None else was.handle, owner, str(self.tries))
        if action is CREATE:
            self._tell(EventKind.CREATED, sent.handle, owner)
        elif action is MOVE and was is not None:
            self._tell(EventKind.REGENERATED, sent.handle, owner, f"was {was.handle}")
        return None

    def _conflict(self, there: Stored) -> Step | None:
        sent, now = self.state.sent(), monotonic()
        self.give_up_at = self.give_up_at or now + self.context.config.storage_timeout.total_seconds()
        if now >= self.give_up_at:
            self.state.roll_back()
            self.error = StorageUnavailable("others kept writing this session until storage_timeout; try again")
            return None
        try:
            record = decode_record(there.data, self.context.config.max_size)
        except CorruptRecord as exc:  # a newer version of the program wrote it meanwhile: leave it alone
            return self._foreign(str(exc))
        self.tries += 1
        return self._send(sent.delta, sent.pending, sent.new_id, (record, there.version))

    def _taken(self) -> Step | None:
        sent = self.state.sent()
        self.ids += 1
        if self.ids == TRIES_FOR_AN_ID:
            self.state.roll_back()
            self.error = StorageError("id_generator returned taken IDs eight times in a row; it must be random")
            return None
        new_id = self.state.choose_id(self.context.new_id())
        return self._send(sent.delta, sent.pending, new_id)

    def _found(self, there: Stored) -> Step | None:
        """Compare what is there with the write whose reply was lost."""
        sent = self.state.sent()
        if there.data == sent.call.data:
            self._stored(there.version)
        elif isinstance(sent.call, Replace) and there.version == sent.call.version:
            self.state.roll_back()  # it did not arrive
        else:
            self.error = _overtaken()
            return None
        return self.start()

    def _renewed(self) -> None:
        loaded, now = self.state.loaded, self.context.config.clock()
        if loaded is not None:
            ttl = self.context.lifetimes.left(loaded.record.created_at, loaded.record.idle, now)
            self.state.take_renewed(ttl, now)
            self._tell(EventKind.RENEWED, loaded.handle, loaded.record.owner)

    def _foreign(self, why: str) -> Step | None:
        handle, _ = self._who()
        self._tell(EventKind.CORRUPT, handle, None, why)
        self.state.roll_back()
        self.error = StorageError("the session was rewritten in a form that cannot be read here; nothing was stored")
        return None

    def _expire(self) -> None:
        handle, owner = self._who()
        self._tell(EventKind.EXPIRED, handle, owner, "the absolute deadline has passed")
        self.state.mark_gone()
        self._gone()

    def _gone(self) -> None:
        if self.explicit:
            self.error = SessionGone(
                "the session was ended meanwhile, and nothing was stored; reset() or destroy() starts a new one"
            )

    def _is_stale(self, loaded: Loaded) -> bool:
        now, record, lifetimes = self.context.config.clock(), loaded.record, self.context.lifetimes
        full = lifetimes.left(record.created_at, record.idle, now)
        return lifetimes.is_stale(full, record.idle, loaded.ttl - (now - loaded.at))

    def _who(self) -> tuple[str | None, str | None]:
        loaded = self.state.loaded
        return (None, None) if loaded is None else (loaded.handle, loaded.record.owner)

    def _tell(self, kind: EventKind, handle: str | None, owner: str | None, detail: str = "") -> None:
        if not self.context.events.heard:
            return
        if self.events is None:
            self.events = []
        self.events.append((kind, handle, owner, detail))


def _overtaken() -> StorageUnavailable:
    return StorageUnavailable("others wrote this session, perhaps on top of a write whose reply was lost")
