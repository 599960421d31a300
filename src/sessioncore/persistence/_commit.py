"""Brings a draft into the storage: carries out what `_plan` decides.

One compare-and-set per commit. When others wrote meanwhile, this request's own
changes are applied to the current record and tried again, for as long as
`storage_timeout` allows; when the record is gone, the changes are dropped.
"""

from collections.abc import Coroutine
from typing import Any, Final

import anyio
from msgspec import UNSET, Struct

from sessioncore._config import SessionConfig
from sessioncore._errors import CorruptRecord, KeyTaken, SessionGone, StorageError, StorageUnavailable
from sessioncore._events import EventKind, Events
from sessioncore._storage_protocol import Stored
from sessioncore.codec._codec import Codec
from sessioncore.codec._record import Record, open_record, seal_record
from sessioncore.http._ids import handle_of
from sessioncore.persistence._calls import StorageCalls
from sessioncore.persistence._owners import Owners
from sessioncore.session._changes import NO_CHANGES, Attempt, Delta, Write, apply, is_stale, rebase, time_left
from sessioncore.session._draft import Draft
from sessioncore.session._plan import CREATE, MOVE, NOTHING, REPLACE, TOUCH, Step, decide
from sessioncore.session._states import GONE, LIVE

__all__ = ["Committer"]

TRIES_FOR_AN_ID: Final = 8  # one collision of 256-bit IDs will never be seen; eight mean a broken generator


