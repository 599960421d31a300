"""The short way of a commit where nothing is ever waited for: plain changes, kept in a MemoryStorage.

Plain are values set, changed and deleted in a session that is fresh, or that nobody
else wrote meanwhile. Whatever is rarer (logins, owners, conflicts, a record that is
gone, every error) goes one way only, that of `_commit`: then nothing was done here.
"""

from sessioncore._config import SessionConfig
from sessioncore._errors import SessionError
from sessioncore._events import EventKind, Events
from sessioncore.codec._codec import Codec
from sessioncore.codec._record import seal_record
from sessioncore.http._ids import handle_of
from sessioncore.session._changes import Delta, Write, apply, time_left
from sessioncore.session._draft import Draft
from sessioncore.session._states import FRESH, LIVE
from sessioncore.storage.memory._storage import CREATE, REPLACE
from sessioncore.storage.memory._table import Table

__all__ = ["Shortcut"]


class Shortcut:
    """Commits to one table."""

    __slots__ = ("_codec", "_config", "_events", "_table")

    def __init__(self, config: SessionConfig, table: Table, codec: Codec, events: Events) -> None:
        self._config = config
        self._table = table
        self._codec = codec
        self._events = events

    def commit(self, draft: Draft) -> bool:
        """Store what the draft changes, if that is plain; False: nothing was done, the draft is as it was."""
        if draft.wishes is not None or draft.saving is not None or draft.doubt is not None:
            return False
        state = draft.state
        if state is not LIVE and state is not FRESH:
            return False
        try:
            delta = draft.delta()
            if delta is None or not (delta.puts or delta.results or delta.drops):
                return not draft.renew
            return self._replace(draft, delta) if state is LIVE else self._create(draft, delta)
        except SessionError:
            return False  # nothing was written yet: it will be raised again where it can be answered

    def _replace(self, draft: Draft, delta: Delta) -> bool:
        config, base, handle = self._config, draft.record, draft.handle
        assert base is not None
        now = config.clock()
        record = apply(delta, base, self._codec, now, again=False)
        ttl = time_left(config, record.created_at, record.idle or config.idle_seconds, now)
        if ttl <= 0 or getattr(config.storage.replace, "__func__", None) is not REPLACE:
            return False
        data = seal_record(record, config.max_size)
        owner = None if record.owner is None else config.key_prefix + record.owner
        version = self._table.replace(config.key_prefix + handle, data, ttl, draft.version, owner)
        if type(version) is not int:
            return False
        draft.ops = None
        draft.shuffled = False
        draft.settle(None, handle, delta, Write(record, b"", ttl, version), merged=False)
        draft.renewed = config.absolute_seconds is None  # else the cookie does not follow the idle clock
        return True

    def _create(self, draft: Draft, delta: Delta) -> bool:
        config = self._config
        if not (delta.puts or delta.results):
            return True  # deleted what was never stored
        now = config.clock()
        record = apply(delta, None, self._codec, now, again=False)
        if getattr(config.storage.create, "__func__", None) is not CREATE:
            return False
        data = seal_record(record, config.max_size)
        ttl = time_left(config, now, config.idle_seconds, now)
        session_id = draft.new_id or draft.mint_id()
        handle = handle_of(session_id)
        version = self._table.create(config.key_prefix + handle, data, ttl, None)
        if version is None:
            return False
        draft.ops = None
        draft.shuffled = False
        draft.settle(session_id, handle, delta, Write(record, b"", ttl, version), merged=False)
        self._events.send(EventKind.CREATED, handle)
        return True
