"""The sessions of an owner: finding, listing and ending them.

The storage's index only says which records to load; the owner in each record decides. So an
outdated index can neither list nor revoke the session of another owner.
"""

import math
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, cast

from msgspec import Struct

from sessioncore._batched import batched
from sessioncore._errors import CodecError, CorruptRecord
from sessioncore._events import EventKind
from sessioncore._storage_calls import Delete, Load, Move, Moved, Reply, Stored, Unreadable
from sessioncore._storage_capabilities import LoadsMany
from sessioncore._storage_protocol import capability
from sessioncore.codec._record import Record, datetime_of, decode_record
from sessioncore.concurrency._gather import gather
from sessioncore.http._ids import handle_of, is_handle, new_id
from sessioncore.persistence._commit_events import ENDED_TTL
from sessioncore.persistence._driver import Driver
from sessioncore.persistence._load_answers import UNREADABLE_DETAIL
from sessioncore.persistence._machine import check_fields
from sessioncore.persistence._store_context import StoreContext

__all__ = ["OwnedSession", "Owners", "SessionInfo"]

BATCH = 1000  # sessions that one call of a storage loads or deletes


class SessionInfo(Struct, frozen=True):
    """One session of an owner, as `SessionStore.sessions_of` returns it. Times are aware UTC datetimes."""

    handle: str
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    details: dict[str, Any]


class OwnedSession(Struct, frozen=True):
    """One live session of an owner, with its record; times are in seconds since the epoch."""

    handle: str
    record: Record
    version: int
    last_seen: float
    expires: float


