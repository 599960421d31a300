"""The state of one session in one request: the loaded record and the request's changes. No I/O.

`Session` is its interface for handlers; `persistence` loads and stores it.
"""

from msgspec import Struct
from msgspec.structs import replace

from sessioncore._errors import LifecycleError
from sessioncore._opaque import Opaque
from sessioncore.http._ids import handle_of
from sessioncore.session._attempt import Attempt
from sessioncore.session._error_factories import ErrorFactory, changes_dropped, released, response_started
from sessioncore.session._lifecycle import END, ENDED, FRESH, LIVE, LOST, MOVED, NEXT_PHASE, STORED, Phase, Verb
from sessioncore.session._limits import CHANGES_DROPPED, NO_LIMITS, RELEASED, RESPONSE_STARTED, Limits
from sessioncore.session._loaded import Loaded
from sessioncore.session._merge import take_merged
from sessioncore.session._pending import NO_METADATA, SET, Pending
from sessioncore.session._settings import NO_SETTINGS, Settings
from sessioncore.session._turn import Turn
from sessioncore.session._values import Values

__all__ = ["SessionState"]


class SessionState(Opaque, Struct, eq=False):
    """Everything that a request knows about a session and has changed in it.

    Invariants: `loaded` is set if and only if the phase is LIVE; `former` is not set then. A write whose outcome
    is not known is `in_flight`, and its changes are not in `pending`. If `dirty` returns False, a commit has
    nothing to store.
    """

    values: Values
    phase: Phase = FRESH
    loaded: Loaded | None = None  # the stored record; None: there is none that this session may change
    pending: Pending | None = None  # None: nothing was written since the last commit
    in_flight: Attempt | None = None  # sent, and its outcome is not known; None: no such write
    turn: Turn | None = None  # of the task that commits, reloads or ends the session; None: no task does
    limits: Limits = NO_LIMITS  # what the request may not do
    former: Loaded | str | None = None  # the record that another request has ended or moved, else see `former_id`
    next_id: str | None = None  # the ID of the next record, or after the next rotation; None: not chosen yet
    settings: Settings = NO_SETTINGS  # all that this request has set, also what is stored by now

    def __repr__(self) -> str:
        return f"<SessionState {self.phase.name.lower()}>"  # the fields contain the ID and values

    def dirty(self) -> bool:
        """Whether a commit has anything to do: compare values, store changes, find a lost write, wait for its turn."""
        values = self.values
        if self.pending is not None or values.snapshots is not None or values.issued_defaults is not None:
            return True
        return self.in_flight is not None or self.turn is not None

    def modified(self) -> bool:
        """Whether a value, the owner or a setting was changed, and the change is not known to be stored."""
        self.adopt_defaults()
        pending, values = self.pending, self.values
        if self.in_flight is not None or (pending is not None and (pending.changes or pending.metadata != NO_METADATA)):
            return True
        return any(values.differs_from_snapshot(name) for name in values.snapshots or ())

    @property
    def rotating(self) -> bool:
        """Whether a new ID was requested and is not stored yet."""
        return self.pending is not None and self.pending.metadata.rotate

    # -- identity

    @property
    def known_id(self) -> str | None:
        """The current ID: the next one, else the record's, else the former one; None if none was chosen yet."""
        if self.next_id is not None:
            return self.next_id
        if self.loaded is not None:
            return self.loaded.session_id
        return None if self.phase is FRESH else self.former_id

    @property
    def former_id(self) -> str | None:
        """The client's ID that has ended, was replaced, or whose record was rejected (FRESH); else None."""
        return self.former.session_id if isinstance(self.former, Loaded) else self.former

    def choose_id(self, session_id: str) -> str:
        """Set the ID of the next record, and return it."""
        self.next_id = session_id
        return session_id

    @property
    def handle(self) -> str | None:
        """The handle of the stored record, else of the current ID; None if none was chosen yet."""
        if self.loaded is not None:
            return self.loaded.handle
        known = self.known_id
        return None if known is None else handle_of(known)

    # -- changes

    def begin_write(self) -> Pending:
        """Return the journal, for a write.

        Raises:
            SessionReleased: the session was released.
            ResponseStarted: the ID of a new session could not reach the client any more.
            CrossSiteRequest: another site made the request.
        """
        if self.limits.write is not None:
            raise self.limits.write()
        if self.phase is not LIVE:  # a write changes no phase: see TRANSITIONS
            if self.limits.new_id is not None and (self.phase is FRESH or self.phase is ENDED):  # else it needs none
                raise self.limits.new_id()
            if self.phase is ENDED:
                self.former = None  # this write begins another session
        if self.pending is None:
            self.pending = Pending()
        return self.pending

    def change_settings(self, settings: Settings) -> None:
        """Set timeouts or the persistence of this session; login and reset keep what this request has set."""
        pending = self.begin_write()
        pending.change_metadata(settings=pending.metadata.settings.then(settings))
        self.settings = self.settings.then(settings)

    def begin_rotation(self, new_id: str) -> Pending:
        """Note in the journal, which is returned, that the session gets this new ID.

        Raises:
            ResponseStarted, SessionReleased, CrossSiteRequest: as in `begin_write`.
        """
        if self.limits.new_id is not None:
            raise self.limits.new_id()
        pending = self.begin_write()
        pending.change_metadata(rotate=True)
        self.next_id = new_id
        return pending

    def check_writable(self) -> None:
        """Raise if the session cannot be written to."""
        if self.limits.write is not None:
            raise self.limits.write()

    def check_not_started(self) -> None:
        """Raise if the session cannot be written to, or a new ID could not reach the client."""
        if self.limits.new_id is response_started:
            raise response_started()
        self.check_writable()

    def check_not_released(self) -> None:
        """Raise if the session was released."""
        if self.limits is RELEASED:
            raise released()

    def adopt_defaults(self) -> None:
        """Turn typed defaults that were changed in place into values; not after the release."""
        if self.limits is RELEASED:
            return
        for name, value in self.values.changed_defaults().items():
            self.begin_write().changes[name] = SET
            self.values.items[name] = value

    # -- a commit

    def begin_attempt(self, attempt: Attempt) -> None:
        """Set aside the journal that is being stored: changes made meanwhile belong to the next commit."""
        self.in_flight = attempt
        if attempt.pending is self.pending:  # else an earlier attempt of the same commit has set it aside
            self.pending = None

    def current_attempt(self) -> Attempt:
        """Return the write that is in flight."""
        assert self.in_flight is not None, "there is a reply, but no write is in flight"
        return self.in_flight

    def roll_back(self) -> None:
        """After a commit that stored nothing, put its journal back, below later changes; a release has dropped it."""
        attempt, self.in_flight = self.in_flight, None
        if attempt is not None and attempt.pending is not None and self.limits.write is None:
            self.pending = attempt.pending.then(self.pending)

    def undo_roll_back(self, attempt: Attempt, later: Pending | None) -> None:
        """Put `attempt` back in flight; `later` is the journal that was pending besides it."""
        self.in_flight = attempt
        self.pending = self.pending if later is None else later.then(self.pending)

    def drop_pending(self) -> None:
        """Drop the journal, because its changes equal what is stored."""
        self.pending = None

    def apply_committed(self, version: int) -> Attempt:
        """Make the record that was just stored the loaded one; return the attempt that stored it."""
        attempt, origin = self.in_flight, ""
        assert attempt is not None, "there is a reply, but no write is in flight"
        if self.phase is not LIVE:
            origin = attempt.handle if self.phase is ENDED else ""
            self._advance(STORED)
            self.former = None
        if self.next_id is not None and self.next_id == attempt.new_id:
            self.next_id = None  # else another task has requested the next rotation meanwhile
        self.in_flight = None
        self.loaded = attempt.to_loaded(version, self.loaded, origin)
        if self.limits.write is not None:  # it was released meanwhile, and shows what is stored
            self._restore_values()
            return attempt
        stored = take_merged(self.values, self.pending, attempt) if attempt.merged else attempt.delta.puts
        self.values.apply_stored(attempt.record.data, stored, attempt.delta.drops)
        return attempt

    # -- changes in the storage

    def apply_renewed(self, ttl: float, now: float) -> None:
        """Note that the idle clock was renewed."""
        if self.loaded is not None:
            self.loaded = replace(self.loaded, ttl=ttl, as_of=now, renewal_due=False, renewed=True)

    def apply_reloaded(self, loaded: Loaded, pending: Pending | None) -> None:
        """Make what others have stored meanwhile the loaded record; `pending` is the journal on top of it."""
        self.loaded, self.pending = loaded, pending

    def mark_gone(self) -> None:
        """Note that the record is gone: drop the changes, and store nothing more."""
        self._advance(LOST)
        self._clear(self.loaded)

    def mark_stale(self) -> bool:
        """Note that another request has moved the record; drop the changes, unless a login keeps them (True)."""
        former = self.loaded or self.known_id
        self._advance(MOVED)
        if self.pending is None or self.pending.metadata.login is None:
            self._clear(former)
            return False
        self.loaded, self.in_flight, self.former = None, None, former
        return True

    def mark_ended(self) -> None:
        """Note that this request has ended the record: later changes belong to a new one."""
        self._advance(END)
        self._clear(self.known_id)

    def _clear(self, former: Loaded | str | None) -> None:
        self.values.replace_all({})
        self.loaded = self.pending = self.in_flight = self.next_id = None
        self.former = former

    # -- the end of the request

    def start_response(self) -> None:
        """Note that no new ID can reach the client any more, and drop changes that would need one."""
        if self.limits.write is None:
            self.limits = RESPONSE_STARTED if self.limits.save is None else CHANGES_DROPPED
        if self.pending is not None and (self.phase is FRESH or self.phase is ENDED):
            self.pending = None

    def discard(self) -> None:
        """Drop all changes that are not committed; a later `save` must not return as if it had stored them."""
        if self.limits.write is None and self.limits.save is None and self.modified():
            self.limits = replace(self.limits, save=changes_dropped)
        self.pending = self.in_flight = None
        self._restore_values()
        if self.loaded is not None:
            self.next_id = None

    def release(self, drop: bool) -> None:
        """Make the session read-only; with `drop`, drop changes that are not stored."""
        if drop:
            self.pending = None
            self._restore_values()
        if self.loaded is not None:
            self.next_id = None
        if self.limits.write is None:
            self.limits = RELEASED

    def limit(self, limits: Limits) -> None:
        """Refuse what `limits` refuse from now on, unless writes are refused already."""
        if self.limits.write is None:
            self.limits = limits

    def _restore_values(self) -> None:
        """Show the values that are stored; none without a record."""
        self.values.replace_all({} if self.loaded is None else self.loaded.record.data.copy())

    # -- one commit at a time

    def begin_turn(self) -> None:
        """Make other tasks of this request wait until `end_turn`."""
        self.turn = Turn()

    def end_turn(self, failure: ErrorFactory | None) -> None:
        """Wake the waiting tasks; `failure` makes the error that the work ended with."""
        turn, self.turn = self.turn, None
        if turn is not None and turn.waiters:
            turn.end(failure)

    def _advance(self, verb: Verb) -> None:
        after = NEXT_PHASE[self.phase][verb]
        if after is None:
            raise LifecycleError(f"{verb.name} is not possible in phase {self.phase.name}: a bug in sessioncore")
        self.phase = after
