"""Whose sessions are whose: listing, revoking, and the limit of sessions per owner.

The storage's index says which keys to look at; the records say the truth. So a
lagging index can neither list nor revoke a stranger's session.
"""

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import cast

import anyio
from msgspec import Struct

from sessioncore._errors import CorruptRecord, OwnerLimitReached, SessionError
from sessioncore._events import EventKind
from sessioncore._storage_calls import Delete, Load, Stored, Unreadable
from sessioncore.codec._record import Record, decode_record
from sessioncore.http._ids import is_handle
from sessioncore.persistence._drive import Driver
from sessioncore.persistence._load_steps import FOREIGN
from sessioncore.persistence._store_context import StoreContext
from sessioncore.session._loaded import Loaded
from sessioncore.session._state import SessionState

__all__ = ["Owned", "Owners"]

AT_ONCE = 64  # loads in flight: enough to share round trips, few enough to stay polite

FIRST_POLL, LONGEST_POLL = 0.01, 0.2  # seconds between looks at logins that withdraw


class Owned(Struct, frozen=True):
    """One live session of an owner."""

    handle: str
    record: Record
    last_seen: float
    expires: float

    @property
    def age_rank(self) -> tuple[float, str]:
        """Older sessions first; the handle breaks ties, so that every process ranks alike."""
        return (self.record.created_at, self.handle)


