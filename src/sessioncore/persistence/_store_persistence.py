"""Loads, commits and ends sessions by the machines and the driver, one task of a request at a time."""

from collections.abc import Awaitable, Callable

from sessioncore._errors import SessionError, SessionGone
from sessioncore._events import EventKind
from sessioncore._storage_calls import Delete, Load
from sessioncore.concurrency._shield import run_shielded
from sessioncore.http._ids import handle_of
from sessioncore.persistence import _commit_errors as errors
from sessioncore.persistence._commit_steps import CommitSteps
from sessioncore.persistence._driver import DONE, Done, Driver
from sessioncore.persistence._load_answers import interpret_load
from sessioncore.persistence._opening import Opening
from sessioncore.persistence._owner_limit import OwnerLimit
from sessioncore.persistence._owners import Owners
from sessioncore.persistence._reload_steps import ReloadSteps
from sessioncore.persistence._store_context import StoreContext
from sessioncore.session._effective import owner_of
from sessioncore.session._error_factories import ErrorFactory, error_factory
from sessioncore.session._initial_states import live_state
from sessioncore.session._lifecycle import FRESH, STALE
from sessioncore.session._loaded import Loaded
from sessioncore.session._protocols import Live
from sessioncore.session._state import SessionState

__all__ = ["StorePersistence"]


class StorePersistence:
    """Loads, stores and ends the sessions of one store; it implements `Persistence` of `session`."""

    __slots__ = ("codec", "config", "context", "driver", "lifetimes", "limit", "live", "opening", "owners")

    def __init__(self, context: StoreContext, live: Callable[[StoreContext, Driver], Live]) -> None:
        self.context = context
        self.config = context.config
        self.codec = context.codec
        self.lifetimes = context.lifetimes
        self.driver = driver = Driver(context)
        self.live = live(context, driver)
        self.opening = Opening(context.config, driver, self.live.close)
        self.owners = Owners(context, driver)
        limit = context.config.max_sessions_per_owner
        self.limit = None if limit is None else OwnerLimit(context, driver, self.owners, limit)

    def new_id(self) -> str:
        """Return a new ID from the configured generator."""
        return self.context.new_id()

    async def load_by_id(self, session_id: str) -> SessionState | None:
        """Load the session with this ID; return None if there is none.

        Raises:
            StorageUnavailable: it is unknown whether there is one.
        """
        handle = handle_of(session_id)
        answer = await self.driver.call(Load(self.config.key_prefix + handle))
        found = interpret_load(self.context, session_id, handle, answer, counts_as_use=False)
        if not isinstance(found, Loaded):
            self.context.events.send(*found)
            return None
        return live_state(found, self.codec)

    def commit(
        self, state: SessionState, drop: bool = False, explicit: bool = False, create: bool = False
    ) -> Done[None] | Awaitable[None]:
        """Store the changes; with `create`, also an empty fresh session; with `drop`, drop the changes first.

        If a commit is cancelled or its reply is lost, the next one finds out whether it was stored.

        Raises:
            SessionGone: the record is gone, and `explicit` is set.
            CodecError: a value cannot be encoded; nothing was written.
            OwnerLimitReached: the owner has reached the limit; a login was not stored, or it was undone.
            StorageUnavailable: it is unknown whether the changes were stored.
        """
        if state.turn is not None:
            return self._commit_in_turn(state, drop, explicit)
        if drop:
            state.discard()
        steps = CommitSteps(self.context, state, explicit)
        step = steps.start_create() if create else steps.start()
        if self.limit is not None and step is not None:
            return self._exclusively(state, run_shielded(self.limit.commit(state, steps, step)))
        result = self.driver.drive(steps, step)
        return result if result is DONE else self._exclusively(state, result)

    async def _commit_in_turn(self, state: SessionState, drop: bool, explicit: bool) -> None:
        unsaved = not drop and state.modified()
        while (turn := state.turn) is not None:
            await turn.wait()
            if turn.failure is not None and unsaved and not state.modified():
                raise turn.failure()  # the other task's commit included this one's changes, which were dropped with it
        await self.commit(state, drop, explicit)

    async def _exclusively(self, state: SessionState, work: Awaitable[None]) -> None:
        """Await `work` while other tasks of the request wait for their turn."""
        failure: ErrorFactory | None = None
        state.begin_turn()
        try:
            await work
        except SessionGone:
            raise  # a commit that waits finds out itself, and raises it only for `save`
        except BaseException as exc:
            failure = error_factory(exc if isinstance(exc, SessionError) else errors.dropped_error(exc))
            raise
        finally:
            state.end_turn(failure)

    async def reload(self, state: SessionState) -> None:
        """Take over what others have stored, and keep unsaved changes on top.

        If the outcome of an earlier write is unknown, this commits first, which resolves it.

        Raises:
            SessionGone: the record is gone, or another request has moved it.
            StorageUnavailable: it could not be loaded; the session is unchanged.
        """
        await _wait_for_turn(state)
        while state.in_flight is not None:
            await self.commit(state, explicit=True)
            await _wait_for_turn(state)
        steps = ReloadSteps(self.context, state, explicit=True)
        await self._exclusively(state, self.driver.drive(steps, steps.start()))

    async def end(self, state: SessionState) -> None:
        """Delete the stored record, if there is one; then clear the session.

        Raises:
            StorageUnavailable: it is unknown whether the record was deleted; the session is unchanged.
        """
        await _wait_for_turn(state)
        await self._exclusively(state, self._end(state))

    async def _end(self, state: SessionState) -> None:
        loaded, unresolved, prefix = state.loaded, state.in_flight, self.config.key_prefix
        handle = None if loaded is None else loaded.handle
        if state.former_id is not None and (state.phase is STALE or state.phase is FRESH):
            # Deleting a replaced ID ends the session where it is now. A record that was rejected may be a session to
            # another process, with a newer release, say, or another clock.
            handle = handle_of(state.former_id)
        keys = [] if handle is None else [prefix + handle]
        if unresolved is not None and unresolved.new_id is not None:  # it may have created this record
            keys.append(prefix + unresolved.handle)
        ended = await self.driver.call(Delete(tuple(keys))) if keys else 0
        if handle is not None:  # if nothing was deleted, another request had ended the record
            kind = EventKind.DESTROYED if ended else EventKind.GONE
            self.context.events.send(kind, handle, None if loaded is None else loaded.record.owner)
        state.mark_ended()

    def report_corrupt(self, state: SessionState, error: SessionError) -> None:
        """Send the event for a value that cannot be read."""
        self.context.events.send(EventKind.CORRUPT, state.handle, owner_of(state), str(error))


async def _wait_for_turn(state: SessionState) -> None:
    """Wait until no other task of the request commits or ends this session."""
    while (turn := state.turn) is not None:
        await turn.wait()