class Owners:
    """Finds and ends the sessions of owners in one store."""

    __slots__ = ("_config", "_context", "_driver", "_events", "_loads_many")

    def __init__(self, context: StoreContext, driver: Driver) -> None:
        self._config = context.config
        self._context = context
        self._driver = driver
        self._loads_many = capability(context.config.storage, LoadsMany)
        self._events = context.events

    async def sessions(self, owner: str) -> list[OwnedSession]:
        """Return the owner's live sessions."""
        found = await self._load_owned(owner)
        now = self._config.clock()
        return [one for one in found.values() if one is not None and one.record.owner == owner and one.expires > now]

    async def newest_first(self, owner: str) -> list[OwnedSession]:
        """Return the owner's live sessions, for a list."""
        theirs = await self.sessions(owner)
        return sorted(theirs, key=lambda owned: (owned.record.created_at, owned.handle), reverse=True)

    async def list_infos(self, owner: str) -> list[SessionInfo]:
        """Return what an application sees of the owner's sessions, newest first."""
        return [
            SessionInfo(
                owned.handle,
                datetime_of(owned.record.created_at),
                datetime_of(owned.last_seen),
                datetime_of(owned.expires),
                self._details_of(owned),
            )
            for owned in await self.newest_first(owner)
        ]

    def _details_of(self, owned: OwnedSession) -> dict[str, Any]:
        """Return the details, or an empty dict if they cannot be read: the session must be listed all the same."""
        try:
            return self._context.codec.decode_details(owned.record.details)
        except CodecError as exc:
            self._events.send(EventKind.CORRUPT, owned.handle, owned.record.owner, str(exc))
            return {}

    async def revoke(self, handle: str, owner: str | None) -> bool:
        """End one session; with `owner`, only if it belongs to that owner."""
        if not is_handle(handle):
            return False
        if owner is not None:
            owned = await self.load_moved(handle)
            if owned is None or owned.record.owner != owner:
                return False
        return bool(await self.end([handle], EventKind.REVOKED, owner))

    async def load_moved(self, handle: str) -> OwnedSession | None:
        """Load the session with this handle, which may be a former one."""
        _, answer = await self._follow(handle)
        if not isinstance(answer, (Stored, Unreadable)):
            return None
        return self._to_owned_session(handle, answer, Load.operation)

    async def _follow(self, handle: str) -> tuple[str, Reply]:
        """Return the handle that this session has now, perhaps after moves, and what its key holds."""
        key, passed = self._config.key_prefix + handle, set[str]()
        while isinstance(answer := await self._driver.call(Load(key, uncached=True)), Moved) and key not in passed:
            check_fields(self._config.storage, Load.operation, answer)
            passed.add(key)  # no move makes tombstones that lead in a circle, but damage may
            key = answer.key
        return key.removeprefix(self._config.key_prefix), answer

    async def end(self, handles: Iterable[str], kind: EventKind, owner: str | None, detail: str = "") -> int:
        """Delete sessions in batches, send their events, and return how many were live.

        A storage tells how many of a batch were live, not which. If another request ended some of
        them first, the batch gets one event with the number.
        """
        total = 0
        for batch in batched(handles, BATCH):
            keys = tuple(self._config.key_prefix + handle for handle in batch)
            ended = cast("int", await self._driver.call(Delete(keys)))
            if ended == len(batch):
                for handle in batch:
                    self._events.send(kind, handle, owner, detail)
            elif ended:
                number = f"{ended} of {len(batch)} sessions; others had ended meanwhile"
                self._events.send(kind, None, owner, f"{detail}: {number}" if detail else number)
            total += ended
        return total

    async def end_unchanged(self, sessions: Sequence[OwnedSession], kind: EventKind, owner: str, detail: str) -> int:
        """End the sessions that have not changed since they were loaded, send their events, and return how many.

        `delete` would follow the tombstone of a session that has just logged in again, and end it. A move is
        carried out only if the record still has its version. This one leads to a random key, where the record
        expires immediately.
        """
        prefix = self._config.key_prefix
        moves = [
            Move(prefix + one.handle, prefix + handle_of(new_id()), b"", ENDED_TTL, one.version, None)
            for one in sessions
        ]
        replies = await gather([partial(self._driver.call, move) for move in moves])
        ended = [one.handle for one, reply in zip(sessions, replies, strict=True) if isinstance(reply, int)]
        for handle in ended:
            self._events.send(kind, handle, owner, detail)
        return len(ended)

    async def revoke_all(self, owner: str, keep: str | None) -> int:
        """End the owner's sessions except `keep`; repeat until no session is left that began before this call.

        A request may move a session to a new ID between the listing and the deletion. The index
        is updated with the move, so the next listing has the new key. A record that cannot be read
        here, for example of a newer format, is ended because the index lists it for this owner.
        """
        started, newest, ended = self._config.clock(), math.inf, 0
        while True:
            found = await self._load_owned(owner)
            if keep is not None and keep not in found:  # it may have moved, even after the caller got it
                keep = (await self._follow(keep))[0]
            theirs = [
                handle
                for handle, one in found.items()
                if handle != keep and one is not None and one.record.owner == owner and one.record.created_at <= newest
            ]
            unreadable = [handle for handle, one in found.items() if handle != keep and one is None]
            if not theirs and not unreadable:
                return ended
            # In separate calls, because a storage may remove what it cannot read without counting it.
            ended += await self.end(theirs, EventKind.REVOKED, owner)
            ended += await self.end(unreadable, EventKind.REVOKED, owner)
            # Clocks differ, so the first listing ends sessions of any age; the later ones spare new logins.
            newest = started

    async def _load_owned(self, owner: str) -> dict[str, OwnedSession | None]:
        """Return the sessions that the index lists, by handle; None for a record that cannot be read.

        If a session moves after the listing, it is missing under the key that was listed. So list
        again until nothing is missing that was not missing before.
        """
        prefix, missing = self._config.key_prefix, set[str]()
        while True:
            keys = await self._driver.listed("owned_keys", lambda: self._config.storage.owned_keys(prefix + owner), str)
            # Another store's key_prefix may begin with this one, so the listing may contain its keys.
            handles = {handle for key in keys if is_handle(handle := key.removeprefix(prefix))}
            found = await self._load_all(handles)
            if handles - found.keys() <= missing:
                return found
            missing = handles - found.keys()

    async def _load_all(self, handles: Iterable[str]) -> dict[str, OwnedSession | None]:
        """Load many sessions in batches; None for a record that cannot be read."""
        found: dict[str, OwnedSession | None] = {}
        operation = Load.operation if self._loads_many is None else "load_many"
        for batch in batched(handles, BATCH):
            for handle, stored in zip(batch, await self._load_batch(batch), strict=True):
                if isinstance(stored, (Stored, Unreadable)):
                    found[handle] = self._to_owned_session(handle, stored, operation)
        return found

    async def _load_batch(self, handles: Sequence[str]) -> Collection[Reply]:
        keys = [self._config.key_prefix + handle for handle in handles]
        if (storage := self._loads_many) is not None:
            return await self._driver.listed("load_many", lambda: storage.load_many(keys), Load.replies, len(keys))
        return await gather([partial(self._driver.call, Load(key)) for key in keys])

    def _to_owned_session(self, handle: str, stored: Stored | Unreadable, operation: str) -> OwnedSession | None:
        if isinstance(stored, Unreadable):
            self._events.send(EventKind.CORRUPT, handle, None, UNREADABLE_DETAIL)
            return None
        now, lifetimes = self._config.clock(), self._context.lifetimes
        try:
            record = decode_record(stored.data, self._config.max_size)
            # The ttl tells the time of the last use, unless the absolute deadline cut it; the last write is a use, too.
            last_seen = min(now, max(record.written_at, now - (lifetimes.idle_of(record) - stored.ttl)))
            expires = now + lifetimes.remaining(record, stored.ttl, now)
        except CorruptRecord as exc:
            self._events.send(EventKind.CORRUPT, handle, None, str(exc))
            return None
        except TypeError:
            check_fields(self._config.storage, operation, stored)
            raise
        return OwnedSession(handle, record, stored.version, last_seen, expires)
