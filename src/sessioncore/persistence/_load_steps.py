"""Loading: from a request to its session, as a machine without I/O.

The places of the request are tried in order until an ID resolves to a live session. What a
chain, two different IDs in one place, a malformed ID and each answer of the storage mean
is decided here and nowhere else.

    step            answer                       what follows
    await a text    text, or None                the text is judged; the next place
                    AmbiguousID                  the end: no session, not even another place's
                    StorageError                 the end: a use of the session raises it
    load a key      Stored, live                 the end: this is the session
                    Stored, corrupt or overdue   the next place
                    Unreadable, None             the next place
                    StorageError                 the end: a use of the session raises it
    touch the key   True, StorageError           the end: this is the session
                    False                        the next place: it ended meanwhile
"""

from collections.abc import Sequence
from inspect import isawaitable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from sessioncore._errors import ConfigError, CorruptRecord, StorageError
from sessioncore._events import EventKind
from sessioncore._storage_calls import Load, Stored, Touch, Unreadable
from sessioncore.codec._record import decode_record
from sessioncore.http._cookies import AmbiguousID
from sessioncore.http._extractors import OTHER, Extractor, RequestView, Source
from sessioncore.http._ids import ID_PATTERN, handle_of
from sessioncore.persistence._drive import Answer, AwaitText, Step, Telling
from sessioncore.persistence._store_context import StoreContext
from sessioncore.session._loaded import Loaded
from sessioncore.session._state import SessionState
from sessioncore.session._unusable import ErrorFactory, again

__all__ = ["FOREIGN", "LoadSteps", "next_found", "opened"]

FOREIGN: Final = "the storage holds something under this key that it did not write"


def opened(
    context: StoreContext, session_id: str, handle: str, answer: Answer, *, visit: bool, renewed: bool = False
) -> Loaded | Telling:
    """Return what a storage's answer to a load holds: a live session, or the event that says why it does not.

    `visit`: this is a visitor's request, so the idle clock counts from now. `renewed`: the
    load has set it anew already.
    """
    if not isinstance(answer, Stored):
        if isinstance(answer, Unreadable):
            return EventKind.CORRUPT, handle, None, FOREIGN
        return EventKind.UNKNOWN, handle, None, ""
    try:
        record = decode_record(answer.data, context.config.max_size)
    except CorruptRecord as exc:
        return EventKind.CORRUPT, handle, None, str(exc)  # left in place, for inspection, until it expires
    now = context.config.clock()
    lifetimes, idle, ttl = context.lifetimes, record.idle, answer.ttl
    full = lifetimes.left(record.created_at, idle, now)
    if full <= 0.0:
        return EventKind.EXPIRED, handle, record.owner, "the absolute deadline has passed"
    due = visit and lifetimes.is_stale(full, idle, ttl)
    return Loaded(session_id, handle, record, answer.version, ttl, now, due, renewed)


def next_found(extractors: Sequence[Extractor], view: RequestView, number: int) -> tuple[int, object] | None:
    """Look into the places from `number` on; None: there is nothing in any of them.

    Returns the number of the place, and a text, something to await, or the error that the place met.
    """
    for extractor in extractors[number:] if number else extractors:
        try:
            text = extractor.extract(view)
        except (AmbiguousID, StorageError) as exc:
            return number, exc
        if text is not None:
            return number, text
        number += 1
    return None


