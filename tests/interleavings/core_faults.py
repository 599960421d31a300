"""Faults of the core itself, each planted in a few lines: an exploration has to notice each of them."""

# The faults replace private parts of the core:
# pyright: reportPrivateUsage=false

from collections.abc import Callable
from types import NoneType

import pytest
from msgspec import Raw

from sessioncore import EventKind, StorageUnavailable, Stored
from sessioncore.persistence import _commit_steps
from sessioncore.persistence._commit_steps import CommitSteps
from sessioncore.persistence._load_steps import LoadSteps
from sessioncore.persistence._machine import Answer, Step
from sessioncore.persistence._owner_limit import OwnerLimit
from sessioncore.persistence._verdicts import VERDICTS, Verdict, verdict_of
from sessioncore.session import _mutate, _state
from sessioncore.session._attempt import Attempt
from sessioncore.session._changes import changes_of
from sessioncore.session._delta import Delta
from sessioncore.session._lifecycle import CREATE, GONE, MOVE, REPLACE, TOUCH, Action, Phase, decide
from sessioncore.session._pending import Pending
from sessioncore.session._state import SessionState
from sessioncore.session._values import Values

__all__ = ["CORE_FAULTS", "Plant"]

Plant = Callable[[pytest.MonkeyPatch], None]

answered, try_next, mark_ended = CommitSteps.answered, LoadSteps._try_next, SessionState.mark_ended


def means(action: Action, answer: type, verdict: Verdict) -> Plant:
    """Give an answer of the storage the wrong verdict."""
    return lambda patch: patch.setitem(VERDICTS[action], answer, verdict)


def instead(where: object, name: str, fault: object) -> Plant:
    """Replace a function of the core by the fault."""
    return lambda patch: patch.setattr(where, name, fault)


def written_over(self: CommitSteps, there: Stored) -> Step | None:
    """After a conflict, write over the newer record what this request has read and changed."""
    sent, loaded = self.state.current_attempt(), self.state.loaded
    assert loaded is not None
    return self._send(sent.delta, sent.pending, sent.new_id, (loaded.record, there.version))


def as_first_seen(self: Delta, data: dict[str, Raw], *_: object) -> None:
    """After a conflict, do not call the functions of mutations again."""
    data.update(self.puts)


def own_values(values: Values, pending: Pending | None, attempt: Attempt) -> dict[str, Raw]:
    """After a merge, do not show the values that others have stored."""
    return attempt.delta.puts


def sent_again(self: CommitSteps, _: Stored) -> Step | None:
    """Repeat a write whose reply was lost, even if the find shows that it arrived."""
    self.state.roll_back()
    return self.start()


def brings_back(action: Action) -> Plant:
    """Store under a new ID a session that was ended before this call reached it."""

    def brought_back(self: CommitSteps, answer: Answer) -> Step | None:
        if self.action is not action or verdict_of(action, answer) is not Verdict.GONE:
            return answered(self, answer)
        self.state.roll_back()
        self.action = CREATE
        return self._send(changes_of(self.state), self.state.pending)

    return instead(CommitSteps, "answered", brought_back)


def kept_to_itself(self: CommitSteps, answer: Answer) -> Step | None:
    """Send no event if changes were discarded because the session is gone."""
    step = answered(self, answer)
    if self.state.phase is GONE:
        self.events = None
    return step


def copied(phase: Phase, **what: bool) -> Action:
    """Create a record under the new ID, and leave the old one where it is."""
    action = decide(phase, **what)
    return CREATE if action is MOVE else action


def adopted(self: LoadSteps) -> Step | None:
    """Give the next session the ID that the client sent, though nothing is stored under it."""
    known, step = self.session_id, try_next(self)
    if known and step is None and self.state is None:
        self.state = SessionState(Values(self.context.codec, {}), next_id=known)
    return step


def used_again(self: SessionState) -> None:
    """Give the session that begins after a destroy the ID that was destroyed."""
    mark_ended(self)
    self.next_id = self.former_id


def still_pending(self: SessionState) -> None:
    """Store after a destroy what was written before it."""
    pending, items = self.pending, dict(self.values.items)
    mark_ended(self)
    if pending is not None:
        self.pending, self.values.items = pending, items


def nobody_waits(self: SessionState) -> None:
    """Let the tasks of a request commit at the same time."""


def unchanged(*_: object) -> bool:
    """Overlook changes in place of a mutation's result."""
    return False


def as_written(state: SessionState, name: str, before: object) -> bool:
    """Treat a value whose write is in flight as one that was changed in place since."""
    return before is None and state.values.differs_from_snapshot(name)


async def not_enforced(*_: object) -> bool:
    """Never withdraw a login that is already stored."""
    return False


async def enforced_beforehand(self: OwnerLimit, state: SessionState, owner: str) -> None:
    """End the owner's other session before it is known whether the login can be stored."""
    others = [owned.handle for owned in await self._owners.sessions(owner) if owned.handle != state.handle]
    await self._owners.end(others, EventKind.OWNER_LIMIT, owner)


CORE_FAULTS: dict[str, tuple[Plant, str]] = {
    "a conflict is taken for success": (means(REPLACE, Stored, Verdict.STORED), "meetings"),
    "what others wrote is written over": (instead(CommitSteps, "_conflict", written_over), "meetings"),
    "a mutation is not computed anew": (instead(Delta, "_put_anew", as_first_seen), "meetings"),
    "what others wrote is not shown": (instead(_state, "take_merged", own_values), "doubts"),
    "a doubt is forgotten": (instead(CommitSteps, "_found", sent_again), "doubts"),
    "a lost reply is taken for a refusal": (means(REPLACE, StorageUnavailable, Verdict.REFUSED), "doubts"),
    "a renewal brings back what was ended": (brings_back(TOUCH), "meetings"),
    "a write brings back what was ended": (brings_back(REPLACE), "meetings"),
    "dropped changes are not told": (instead(CommitSteps, "answered", kept_to_itself), "meetings"),
    "a login leaves the old ID valid": (instead(_commit_steps, "decide", copied), "meetings"),
    "an ID that is taken is given out": (means(CREATE, NoneType, Verdict.STORED), "strangers"),
    "an unknown ID is adopted": (instead(LoadSteps, "_try_next", adopted), "meetings"),
    "an ID is used again after its destroy": (instead(SessionState, "mark_ended", used_again), "meetings"),
    "a destroy leaves what is pending": (instead(SessionState, "mark_ended", still_pending), "meetings"),
    "two tasks commit at the same time": (instead(SessionState, "begin_turn", nobody_waits), "tasks"),
    "a change of a mutation's result is lost": (instead(Values, "differs_from", unchanged), "lists"),
    "a mutation during a save is a write": (instead(_mutate, "_was_changed_in_place", as_written), "list of tasks"),
    "an owner's limit is not enforced": (instead(OwnerLimit, "_must_withdraw", not_enforced), "refusals"),
    "an owner's limit is enforced in vain": (instead(OwnerLimit, "check", enforced_beforehand), "evictions"),
}  # fmt: skip
