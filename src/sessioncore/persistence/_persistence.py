"""Loads, commits and ends of sessions: brings the machines, the driver and the owners' limits together."""

from collections.abc import Awaitable

import anyio
from msgspec import UNSET

from sessioncore._errors import SessionError
from sessioncore._events import EventKind
from sessioncore._shield import run_shielded
from sessioncore._storage_calls import Delete, Load
from sessioncore.http._ids import handle_of
from sessioncore.persistence._commit_steps import CommitSteps
from sessioncore.persistence._drive import DONE, Done, Driver, Step
from sessioncore.persistence._load_steps import opened
from sessioncore.persistence._owners import Owners
from sessioncore.persistence._store_context import StoreContext
from sessioncore.session._lifecycle import MOVE, REPLACE
from sessioncore.session._loaded import Loaded
from sessioncore.session._merge import Undone
from sessioncore.session._seen import owner_of
from sessioncore.session._state import SessionState

__all__ = ["StorePersistence", "wait_for_turn"]


async def wait_for_turn(state: SessionState) -> None:
    """Wait until no other task of the request is storing or ending this session."""
    while state.waiters is not None:
        ended = anyio.Event()
        state.wait_turn(ended.set)
        await ended.wait()


class StorePersistence:
    """Loads, stores and ends the sessions of one store; what sessions ask of it is `session._persistence`."""

    __slots__ = ("codec", "config", "context", "driver", "lifetimes", "owners")

    def __init__(self, context: StoreContext) -> None:
        self.context = context
        self.config = context.config
        self.codec = context.codec
        self.lifetimes = context.lifetimes
        self.driver = Driver(context.config, context.events)
        self.owners = Owners(context, self.driver)

    def new_id(self) -> str:
        """Return a new ID, of the configured generator."""
        return self.context.new_id()

    async def load_by_id(self, session_id: str) -> SessionState | None:
        """Load the session of an ID; None if there is none.

        Raises:
            StorageUnavailable: whether there is one is unknown.
        """
        handle = handle_of(session_id)
        answer = await self.driver.ask(Load(self.config.key_prefix + handle))
        found = opened(self.context, session_id, handle, answer, visit=False)
        if not isinstance(found, Loaded):
            self.context.events.send(*found)
            return None
        return SessionState.of(found, self.codec)

    def commit(
        self, state: SessionState, *, explicit: bool = False, create: bool = False, drop: bool = False
    ) -> Done[None] | Awaitable[None]:
        """Store what the session changes; with `create`, also a fresh session that is empty; `drop` the changes first.

        A commit that is cut off, or whose reply is lost, is resolved by the next one.

        Raises:
            SessionGone: the record is gone, and the caller asked explicitly.
            CodecError: a value cannot be encoded; nothing was written.
            OwnerLimitReached: the owner may have no further session; nothing was written.
            StorageUnavailable: the outcome is unknown; the next commit begins by finding it out.
        """
        if state.waiters is not None:
            return self._commit_in_turn(state, explicit=explicit, drop=drop)
        if drop:
            state.discard()
        steps = CommitSteps(self.context, state, explicit)
        step = steps.start_create() if create else steps.start()
        if step is not None and self.config.max_sessions_per_owner is not None:
            return self._alone(state, run_shielded(self._limited(state, steps, step)))
        result = self.driver.drive(steps, step)
        return result if result is DONE else self._alone(state, result)

    async def _commit_in_turn(self, state: SessionState, *, explicit: bool, drop: bool) -> None:
        await wait_for_turn(state)  # another task of the request learns what became of its own commit
        await self.commit(state, explicit=explicit, drop=drop)

    async def _alone(self, state: SessionState, work: Awaitable[None]) -> None:
        """Await `work` while other tasks of the request wait with theirs."""
        state.begin_turn()
        try:
            await work
        finally:
            state.end_turn()

    async def _limited(self, state: SessionState, steps: CommitSteps, step: Step | None) -> None:
        """Drive a commit that may bind an owner: several calls, so this is never cut in two."""
        before, owner = state.loaded, None
        while step is not None:
            sent = state.in_flight
            if not isinstance(step, Load) and owner is None and sent is not None:
                bound = sent.delta.metadata.owner
                if bound is not UNSET:
                    before, owner = state.loaded, bound
                    await self._check_limit(state, owner)
            step = steps.answered(await self.driver.answer(step))
        self.driver.finish(steps)
        if owner is not None and state.loaded is not None and await self.owners.enforce_limit(state.loaded, owner):
            error = self.owners.refusal(state.loaded.handle, owner)
            await self._undo(state, before)
            raise error

    async def _check_limit(self, state: SessionState, owner: str) -> None:
        try:
            await self.owners.check_limit(state, owner)
        except SessionError:
            state.roll_back()
            raise

    async def _undo(self, state: SessionState, before: Loaded | None) -> None:
        """Take back a login that lost the race for the last place: the session is again what it was.

        Not under its old ID, though: that is dead since the login moved the record, and somebody may
        have ended it meanwhile (P2). The client learns another one with its 409.
        """
        login = state.loaded
        assert login is not None
        if before is None:
            await self.driver.ask(Delete((self.config.key_prefix + login.handle,)))
            state.mark_ended()
            return
        steps = CommitSteps(self.context, state, undo=True)
        action = REPLACE if login.session_id == before.session_id else MOVE
        await self.driver.drive(steps, steps.start_rewrite(action, Undone(before.record, login.record)))
        state.discard()

    async def end(self, state: SessionState) -> None:
        """Delete the stored record, if there is one; then clear the session.

        Raises:
            StorageUnavailable: whether it was ended is unknown; the session is as it was.
        """
        await wait_for_turn(state)
        await self._alone(state, self._end(state))

    async def _end(self, state: SessionState) -> None:
        loaded, unresolved, prefix = state.loaded, state.in_flight, self.config.key_prefix
        keys = [] if loaded is None else [prefix + loaded.handle]
        if unresolved is not None and unresolved.new_id is not None:  # it may be there already
            keys.append(prefix + unresolved.handle)
        ended = await self.driver.ask(Delete(tuple(keys))) if keys else 0
        if loaded is not None:  # if nothing was there, another request has ended it, or moved it
            kind = EventKind.DESTROYED if ended else EventKind.GONE
            self.context.events.send(kind, loaded.handle, loaded.record.owner)
        state.mark_ended()

    def report_corrupt(self, state: SessionState, error: SessionError) -> None:
        """Send the event of a value that cannot be read."""
        self.context.events.send(EventKind.CORRUPT, state.handle, owner_of(state), str(error))