class _Hidden(Struct, frozen=True, gc=False):
    """An ID, or none, for variables that stand in the traceback of a storage that fails; tools write those down."""

    text: str | None

    def __repr__(self) -> str:
        return "<hidden>"


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
            StorageUnavailable: the outcome is unknown; the next commit begins by finding it out.
        """
        if draft.saving is not None:
            await _turn(draft)
        waiting: list[anyio.Event] = []
        draft.saving = waiting
        try:
            if draft.doubt is not None:
                await self._calls.whole(self._clear_up(draft, draft.doubt))
            delta = draft.delta()
            state = draft.state
            due = draft.renew or (explicit and self._is_stale(draft))
            if delta is None:
                step = decide(state, changed=False, rotated=False, renewal_due=due)
            else:
                changed = delta.changes if state is LIVE else delta.writes
                step = decide(state, changed=changed, rotated=delta.wishes.rotate, renewal_due=due)
            if step is TOUCH:
                await self._touch(draft)
            elif delta is not None and step is not NOTHING:
                draft.take()
                new_id = _Hidden(draft.id if step is MOVE else None)  # now: a release would make it the old one again
                await self._calls.whole(self._store(draft, delta, step, new_id))
        finally:
            _done(draft, waiting)
        if explicit and draft.state is GONE:
            raise _gone()

    async def create(self, draft: Draft) -> None:
        """Store a fresh draft, also an empty one."""
        delta = draft.delta() or NO_CHANGES
        draft.take()
        await self._calls.whole(self._store(draft, delta, CREATE, _Hidden(None)))

    async def discard(self, draft: Draft) -> None:
        """Forget what is not stored, once another task of the request knows what became of its own save."""
        await _turn(draft)
        draft.discard()

    async def renew(self, draft: Draft) -> None:
        """Renew the idle clock, if that is due, of a session that the handler has released."""
        await _turn(draft)  # what another task is storing has to be told
        if draft.renew and draft.left is LIVE:
            await self._touch(draft)

    async def end(self, draft: Draft) -> None:
        """Delete the record behind the draft, if there is one; then clear the draft."""
        if draft.saving is not None:
            await _turn(draft)
        waiting: list[anyio.Event] = []
        draft.saving = waiting
        try:
            await self._calls.whole(self._end(draft))
        finally:
            _done(draft, waiting)

    async def _end(self, draft: Draft) -> None:
        handle, owner = draft.handle, draft.record.owner if draft.record else None
        keys = [draft.key] if draft.state is LIVE else []
        if draft.doubt is not None and draft.doubt.new_id is not None:  # it may be there already
            keys.append(self._config.key_prefix + handle_of(draft.doubt.new_id))
        ended = await self._calls.run("delete", lambda: self._config.storage.delete(*keys)) if keys else 0
        if draft.state is LIVE:  # if nothing was there, another request has ended it, or moved it
            self._events.send(EventKind.DESTROYED if ended else EventKind.GONE, handle, owner)
        draft.end()

    def _is_stale(self, draft: Draft) -> bool:
        record = draft.record
        if record is None or draft.state is not LIVE:
            return False
        now = self._config.clock()
        full = time_left(self._config, record.created_at, draft.idle, now)
        return is_stale(self._config, record.idle, full, draft.ttl - (now - draft.loaded_at))

    async def _touch(self, draft: Draft) -> None:
        """Renew the idle clock. Nothing that the handler stored depends on it, so a failure is told, not raised."""
        record = draft.record
        assert record is not None
        now = self._config.clock()
        ttl = time_left(self._config, record.created_at, draft.idle, now)
        if ttl <= 0:
            return
        try:
            alive = await self._calls.run("touch", lambda: self._config.storage.touch(draft.key, ttl))
        except StorageError:
            return  # it was told as an event already
        if alive:
            draft.ttl, draft.loaded_at, draft.renewed, draft.renew = ttl, now, True, False
            self._events.send(EventKind.RENEWED, draft.handle, record.owner)
        else:
            self._lose(draft)

    async def _store(self, draft: Draft, delta: Delta, step: Step, new_id: _Hidden) -> None:
        limited = self._config.max_sessions_per_owner is not None and delta.wishes.owner is not UNSET
        if limited:
            await self._owners.admit(draft, delta)
        before = draft.record, _Hidden(draft.stored_id)
        if step is CREATE:
            await self._create(draft, delta)
        else:
            await self._write(draft, delta, step, new_id)
        if limited and draft.state is LIVE and await self._owners.excess(draft, delta):
            error = self._owners.refused(draft)
            await self._undo(draft, *before)
            raise error

    async def _create(self, draft: Draft, delta: Delta) -> None:
        write = self._write_of(delta, None, 0, again=False)
        for _ in range(TRIES_FOR_AN_ID):
            attempt = Attempt(CREATE, delta, write, draft.new_id or draft.mint_id(), merged=False)
            version = await self._send(draft, attempt)
            if isinstance(version, int):
                self._settle(draft, attempt, version)
                return
            draft.new_id = None  # taken: never touch what is there, it may be a stranger's
        raise _always_taken()

    async def _write(self, draft: Draft, delta: Delta, step: Step, new_id: _Hidden) -> None:
        """Replace or move, again and again until it is stored, gone, or time is up."""
        base, version = draft.record, draft.version
        conflicts = collisions = 0
        give_up_at = 0.0  # counts from the first conflict: looking at the clock costs more than storing in memory
        while True:
            assert base is not None
            write = self._write_of(delta, base, version, again=conflicts > 0)
            if write.ttl <= 0:
                self._events.send(EventKind.EXPIRED, draft.handle, base.owner, "the absolute deadline has passed")
                draft.lost()
                return
            attempt = Attempt(step, delta, write, new_id.text, merged=conflicts > 0)
            try:
                answer = await self._send(draft, attempt)
            except KeyTaken as exc:  # never touch what is there, it may be a stranger's
                if step is not MOVE:
                    raise
                collisions += 1
                if collisions == TRIES_FOR_AN_ID:
                    raise _always_taken() from exc
                new_id = _Hidden(draft.mint_id())
                continue
            if answer is None:
                self._lose(draft)
                return
            if isinstance(answer, int):
                break
            conflicts += 1
            give_up_at = give_up_at or anyio.current_time() + self._config.timeout_seconds
            _expect_time(give_up_at)
            if conflicts > 1:  # a storage that answers at once would not let the others finish
                await anyio.lowlevel.checkpoint()
            base, version = self._reopen(draft, answer), answer.version
        if conflicts:
            self._events.send(EventKind.CONFLICT, draft.handle, write.record.owner, str(conflicts + 1))
        self._settle(draft, attempt, answer)

    def _write_of(self, delta: Delta, base: Record | None, version: int, *, again: bool) -> Write:
        """Return what `delta` makes of a record, sealed; where its ttl is not above zero it must not be sent."""
        config = self._config
        now = config.clock()
        record = apply(delta, base, self._codec, now, again=again)
        ttl = time_left(config, record.created_at, record.idle or config.idle_seconds, now)
        return Write(record, seal_record(record, config.max_size), ttl, version)

    async def _send(self, draft: Draft, attempt: Attempt) -> int | Stored | None:
        """Send a write; if nobody knows whether it arrived, leave it in doubt."""
        storage, write, prefix = self._config.storage, attempt.write, self._config.key_prefix
        owner = None if write.record.owner is None else prefix + write.record.owner
        data, ttl, version = write.data, write.ttl, write.version
        new_key = "" if attempt.new_id is None else prefix + handle_of(attempt.new_id)

        def call() -> Coroutine[Any, Any, int | Stored | None]:
            if attempt.step is CREATE:
                return storage.create(new_key, data, ttl, owner=owner)
            if attempt.step is MOVE:
                return storage.move(draft.key, new_key, data, ttl, version=version, owner=owner)
            return storage.replace(draft.key, data, ttl, version=version, owner=owner)

        try:
            return await self._calls.run(attempt.step.value, call)
        except StorageUnavailable:
            if draft.taken is not None:
                draft.doubt = attempt
            raise

    async def _clear_up(self, draft: Draft, doubt: Attempt) -> None:
        """Find out what became of a write whose reply was lost: it must be neither lost nor done twice.

        Its bytes tell: they hold the time of writing, so another request's are not the same.
        """
        key = draft.key if doubt.new_id is None else self._config.key_prefix + handle_of(doubt.new_id)
        stored = await self._calls.run("load", lambda: self._config.storage.load(key))
        if stored is not None and stored.data == doubt.write.data:
            self._settle(draft, doubt, stored.version)
        elif stored is None or (doubt.new_id is None and stored.version == doubt.write.version):
            draft.give_back()  # it did not arrive, or there is nothing any more: the next step tells
        else:
            raise StorageUnavailable("others wrote this session, perhaps on top of a write whose reply was lost")

    def _settle(self, draft: Draft, done: Attempt, version: int) -> None:
        """Take what was stored as the new base, and tell of it."""
        write, old = done.write, draft.handle
        handle = old if done.new_id is None else handle_of(done.new_id)
        settled = Write(write.record, b"", write.ttl, version)
        draft.settle(done.new_id, handle, done.delta, settled, merged=done.merged)
        if done.step is CREATE:
            self._events.send(EventKind.CREATED, handle, write.record.owner)
            return
        draft.renewed = True
        if done.step is MOVE:
            self._events.send(EventKind.REGENERATED, handle, write.record.owner, f"was {old}")

    async def _undo(self, draft: Draft, record: Record | None, was: _Hidden) -> None:
        """Take back a login that lost the race for the last place: the session is again what it was.

        Not under its old ID, though: that is dead since the login moved the record, and somebody may
        have ended it meanwhile (P2). The client learns another one with its 409.
        """
        config = self._config
        if record is None or was.text is None:
            key = draft.key
            await self._calls.run("delete", lambda: config.storage.delete(key))
            draft.end()
            return
        new_id = _Hidden(None if draft.stored_id == was.text else draft.mint_id())
        step = REPLACE if new_id.text is None else MOVE
        seen, version, give_up_at = draft.record, draft.version, anyio.current_time() + config.timeout_seconds
        assert seen is not None
        while True:
            now = config.clock()
            ttl = max(time_left(config, record.created_at, record.idle or config.idle_seconds, now), 0.001)
            write = Write(record, seal_record(record, config.max_size), ttl, version)
            answer = await self._send(draft, Attempt(step, NO_CHANGES, write, new_id.text, merged=False))
            if not isinstance(answer, Stored):
                break
            _expect_time(give_up_at)
            there, version = self._reopen(draft, answer), answer.version
            record, seen = rebase(record, seen, there), there
        if answer is None:
            draft.lost()
            return
        kept = new_id.text or was.text
        draft.load(kept, handle_of(kept), record, Stored(write.data, answer, ttl), now)
        draft.discard()
        draft.announce, draft.renewed = new_id.text is not None, False

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
    if draft.taken is not None and draft.doubt is None:
        draft.give_back()
    draft.saving = None
    for event in waiting:
        event.set()


def _expect_time(give_up_at: float) -> None:
    if anyio.current_time() >= give_up_at:
        raise StorageUnavailable("others kept writing this session until storage_timeout; try again")


def _always_taken() -> StorageError:
    return StorageError("id_generator returned taken IDs eight times in a row; it must be random")


def _gone() -> SessionGone:
    return SessionGone("the session was ended meanwhile, and nothing was stored; reset() or destroy() starts a new one")
