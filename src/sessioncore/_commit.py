"""Brings a draft into the storage: carries out what `_plan` decides.

One compare-and-set per commit. When others wrote meanwhile, this request's own
changes are applied to the current record and tried again, for as long as
`storage_timeout` allows; when the record is gone, the changes are dropped.
"""

from collections.abc import Awaitable
from typing import Final

import anyio
from msgspec import UNSET

from sessioncore._calls import StorageCalls
from sessioncore._changes import NO_WISHES, Delta, Write, apply, time_left
from sessioncore._codec import Codec
from sessioncore._config import SessionConfig
from sessioncore._draft import Draft
from sessioncore._errors import CorruptRecord, SessionGone, StorageError, StorageUnavailable
from sessioncore._events import EventKind, Events
from sessioncore._ids import handle_of
from sessioncore._owners import Owners
from sessioncore._plan import CREATE, MOVE, NOTHING, REPLACE, TOUCH, Step, decide
from sessioncore._record import Record, open_record, seal_record
from sessioncore._states import GONE, LIVE
from sessioncore.storage import Stored

__all__ = ["Committer"]

TRIES_FOR_AN_ID: Final = 8  # one collision of 256-bit IDs will never be seen; eight mean a broken generator


class Committer:
    """Carries out commits for one store."""

    __slots__ = ("_calls", "_codec", "_config", "_events", "_owners")

    def __init__(
        self, config: SessionConfig, codec: Codec, calls: StorageCalls, events: Events, owners: Owners
    ) -> None:
        self._config = config
        self._codec = codec
        self._calls = calls
        self._events = events
        self._owners = owners

    async def commit(self, draft: Draft, *, explicit: bool) -> None:
        """Store what the draft changes.

        Raises:
            SessionGone: the record is gone, and the caller asked explicitly.
            CodecError: a value cannot be encoded; nothing was written.
            OwnerLimitReached: the owner may have no further session; nothing was written.
            StorageUnavailable: the outcome is unknown.
        """
        if draft.saving is not None:
            await _turn(draft)
        waiting: list[anyio.Event] = []
        draft.saving = waiting
        try:
            delta = draft.delta()
            state = draft.state
            if delta is None:
                step = decide(state, changed=False, rotated=False, renewal_due=draft.renew)
            else:
                changed = delta.changes if state is LIVE else delta.writes
                step = decide(state, changed=changed, rotated=delta.wishes.rotate, renewal_due=draft.renew)
            if step is TOUCH:
                await self._touch(draft)
            elif delta is not None and step is not NOTHING:
                draft.take()
                if self._config.max_sessions_per_owner is not None and delta.wishes.owner is not UNSET:
                    await self._store_within_limit(draft, delta, step)
                elif step is CREATE:
                    await self._create(draft, delta)
                else:
                    await self._write(draft, delta, step)
        finally:
            _done(draft, waiting)
        if explicit and draft.state is GONE:
            raise _gone()

    async def create(self, draft: Draft) -> None:
        """Store a fresh draft, also an empty one."""
        delta = draft.delta() or Delta({}, [], {}, {}, NO_WISHES)
        draft.take()
        await self._store_within_limit(draft, delta, CREATE)

    async def _store_within_limit(self, draft: Draft, delta: Delta, step: Step) -> None:
        await self._owners.admit(draft, delta)
        before = draft.record, draft.stored_id
        if step is CREATE:
            await self._create(draft, delta)
        else:
            await self._write(draft, delta, step)
        if draft.state is LIVE and await self._owners.excess(draft, delta):
            error = self._owners.refused(draft)
            await self._undo(draft, *before)
            raise error

    async def end(self, draft: Draft) -> None:
        """Delete the record behind the draft, if there is one; then clear the draft."""
        if draft.saving is not None:
            await _turn(draft)
        waiting: list[anyio.Event] = []
        draft.saving = waiting
        try:
            if draft.state is LIVE:
                key, handle, owner = draft.key, draft.handle, draft.record.owner if draft.record else None
                await self._calls.run("delete", self._config.storage.delete(key))
                draft.end()
                self._events.send(EventKind.DESTROYED, handle, owner)
            else:
                draft.end()
        finally:
            _done(draft, waiting)

    async def _touch(self, draft: Draft) -> None:
        """Renew the idle clock. Nothing that the handler stored depends on it, so a failure is told, not raised."""
        record = draft.record
        assert record is not None
        now = self._config.clock()
        ttl = time_left(self._config, record.created_at, draft.idle, now)
        if ttl <= 0:
            return
        try:
            alive = await self._calls.run("touch", self._config.storage.touch(draft.key, ttl))
        except StorageError:
            return  # it was told as an event already
        if alive:
            draft.ttl, draft.loaded_at, draft.renewed, draft.renew = ttl, now, True, False
            self._events.send(EventKind.RENEWED, draft.handle, record.owner)
        else:
            self._lose(draft)

    async def _create(self, draft: Draft, delta: Delta) -> None:
        config = self._config
        now = config.clock()
        record = apply(delta, None, self._codec, now, again=False)
        ttl = time_left(config, now, record.idle or config.idle_seconds, now)
        data = seal_record(record, config.max_size)
        owner = None if record.owner is None else config.key_prefix + record.owner
        for _ in range(TRIES_FOR_AN_ID):
            session_id = draft.new_id or draft.mint_id()
            handle = handle_of(session_id)
            call = config.storage.create(config.key_prefix + handle, data, ttl, owner=owner)
            version = await self._calls.quick("create", call)
            if version is not None:
                draft.settle(session_id, handle, delta, Write(record, data, ttl, version), merged=False)
                self._events.send(EventKind.CREATED, handle, record.owner)
                return
            draft.new_id = None  # taken: never touch what is there, it may be a stranger's
        raise StorageError("id_generator returned taken IDs eight times in a row; it must be random")

    async def _write(self, draft: Draft, delta: Delta, step: Step) -> None:
        """Replace or move, again and again until it is stored, gone, or time is up."""
        config = self._config
        base, version = draft.record, draft.version
        conflicts = collisions = 0
        new_id = draft.id if step is MOVE else None
        give_up_at = 0.0  # counts from the first conflict: looking at the clock costs more than storing in memory
        while True:
            assert base is not None
            now = config.clock()
            record = apply(delta, base, self._codec, now, again=conflicts > 0)
            ttl = time_left(config, record.created_at, record.idle or config.idle_seconds, now)
            if ttl <= 0:
                self._events.send(EventKind.EXPIRED, draft.handle, base.owner, "the absolute deadline has passed")
                draft.lost()
                return
            try:
                write = Write(record, seal_record(record, config.max_size), ttl, version)
                answer = await self._send(draft, write, new_id)
            except StorageUnavailable:
                raise
            except StorageError:
                collisions += 1  # of a move: perhaps the new key is taken; never touch what is there
                if step is not MOVE or collisions == TRIES_FOR_AN_ID:
                    raise
                new_id = draft.mint_id()
                continue
            if answer is None:
                self._lose(draft)
                return
            if isinstance(answer, int):
                break
            conflicts += 1
            give_up_at = give_up_at or anyio.current_time() + config.timeout_seconds
            if anyio.current_time() >= give_up_at:
                raise StorageUnavailable("others kept writing this session until storage_timeout; try again")
            base, version = self._reopen(draft, answer), answer.version
        if conflicts:
            self._events.send(EventKind.CONFLICT, draft.handle, record.owner, str(conflicts + 1))
        old = draft.handle
        handle = old if new_id is None else handle_of(new_id)
        draft.settle(new_id, handle, delta, Write(record, b"", ttl, answer), merged=conflicts > 0)
        draft.renewed = True
        if step is MOVE:
            self._events.send(EventKind.REGENERATED, handle, record.owner, f"was {old}")

    def _send(self, draft: Draft, write: Write, new_id: str | None) -> Awaitable[int | Stored | None]:
        owner = None if write.record.owner is None else self._config.key_prefix + write.record.owner
        storage, version = self._config.storage, write.version
        if new_id is None:
            step = REPLACE
            call = storage.replace(draft.key, write.data, write.ttl, version=version, owner=owner)
        else:
            step = MOVE
            new_key = self._config.key_prefix + handle_of(new_id)
            call = storage.move(draft.key, new_key, write.data, write.ttl, version=version, owner=owner)
        return self._calls.quick(step.value, call)

    async def _undo(self, draft: Draft, record: Record | None, session_id: str | None) -> None:
        """Take back a login that lost the race for the last place: the session is again what it was.

        Not under its old ID, though: that is dead since the login moved the record, and somebody may
        have ended it meanwhile (P2). The client learns another one with its 409.
        """
        config = self._config
        if record is None or session_id is None:
            await self._calls.run("delete", config.storage.delete(draft.key))
            draft.end()
            return
        now = config.clock()
        ttl = max(time_left(config, record.created_at, record.idle or config.idle_seconds, now), 0.001)
        write = Write(record, seal_record(record, config.max_size), ttl, draft.version)
        new_id = None if draft.stored_id == session_id else draft.mint_id()
        answer = await self._send(draft, write, new_id)
        if not isinstance(answer, int):
            draft.lost()
            return
        kept = new_id or session_id
        draft.load(kept, handle_of(kept), record, Stored(write.data, answer, ttl), now)
        draft.discard()
        draft.announce, draft.renewed = new_id is not None, False

    def _reopen(self, draft: Draft, stored: Stored) -> Record:
        try:
            return open_record(stored.data, self._config.max_size)
        except CorruptRecord as exc:  # a newer version of the program wrote it meanwhile: leave it alone
            self._events.send(EventKind.CORRUPT, draft.handle, None, str(exc))
            raise StorageError(
                "the session was rewritten in a form that cannot be read here; nothing was stored"
            ) from exc

    def _lose(self, draft: Draft) -> None:
        self._events.send(EventKind.GONE, draft.handle, draft.record.owner if draft.record else None)
        draft.lost()


async def _turn(draft: Draft) -> None:
    """Wait until no other task of the request is storing or ending this session."""
    while draft.saving is not None:
        done = anyio.Event()
        draft.saving.append(done)
        await done.wait()


def _done(draft: Draft, waiting: list[anyio.Event]) -> None:
    if draft.taken is not None:
        draft.give_back()
    draft.saving = None
    for event in waiting:
        event.set()


def _gone() -> SessionGone:
    return SessionGone("the session was ended meanwhile, and nothing was stored; reset() or destroy() starts a new one")
