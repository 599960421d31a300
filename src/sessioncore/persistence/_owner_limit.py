"""The limit on the sessions of an owner, which a commit that logs in has to keep.

    on_owner_limit   before the write                after the write
    evict_oldest                                     end the owner's oldest sessions over the limit
    refuse           refuse a login over the limit   undo it: a parallel one was stored meanwhile

Parallel logins can all pass the first check, so each login ranks the owner's sessions, by how long they
have been the owner's, once it is stored. Every process computes the same ranking, so exactly the allowed
number remains.
"""

import math

import anyio
from msgspec import Struct
from msgspec.structs import replace

from sessioncore._errors import OwnerLimitReached, SessionError, StorageError
from sessioncore._events import EventKind
from sessioncore._opaque import Opaque
from sessioncore._storage_calls import Delete, Load, Stored
from sessioncore.codec._record import YEAR_9999, extended
from sessioncore.concurrency._gather import MAX_CONCURRENT_CALLS
from sessioncore.concurrency._standstill import PolledDeadline
from sessioncore.persistence._commit_steps import CommitSteps
from sessioncore.persistence._driver import Driver
from sessioncore.persistence._machine import Answer, Step
from sessioncore.persistence._owners import OwnedSession, Owners
from sessioncore.persistence._store_context import StoreContext
from sessioncore.session._attempt import Attempt
from sessioncore.session._delta import Correction
from sessioncore.session._initial_states import live_state
from sessioncore.session._loaded import Loaded
from sessioncore.session._state import SessionState

__all__ = ["OwnerLimit"]

MAX_TRIES = 20  # of ending the oldest sessions while others change them
FIRST_POLL, LONGEST_POLL = 0.01, 0.2  # seconds between checks whether newer logins have withdrawn