class Owners:
    """The owners of one store's sessions."""

    __slots__ = ("_config", "_context", "_driver", "_events")

    def __init__(self, context: StoreContext, driver: Driver) -> None:
        self._config = context.config
        self._context = context
        self._driver = driver
        self._events = context.events

    async def sessions(self, owner: str) -> list[Owned]:
        """Return the owner's live sessions, oldest first."""
        found = await self._look(owner)
        now = self._config.clock()
        theirs = [one for one in found.values() if one is not None and one.record.owner == owner and one.expires > now]
        return sorted(theirs, key=lambda owned: owned.age_rank)

    async def revoke(self, handle: str, owner: str | None) -> bool:
        """End one session; with `owner`, only if it is theirs."""
        if not is_handle(handle):
            return False
        if owner is not None:
            owned = (await self._load_all([handle])).get(handle)
            if owned is None or owned.record.owner != owner:
                return False
        return await self._end(handle, owner)

    async def _end(self, handle: str, owner: str | None) -> bool:
        ended = await self._delete(handle)
        if ended:
            self._events.send(EventKind.REVOKED, handle, owner)
        return bool(ended)

    async def _delete(self, handle: str) -> int:
        return cast("int", await self._driver.ask(Delete((self._config.key_prefix + handle,))))

    async def revoke_all(self, owner: str, keep: str | None) -> int:
        """End the owner's sessions but `keep`; look again until none is left that began before this call.

        A request in flight may move a session to a new ID between the listing and the
        deletion. The index moves with it, so the next look finds it under its new name.
        A record that cannot be read here, say of a newer version, ends too: the index vouches for it.
        """
        started, newest, ended = self._config.clock(), math.inf, 0
        while True:
            doomed = [
                handle
                for handle, one in (await self._look(owner)).items()
                if handle != keep and (one is None or (one.record.owner == owner and one.record.created_at <= newest))
            ]
            if not doomed:
                return ended
            for handle in doomed:
                ended += await self._end(handle, owner)
            newest = started  # all of the first listing ends, whatever its server's clock said; later logins stay

    async def check_limit(self, state: SessionState, owner: str) -> None:
        """Refuse a login over the limit before anything is written.

        Raises:
            OwnerLimitReached: `on_owner_limit` is "refuse", and the owner has all that are allowed.
        """
        limit = self._config.max_sessions_per_owner
        if limit is None or self._config.on_owner_limit != "refuse":
            return
        own = None if state.loaded is None else state.loaded.handle
        others = [owned for owned in await self.sessions(owner) if owned.handle != own]
        if len(others) >= limit:
            raise self.refusal(state.handle, owner)

    async def enforce_limit(self, login: Loaded, owner: str) -> bool:
        """After a login: end what is over the limit; True if this very session is refused.

        Parallel logins all pass `check_limit`; each then ranks what it sees by age. The ranking
        is the same everywhere, so exactly the allowed number is left when the last is done.
        """
        limit = self._config.max_sessions_per_owner
        if limit is None:
            return False
        if self._config.on_owner_limit == "refuse":
            return await self._withdraws(login.handle, owner, limit)
        sessions = await self.sessions(owner)
        excess = len(sessions) - limit
        if login.record.created_at < login.record.written_at:
            # Bound long after it began: it must not end as the oldest, its visitor is the one who logs in. A login at
            # the same moment may still end it for its age, and be ended by it: too few are left then, never too many.
            sessions = [owned for owned in sessions if owned.handle != login.handle]
        for owned in sessions[: max(excess, 0)]:
            if await self._delete(owned.handle):
                self._events.send(EventKind.OWNER_LIMIT, owned.handle, owner, "a session over the limit was ended")
        return False

    async def _withdraws(self, handle: str, owner: str, limit: int) -> bool:
        """Tell whether a login that is stored already has to be taken back: the oldest stay.

        Newer logins over the limit withdraw when they see this one. If one does not, it had already
        been confirmed to its client, so this login withdraws instead. The newest has the shortest wait.
        """
        pause = FIRST_POLL
        began = anyio.current_time()
        while True:
            ranked = [owned.handle for owned in await self.sessions(owner)]
            if handle not in ranked[:limit]:
                return handle in ranked
            wait = self._config.storage_timeout.total_seconds() * (1 - ranked.index(handle) / limit / 2)
            if len(ranked) <= limit or anyio.current_time() >= began + wait:
                return len(ranked) > limit
            await anyio.sleep(pause)
            pause = min(pause * 2, LONGEST_POLL)

    def refusal(self, handle: str | None, owner: str) -> OwnerLimitReached:
        """Send the event of a login that was refused, and return its error."""
        self._events.send(EventKind.OWNER_LIMIT, handle, owner, "a login was refused")
        return OwnerLimitReached("this owner has all the sessions allowed; end one first, see max_sessions_per_owner")

    async def _look(self, owner: str) -> dict[str, Owned | None]:
        """Load what the index lists, by handle; None for what cannot be read.

        A session that moves between the listing and its load is under neither key then;
        so look again, until all that is listed is there, or is missing for the second time.
        """
        prefix, missing = self._config.key_prefix, set[str]()
        while True:
            keys = await self._driver.bounded("owned_keys", lambda: self._config.storage.owned_keys(prefix + owner))
            # Another store's prefix may begin with ours, and its owners then with our owners.
            handles = {handle for key in keys if is_handle(handle := key.removeprefix(prefix))}
            found = await self._load_all(handles)
            if handles - found.keys() <= missing:
                return found
            missing = handles - found.keys()

    async def _load_all(self, handles: Iterable[str]) -> dict[str, Owned | None]:
        """Load many sessions, some at a time, so that a storage that shares round trips can do so."""
        found: dict[str, Owned | None] = {}
        failed: list[SessionError] = []

        async def load(handle: str) -> None:
            try:
                key = self._config.key_prefix + handle
                stored = await self._driver.ask(Load(key))
            except SessionError as exc:  # raised below: a task group would wrap it
                failed.append(exc)
            else:
                if isinstance(stored, (Stored, Unreadable)):
                    found[handle] = self._owned(handle, stored)

        for some in batched(handles, AT_ONCE):
            async with anyio.create_task_group() as group:
                for handle in some:
                    group.start_soon(load, handle)
            if failed:
                raise failed[0]
        return found

    def _owned(self, handle: str, stored: Stored | Unreadable) -> Owned | None:
        if isinstance(stored, Unreadable):
            self._events.send(EventKind.CORRUPT, handle, None, FOREIGN)
            return None
        try:
            record = decode_record(stored.data, self._config.max_size)
        except CorruptRecord as exc:
            self._events.send(EventKind.CORRUPT, handle, None, str(exc))
            return None
        now = self._config.clock()
        left = self._context.lifetimes.left(record.created_at, stored.ttl, now)
        idle = self._context.lifetimes.idle if record.idle is None else record.idle
        # A ttl that was cut at the absolute deadline says little about the last use; a write always does.
        last_seen = min(now, max(record.written_at, now - (idle - stored.ttl)))
        return Owned(handle, record, last_seen, now + left)


def batched(items: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield the items in lists of at most `size`."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
