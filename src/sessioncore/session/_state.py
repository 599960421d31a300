"""The state of one session in one request: what was loaded, what the request wants changed. No I/O.

`Session` is the face of it, `persistence` brings it into the storage.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sessioncore._errors import LifecycleError, ResponseStarted
from sessioncore.codec._codec import Codec
from sessioncore.http._ids import handle_of
from sessioncore.session._attempt import Attempt
from sessioncore.session._lifecycle import AFTER, ENDED, FRESH, LIVE, Phase, Verb
from sessioncore.session._loaded import Loaded
from sessioncore.session._merge import take_merged
from sessioncore.session._pending import SET, Pending
from sessioncore.session._unusable import ErrorFactory, released
from sessioncore.session._values import Values

__all__ = ["SessionState"]


class SessionState(Struct, eq=False):
    """What is known of a session and what is wanted of it.

    Invariants: `loaded` is there if and only if the phase is LIVE. `former_id` is only
    there in the phases ENDED and GONE. A write whose reply is not known stands in
    `in_flight`, and its changes are then not in `pending`. Without `dirty` there is
    nothing that a commit would have to store.
    """

    values: Values
    loaded: Loaded | None = None  # what the storage has; None: nothing that this session could change
    pending: Pending | None = None  # None: nothing was written since the last commit
    in_flight: Attempt | None = None  # sent, and its reply is not here; None: every write was answered
    waiters: list[Callable[[], object]] | None = None  # woken when the commit under way ends; None: none is under way
    phase: Phase = FRESH
    unusable: ErrorFactory | None = None  # what a write raises; None: it can be written to
    former_id: str | None = None  # still shown, though nothing is stored under it any more
    next_id: str | None = None  # of the next record, or after the next rotation; None: not chosen yet
    response_started: bool = False  # no ID can reach the client any more

    def __repr__(self) -> str:
        return f"<SessionState {self.phase.name.lower()}>"  # the fields hold the ID and the values

    def dirty(self) -> bool:
        """Whether a commit has something to look at: changes, or a write whose reply is not here."""
        values = self.values
        return (
            self.pending is not None
            or values.snapshots is not None
            or values.issued_defaults is not None
            or self.in_flight is not None
            or self.waiters is not None
        )

    @classmethod
    def of(cls, loaded: Loaded, codec: Codec) -> "SessionState":
        """Return the state of a stored session; values stay encoded until they are read."""
        return cls(Values(codec, loaded.record.data.copy()), loaded, phase=LIVE)

    @property
    def rotating(self) -> bool:
        """Whether a new ID was asked for that is not stored yet."""
        return self.pending is not None and self.pending.metadata.rotate

    # -- identity

    @property
    def known_id(self) -> str | None:
        """The ID in force: the one after a rotation, of the record, or the last one; None if none was chosen yet."""
        if self.next_id is not None:
            return self.next_id
        return self.former_id if self.loaded is None else self.loaded.session_id

    def choose_id(self, session_id: str) -> str:
        """Take the ID of the next record."""
        self.next_id = session_id
        return session_id

    @property
    def handle(self) -> str | None:
        """The public name of the stored record, else that of the ID in force; None if none was chosen yet."""
        if self.loaded is not None:
            return self.loaded.handle
        known = self.known_id
        return None if known is None else handle_of(known)

    # -- changes

    def begin_write(self) -> Pending:
        """Return the journal for a write.

        Raises:
            SessionReleased: the request is over.
            ResponseStarted: the client could no longer learn the ID of a new session.
        """
        if self.unusable is not None:
            raise self.unusable()
        if self.phase is not LIVE:  # a write changes no phase: see TRANSITIONS
            if self.response_started:
                raise ResponseStarted(
                    "the response has started, so the client can no longer learn the ID of a new session; "
                    "write to the session before the first byte"
                )
            if self.phase is ENDED:
                self.former_id = None  # what is written now belongs to another session
        if self.pending is None:
            self.pending = Pending()
        return self.pending

    def rotate(self, new_id: str, **changes: Any) -> None:
        """Ask for a new ID, and for other changes to the session itself."""
        self.refuse_after_start()
        pending = self.begin_write()
        pending.change_metadata(rotate=True, **changes)
        self.next_id = new_id

    def refuse_unusable(self) -> None:
        """Raise what bars the use of this session, if anything."""
        if self.unusable is not None:
            raise self.unusable()

    def refuse_after_start(self) -> None:
        """Raise if a new ID could no longer reach the client."""
        if self.unusable is not None:
            raise self.unusable()
        if self.response_started:
            raise ResponseStarted(
                "the response has started, so the client can no longer learn a new ID; "
                "call regenerate, login or reset before the first byte"
            )

    def drop_values(self) -> None:
        """Forget every value, also those of this request: they are another owner's."""
        self.values.replace_all({})
        if self.pending is not None:
            self.pending.changes.clear()

    def adopt_defaults(self) -> None:
        """Make values of the typed defaults that were changed in place; a released session takes none."""
        if self.unusable is not None:
            return
        for name, value in self.values.changed_defaults().items():
            self.begin_write().changes[name] = SET
            self.values.items[name] = value

    # -- a commit

    def send(self, attempt: Attempt) -> None:
        """Set aside what is being stored: what other tasks change meanwhile is for the next commit."""
        self.in_flight = attempt
        if attempt.pending is self.pending:  # else it was set aside for an earlier attempt of the same commit
            self.pending = None

    def sent(self) -> Attempt:
        """Return the write under way."""
        assert self.in_flight is not None, "a write was answered that was never sent"
        return self.in_flight

    def roll_back(self) -> None:
        """After a commit that stored nothing: what was set aside is pending again, below what came later."""
        attempt, self.in_flight = self.in_flight, None
        if attempt is not None and attempt.pending is not None and self.unusable is None:
            self.pending = attempt.pending.then(self.pending)

    def forget_unchanged(self) -> None:
        """Drop a journal that came to nothing."""
        self.pending = None

    def apply_committed(self, version: int) -> Attempt:
        """Take the record that was just stored as what is loaded; returns the write that stored it."""
        attempt, self.in_flight = self.in_flight, None
        assert attempt is not None, "a write was answered that was never sent"
        if self.phase is not LIVE:
            self._advance(Verb.STORED)
            self.former_id = None
        session_id, record = attempt.new_id, attempt.record
        if session_id is None:
            assert self.loaded is not None
            session_id = self.loaded.session_id
        elif self.next_id == session_id:  # else it is of a rotation that came meanwhile
            self.next_id = None
        self.loaded = Loaded(
            session_id, attempt.handle, record, version, attempt.call.ttl, record.written_at, renewed=True
        )
        if self.unusable is not None:
            self.values.replace_all(record.data.copy())
            return attempt
        delta = attempt.delta
        stored = take_merged(self.values, self.pending, attempt) if attempt.merged else delta.puts
        self.values.take_stored(record.data, stored, delta.drops)
        return attempt

    # -- what the storage says

    def take_renewed(self, ttl: float, now: float) -> None:
        """The idle clock was set anew."""
        if self.loaded is not None:
            self.loaded = replace(self.loaded, ttl=ttl, at=now, renewal_due=False, renewed=True)

    def mark_gone(self) -> None:
        """The record is gone: drop the changes, and store nothing more."""
        self._advance(Verb.LOST)
        self._clear(None if self.loaded is None else self.loaded.session_id)

    def mark_ended(self) -> None:
        """The record was ended by this request; what is written from now on belongs to a new one."""
        shown = self.known_id
        self._advance(Verb.END)
        self._clear(shown)

    def _clear(self, former_id: str | None) -> None:
        self.values.replace_all({})
        self.loaded = self.pending = self.in_flight = self.next_id = None
        self.former_id = former_id

    # -- the request's side

    def start_response(self) -> None:
        """From now on no ID can reach the client, so nothing that needs a new one can be stored any more."""
        self.response_started = True
        if self.pending is not None and (self.phase is FRESH or self.phase is ENDED):
            self.pending = None

    def discard(self) -> None:
        """Forget what is not committed; the stored session stays as it was."""
        self.pending = self.in_flight = None
        if self.loaded is None:
            self.values.replace_all({})
        else:
            self.values.replace_all(self.loaded.record.data.copy())
            self.next_id = None

    def release(self, *, drop: bool) -> None:
        """End the use of this session: what was stored can still be read; `drop` what was not."""
        loaded = self.loaded
        if drop:
            self.pending = None
            self.values.replace_all({} if loaded is None else loaded.record.data.copy())
        if loaded is not None:
            self.next_id = None
        self.unusable = released

    # -- one commit at a time

    def begin_turn(self) -> None:
        """Other tasks of this request wait from now on."""
        self.waiters = []

    def wait_turn(self, wake: Callable[[], object]) -> None:
        """Have `wake` called when the turn under way ends."""
        assert self.waiters is not None
        self.waiters.append(wake)

    def end_turn(self) -> None:
        """Wake the tasks that wait."""
        waiters, self.waiters = self.waiters, None
        for wake in waiters or ():
            wake()

    def _advance(self, verb: Verb) -> None:
        after = AFTER[self.phase][verb]
        if after is None:
            raise LifecycleError(f"{verb.name.lower()} is not possible for a session that is {self.phase.name.lower()}")
        self.phase = after