class OwnerLimit:
    """Keeps the limit of one store."""

    __slots__ = ("_context", "_driver", "_limit", "_owners", "_refuses")

    def __init__(self, context: StoreContext, driver: Driver, owners: Owners, limit: int) -> None:
        self._context = context
        self._driver = driver
        self._owners = owners
        self._limit = limit
        self._refuses = context.config.on_owner_limit == "refuse"

    async def commit(self, state: SessionState, steps: CommitSteps, step: Step) -> None:
        """Run a commit, which may log in; it makes several calls, so the caller must shield it.

        Raises:
            OwnerLimitReached: the login is over the limit; it was not stored, or it was undone.
            SessionError: as the commit itself.
        """
        change = _OwnerChange(self, self._driver, state, steps)
        await self._driver.drive_rest(steps, step, change.perform)
        if change.owner is not None and state.loaded is not None and not self._refuses:
            await self.end_oldest(state, state.loaded, change.owner)

    async def check(self, state: SessionState, owner: str) -> None:
        """Refuse a login over the limit before anything is written.

        Raises:
            OwnerLimitReached: `on_owner_limit` is "refuse", and the owner has reached the limit.
        """
        if not self._refuses:
            return
        own = None if state.loaded is None else state.loaded.handle
        try:
            others = [owned for owned in await self._owners.sessions(owner) if owned.handle != own]
            if len(others) >= self._limit:
                raise self._error(state.handle, owner)
        except SessionError:
            state.roll_back()
            raise

    async def end_oldest(self, state: SessionState, login: Loaded, owner: str) -> None:
        """After a login, end the owner's oldest sessions over the limit."""
        about = EventKind.OWNER_LIMIT, owner, "a session over the limit was ended"
        # Without tombstones, others end a session whatever its version: a later date may come too late for this one.
        may_date = bool(self._context.tombstone)
        for tries_left in reversed(range(MAX_TRIES)):
            ranked = await self._ranked(owner)
            over, newest = ranked[: -self._limit], ranked[-1].record.owned_since if ranked else 0.0
            if may_date and newest > self._context.config.clock() and login.handle in [one.handle for one in over]:
                may_date = False
                await self._date(state, login, newest)
                continue
            # There are more only after the limit was lowered.
            if tries_left and self._context.tombstone and len(over) <= MAX_CONCURRENT_CALLS:
                ended = await self._owners.end_unchanged(over, *about)
            else:
                ended = await self._owners.end([owned.handle for owned in over], *about)
            if ended == len(over):
                break  # otherwise others have ended, changed or moved some of them meanwhile: look again

    async def confirm(self, state: SessionState, attempt: Attempt, owner: str, version: int) -> None:
        """With "refuse", undo a login that was just stored, with this version, if it is over the limit.

        Until this returns, the login's outcome is unknown to its request: if this fails, the next commit finds out.

        Raises:
            OwnerLimitReached: the login was undone, and its changes are pending again.
            StorageError: it is not known whether the login keeps to the limit.
        """
        if self._refuses and await self._must_withdraw(attempt.handle, owner):
            await self._undo(state, attempt, version)
            raise self._error(attempt.handle, owner)

    async def _date(self, state: SessionState, login: Loaded, newest: float) -> None:
        """Date a login after the owner's other sessions.

        A server whose clock is ahead has dated one of them in our future, or our clock was set back. By its own date
        this login would be among the oldest, and end itself.
        """
        later, record = min(math.nextafter(newest, math.inf), YEAR_9999), login.record
        dated = extended(record, record.absolute, record.persistent, later)
        steps = CommitSteps(self._context, state, correction=Correction(dated, record))
        await self._driver.drive(steps, steps.start_correction())

    async def _ranked(self, owner: str) -> list[OwnedSession]:
        """Return the owner's sessions; the one that has been the owner's for the longest is first.

        Handles break ties, so that every process ranks the same.
        """
        sessions = await self._owners.sessions(owner)
        return sorted(sessions, key=lambda owned: (owned.record.owned_since, owned.handle))

    async def _must_withdraw(self, handle: str, owner: str) -> bool:
        """Return whether this login, which is already stored, must be undone; the oldest sessions stay.

        Newer logins over the limit withdraw when they see this one. If one does not, it had already
        been confirmed to its client, so this login withdraws instead. The newest has the shortest wait.
        """
        pause, limit, timeout = FIRST_POLL, self._limit, self._context.config.storage_timeout.total_seconds()
        # Moved if the process stood still: the other logins may be in this process, and have waited as long.
        deadline = PolledDeadline(anyio.current_time() + timeout)
        while True:
            ranked = [owned.handle for owned in await self._ranked(owner)]
            if handle not in ranked[:limit]:
                return handle in ranked
            left = deadline.left(anyio.current_time(), sooner=timeout * ranked.index(handle) / limit / 2)
            if len(ranked) <= limit or left <= 0:
                return len(ranked) > limit
            await anyio.sleep(min(pause, left))  # not longer, or the next one would decide at the same time
            pause = min(pause * 2, LONGEST_POLL)

    async def _undo(self, state: SessionState, attempt: Attempt, version: int) -> None:
        """Restore the record as it was before a login; if the login created it, delete it.

        If the login moved the record, it stays under its new ID, which the client gets with the 409.
        """
        before, known = attempt.base, state.loaded
        if before is None:
            await self._driver.call(Delete((self._context.config.key_prefix + attempt.handle,)))
            state.roll_back()
        else:
            assert known is not None, "the login has changed a record that was loaded"
            login = attempt.to_loaded(version, known)
            undoing = live_state(login, self._context.codec)
            steps = CommitSteps(self._context, undoing, correction=Correction(before, login.record))
            await self._driver.drive(steps, steps.start_correction())
            state.roll_back()
            if undoing.loaded is None:
                state.mark_gone()
                return
            # With the old version, the next write meets a conflict, and so includes what others have written.
            restored = replace(undoing.loaded, record=known.record, version=known.version)
            state.apply_reloaded(restored, state.pending)
        if attempt.new_id is not None:
            state.choose_id(self._context.new_id())

    def _error(self, handle: str | None, owner: str) -> OwnerLimitReached:
        """Send the event for a refused login, and return the error to raise."""
        self._context.events.send(EventKind.OWNER_LIMIT, handle, owner, "a login was refused")
        return OwnerLimitReached("the owner has max_sessions_per_owner sessions already; end one of them first")


class _OwnerChange(Opaque, Struct, eq=False):
    """What a commit does to the owner of its session, noted before each step."""

    limit: OwnerLimit
    driver: Driver
    state: SessionState
    steps: CommitSteps
    owner: str | None = None  # the owner that the commit sets; None: it sets none
    checked: str | None = None  # the owner who was below the limit

    async def perform(self, step: Step) -> Answer:
        """Carry out one step of the commit; before and after it writes a new owner, check that owner's limit."""
        attempt = self.state.in_flight
        if attempt is None or (owner := attempt.new_owner) is None:
            return await self.driver.perform(step)
        self.owner = owner
        if owner != self.checked and not isinstance(step, Load):
            await self.limit.check(self.state, owner)  # not before a Load, which looks for a lost write
            self.checked = owner
        answer = await self.driver.perform(step)
        if type(answer) is int:
            version = answer
        elif isinstance(answer, Stored) and isinstance(step, Load) and attempt.is_stored_as(answer):
            version = answer.version
        else:
            return answer
        try:
            await self.limit.confirm(self.state, attempt, owner, version)
        except StorageError:
            if not self.steps.explicit:  # no later commit resolves the login, so the client gets its ID with the error
                self.steps.answered(answer)
            raise
        return answer