class LoadSteps(Struct, eq=False):
    """Finds the session of a request in which there is something that may be an ID.

    Invariant: `session_id` is there while a load or touch is under way, `live` only during
    a touch. Afterwards `source` and `presented` are what the response needs to know.
    """

    context: StoreContext
    view: RequestView | None  # None once the search, or the request, is over: it leads back here
    number: int  # of the place that is being looked into
    source: Source | None = None  # where the ID of the live session came from; None: there is none
    presented: bool = False  # the client has an ID, and hears of the session's end
    session_id: str = ""  # whose session is being loaded
    handle: str = ""
    live: Loaded | None = None  # its idle clock is being set to the session's own timeout
    state: SessionState | None = None  # of the session that was found; None: there is none
    unusable: ErrorFactory | None = None  # what its use raises, at the end; None: it can be used
    events: list[Telling] | None = None  # None: nothing to tell
    error: None = None  # what cannot be loaded is an error of the session's use

    def __repr__(self) -> str:
        return "<LoadSteps>"  # the fields hold an ID

    def start(self, found: object) -> Step | None:
        """Judge what was found in the place: a text, something to await, or the error that it met."""
        if not isinstance(found, str):
            if isinstance(found, (AmbiguousID, StorageError)):
                return self._failed(found)
            if isawaitable(found):
                return AwaitText(found)
            key = self.context.extractors[self.number].key
            raise ConfigError(f"the extractor of {key!r} must return str or None, not {type(found).__name__}")
        context = self.context
        if context.extractors[self.number].source is not OTHER:
            self.presented = True
        if ID_PATTERN.fullmatch(found) is None:
            self._tell(EventKind.MALFORMED, None, f"{len(found)} characters")
            return self._look_on()
        self.session_id = found
        self.handle = handle = handle_of(found)
        return Load(context.config.key_prefix + handle, context.renew)

    def answered(self, answer: Answer) -> Step | None:
        """Take a text of an extractor, or a reply of the storage."""
        context, found = self.context, self.live
        if found is not None:
            found = self._touched(found, answer)
        elif isinstance(answer, (AmbiguousID, StorageError)):
            return self._failed(answer)
        elif not self.session_id:
            return self._look_on() if answer is None else self.start(answer)
        else:
            renewed = context.renew is not None
            told = opened(context, self.session_id, self.handle, answer, visit=True, renewed=renewed)
            if not isinstance(told, Loaded):
                self._add(told)
            elif renewed and told.renewal_due:  # the load has set the configured timeout; this session has its own
                self.live = told
                return Touch(context.config.key_prefix + told.handle, self._own_ttl(told))
            else:
                found = told
        if found is None:
            return self._look_on()
        self.source = source = context.extractors[self.number].source
        if source is OTHER:
            self.presented = False  # it is the session of another place, to which we do not write
        self.view = None
        self.state = SessionState.of(found, context.codec)
        return None

    def _look_on(self) -> Step | None:
        """Go on to the next place."""
        self.session_id = ""
        found = None
        if self.view is not None:
            found = next_found(self.context.extractors, self.view, self.number + 1)
        if found is None:
            return self._end(None)
        self.number, text = found
        return self.start(text)

    def _failed(self, error: AmbiguousID | StorageError) -> Step | None:
        if isinstance(error, StorageError):
            return self._end(again(error))
        # With two IDs in one place one of them was planted; none is used, not even another place's.
        key = self.context.extractors[self.number].key
        self._tell(EventKind.AMBIGUOUS, None, f"two different values in {key}")
        return self._end(None)

    def _touched(self, found: Loaded, answer: Answer) -> Loaded | None:
        """Return the session whose idle clock was to be set to its own timeout; None: it ended meanwhile."""
        self.live = None
        if answer is False:
            self._tell(EventKind.UNKNOWN, found.handle)
            return None
        if answer is True:
            self._add((EventKind.RENEWED, found.handle, found.record.owner, ""))
            return replace(found, ttl=self._own_ttl(found), renewal_due=False)
        return found

    def _own_ttl(self, found: Loaded) -> float:
        return self.context.lifetimes.left(found.record.created_at, found.record.idle, found.at)

    def _end(self, unusable: ErrorFactory | None) -> Step | None:
        self.view = None
        self.session_id = ""
        self.unusable = unusable
        return None

    def _tell(self, kind: EventKind, handle: str | None, detail: str = "") -> None:
        self._add((kind, handle, None, detail))

    def _add(self, event: Telling) -> None:
        if self.events is None:
            self.events = []
        self.events.append(event)
