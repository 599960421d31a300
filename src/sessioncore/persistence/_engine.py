"""The working parts of one store, put together: what its exchanges and its background work share.

Loading stands here: from an ID to a draft, in one call to the storage.
"""

from sessioncore._config import SessionConfig
from sessioncore._errors import CorruptRecord
from sessioncore._events import EventKind, Events
from sessioncore._storage_protocol import Stored
from sessioncore.codec._codec import Codec
from sessioncore.codec._record import open_record
from sessioncore.http._cookies import CookieWriter
from sessioncore.http._extractors import Source, places, vary_names
from sessioncore.http._ids import handle_of
from sessioncore.persistence._calls import StorageCalls
from sessioncore.persistence._commit import Committer
from sessioncore.persistence._owners import Owners
from sessioncore.persistence._shortcut import Shortcut
from sessioncore.session._changes import is_stale, time_left
from sessioncore.session._draft import Draft
from sessioncore.storage.memory._storage import LOAD, table_behind

__all__ = ["Engine"]


class Engine:
    """Everything that does not change from request to request; built once for each store."""

    __slots__ = (
        "_extend", "_table", "at_hand", "at_once", "calls", "codec", "committer", "config", "cookie_names", "cookies",
        "events", "headers", "owners", "places", "shortcut", "sole_cookie", "vary", "warns_of_http",
    )  # fmt: skip

    def __init__(self, config: SessionConfig) -> None:
        self.config = config
        self.codec = Codec()
        self.events = Events(config.on_event, config.clock)
        self.calls = StorageCalls(config.storage, config.timeout_seconds, self.events)
        self.owners = Owners(config, self.calls, self.events)
        self.committer = Committer(config, self.codec, self.calls, self.events, self.owners)
        self.places = tuple(places(config.extractor))
        self.vary = tuple(dict.fromkeys(name for place in self.places for name in vary_names(place)))
        sinks = {source: dict.fromkeys(p.key for p in self.places if p.source is source) for source in Source}
        self.cookies = tuple(_cookie_writer(config, name) for name in sinks[Source.COOKIE])
        self.cookie_names = frozenset(cookie.name for cookie in self.cookies)
        self.headers = tuple(name.lower() for name in sinks[Source.HEADER])
        self.warns_of_http = config.cookie_secure and bool(self.cookies)  # until it has
        self._table = table_behind(config.storage)
        self.shortcut = None if self._table is None else Shortcut(config, self._table, self.codec, self.events)
        # Only a touch_interval of zero renews with each load; else the commit does it, once it is due.
        self._extend = config.idle_seconds if config.touch_seconds == 0.0 else None
        # Places that answer at once: built in, and not in the body. Then a request without an ID needs no await.
        self.at_once = config.skip is None and all(place.vary for place in self.places)
        # The usual configuration: one cookie, read by the built-in extractor.
        usual = len(self.places) == 1 and self.places[0].vary == ("Cookie",)
        self.sole_cookie = self.places[0].key.encode("ascii") if usual else None
        # Records that are there at once, too, under the only ID that there can be: no await at all.
        self.at_hand = self._table is not None and self._extend is None and len(self.places) == 1

    async def load(self, draft: Draft, session_id: str, *, renew: bool) -> bool:
        """Fill `draft` from the storage; False if no live session has this ID.

        `renew`: this is a visitor's request, so the idle clock counts from now.

        Raises:
            StorageUnavailable: whether there is one is unknown.
        """
        config = self.config
        handle = handle_of(session_id)
        extend = self._extend if renew else None
        key = config.key_prefix + handle
        stored = await self.calls.run("load", lambda: config.storage.load(key, renew=extend))
        if not self._open(draft, session_id, handle, stored, renew=renew):
            return False
        if extend is not None:
            draft.renewed = draft.busy = True
            if draft.record is not None and draft.record.idle is not None:
                # The load set the configured one, and a commit may never come.
                await self.committer.commit(draft, explicit=False)
        return True

    def load_now(self, draft: Draft, session_id: str) -> bool | None:
        """Do what `load` does for a visitor's request, where the storage never suspends; None: it has to be awaited."""
        config, table = self.config, self._table
        if table is None or getattr(config.storage.load, "__func__", None) is not LOAD:
            return None
        handle = handle_of(session_id)
        return self._open(draft, session_id, handle, table.load(config.key_prefix + handle, None), renew=True)

    def _open(self, draft: Draft, session_id: str, handle: str, stored: Stored | None, *, renew: bool) -> bool:
        """Fill `draft` from what the storage holds; False if that is no live session."""
        config = self.config
        if stored is None:
            self.events.send(EventKind.UNKNOWN, handle)
            return False
        try:
            record = open_record(stored.data, config.max_size)
        except CorruptRecord as exc:
            self.events.send(EventKind.CORRUPT, handle, None, str(exc))
            return False  # left in place, for inspection, until it expires
        now = config.clock()
        # The ttl that the idle timeout would give now; at or below zero the absolute deadline has passed.
        full = time_left(config, record.created_at, record.idle or config.idle_seconds, now)
        if full <= 0.0:
            self.events.send(EventKind.EXPIRED, handle, record.owner, "the absolute deadline has passed")
            return False
        draft.load(session_id, handle, record, stored, now)
        if renew and is_stale(config, record.idle, full, stored.ttl):
            draft.renew = draft.busy = True
        return True


def _cookie_writer(config: SessionConfig, name: str) -> CookieWriter:
    return CookieWriter.build(
        name,
        path=config.cookie_path,
        domain=config.cookie_domain,
        secure=config.cookie_secure,
        http_only=config.cookie_http_only,
        same_site=config.cookie_same_site,
        partitioned=config.cookie_partitioned,
        session_only=config.cookie_session_only,
    )
