"""Loads the session of a request, as a machine without I/O.

The extractors are tried in order until an ID belongs to a live session. Only this module
decides what a chain, two different IDs in one place and a malformed ID mean; `_load_answers`
decides whether the storage's answer is a live session.

    step            answer                       next
    await a text    text                         check the text
                    None                         try the next extractor
                    AmbiguousID                  end: stale, whatever another extractor would find
                    StorageError                 end: a use of the session raises it
    load a key      Stored, live                 end: this is the session
                    Stored, corrupt or expired   try the next extractor
                    Moved                        try the next extractor; if none has a session, this one is stale
                    Unreadable, None             try the next extractor
                    StorageError                 end: a use of the session raises it
    touch the key   True, StorageError           end: this is the session
                    False                        try the next extractor: the session ended meanwhile
"""

from collections.abc import Sequence
from inspect import isawaitable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from sessioncore._errors import ConfigError, StorageError
from sessioncore._events import EventKind
from sessioncore._opaque import Opaque
from sessioncore._storage_calls import Load, Moved, Stored, Touch
from sessioncore.http._extractors import COOKIE, HEADER, OTHER, Extractor, Source
from sessioncore.http._ids import ID_PATTERN, AmbiguousID, handle_of
from sessioncore.http._request_view import RequestView
from sessioncore.http._shared_cookies import warn_if_anothers
from sessioncore.persistence._crossing import Crossing
from sessioncore.persistence._load_answers import interpret_load
from sessioncore.persistence._machine import Answer, AwaitText, QueuedEvent, Step
from sessioncore.persistence._store_context import StoreContext
from sessioncore.session._error_factories import ErrorFactory, error_factory
from sessioncore.session._initial_states import live_state, rejected_state, stale_state
from sessioncore.session._lifecycle import STALE
from sessioncore.session._loaded import Loaded
from sessioncore.session._state import SessionState

__all__ = ["LoadSteps", "next_candidate"]

_TWO_COOKIES: Final = (
    "a request has two different session cookies %s, so it has no session, and what it writes is dropped. If "
    "cookie_path or cookie_domain was changed, name the former place in "
    "SessionConfig(former_cookies=[(path, domain)]), which ends this; if another application of this domain "
    "uses the name, give one of the two another; if it is a test that sets one, set it with the domain of the "
    "base_url, so that the next cookie replaces it"
)
_TWO_HEADERS: Final = (
    "a request has two different session headers %s, so it has no session, and what it writes is dropped: find the "
    "client or proxy that adds the second one"
)


def next_candidate(extractors: Sequence[Extractor], view: RequestView, index: int) -> tuple[int, object] | None:
    """Call the extractors from `index` on; return None if none of them finds anything.

    Otherwise return the extractor's index, and the text, the awaitable or the error that it gave.
    """
    for extractor in extractors[index:] if index else extractors:
        try:
            text = extractor.extract(view)
        except (AmbiguousID, StorageError) as exc:
            return index, exc
        if text is not None:
            return index, text
        index += 1
    return None


class LoadSteps(Opaque, Struct, eq=False):
    """Loads the session of a request in which an extractor has found something.

    Invariant: `session_id` is set during a load or touch, `touching` during a touch. At the end,
    the response needs `session_id`, `source` and `has_clearable_id`.
    """

    context: StoreContext
    view: RequestView | None  # None at the end, because the request refers to this object
    index: int  # of the current extractor in `extractors`
    crossing: Crossing | None = None  # None: no other site made the request
    dead_id: bool = False  # the client sent an ID without a session, in a cookie or header
    session_id: str = ""  # of the session that is being loaded
    handle: str = ""
    touching: Loaded | None = None  # the session whose idle clock is being set to its own timeout
    state: SessionState | None = None  # of the session that was found, or that is stale; None: there is none
    unusable: ErrorFactory | None = None  # makes the error that a use raises; None: the session can be used
    events: list[QueuedEvent] | None = None  # None: there are none
    error: None = None  # a failed load is raised by the session's first use

    def start(self, found: object) -> Step | None:
        """Handle what the current extractor gave: a text, an awaitable, or an error."""
        if not isinstance(found, str):
            if isinstance(found, (AmbiguousID, StorageError)):
                return self._fail(found)
            if isawaitable(found):
                return AwaitText(found)
            key = self.extractors[self.index].key
            raise ConfigError(f"the extractor of {key!r} must return str or None, not {type(found).__name__}")
        if ID_PATTERN.fullmatch(found) is None:
            self._queue(QueuedEvent(EventKind.MALFORMED, detail=f"{len(found)} characters"))
            return self._reject_id()
        context = self.context
        self.session_id = found
        self.handle = handle = handle_of(found)
        return Load(context.config.key_prefix + handle, context.renew_on_load)

    def answered(self, answer: Answer) -> Step | None:
        """Handle the text of an extractor, or the reply of the storage."""
        if not self.session_id:
            return self._try_next() if answer is None else self.start(answer)
        context, touched = self.context, self.touching
        if touched is not None:
            found = self._touched(touched, answer)
        else:
            try:
                found = interpret_load(context, self.session_id, self.handle, answer, True)
            except StorageError as exc:
                return self._fail(exc)
        if not isinstance(found, Loaded):
            nothing_yet = self.state is None and self.crossing is None
            if isinstance(answer, Moved):
                self.state = stale_state(self.session_id, context.codec)
            elif nothing_yet and isinstance(answer, Stored):
                self.state = rejected_state(self.session_id, context.codec)
            elif self.source is COOKIE:
                warn_if_anothers(self.handle, self.extractors[self.index].key, context.warnings)
            self._queue(found)
            return self._reject_id()
        if found.renewal_due and found.renewed and touched is None:  # the load set the configured timeout, not its own
            self.touching = found
            return Touch(context.config.key_prefix + found.handle, self._own_ttl(found))
        self.view = None
        self.state = live_state(found, context.codec)
        if self.crossing is not None:
            self.crossing.found(self.state, self.extractors[self.index])
        return None

    @property
    def extractors(self) -> tuple[Extractor, ...]:
        """All extractors of the store, or those that a cross-site request may use."""
        return self.context.extractors if self.crossing is None else self.crossing.extractors

    @property
    def source(self) -> Source:
        """Where the ID of the session came from, or the last one that was tried."""
        return self.extractors[self.index].source

    def has_clearable_id(self) -> bool:
        """Return whether the client sent an ID in a cookie or header, which the response clears if the session ends.

        If the session came from elsewhere, such an ID belongs to another one, and is not cleared.
        """
        return self.source is not OTHER if self.session_id else self.dead_id

    def has_two_cookies(self) -> bool:
        """Return whether the client sent two different IDs in one cookie."""
        state = self.state
        ambiguous = state is not None and state.phase is STALE and state.former_id is None
        return ambiguous and self.source is COOKIE

    def _reject_id(self) -> Step | None:
        """Go on to the next extractor, because the ID that this one gave belongs to no session."""
        if self.source is not OTHER:
            self.dead_id = True
        return self._try_next()

    def _try_next(self) -> Step | None:
        """Go on to the next extractor."""
        self.session_id = ""
        assert self.view is not None, "the load has ended"
        found = next_candidate(self.extractors, self.view, self.index + 1)
        if found is None:
            return self._end_without_session()
        self.index, text = found
        return self.start(text)

    def _fail(self, error: AmbiguousID | StorageError) -> Step | None:
        if isinstance(error, StorageError):
            self.state = None
            return self._end(error_factory(error))
        # An attacker may have injected one of the two IDs, so use no ID of this request at all; destroy clears them.
        self.dead_id = True
        place = self.extractors[self.index]
        self._queue(QueuedEvent(EventKind.AMBIGUOUS, detail=f"two different values in {place.key}"))
        self.context.warnings.warn(_TWO_HEADERS if place.source is HEADER else _TWO_COOKIES, place.key)
        self.state = stale_state(None, self.context.codec)
        return self._end_without_session()

    def _touched(self, found: Loaded, answer: Answer) -> Loaded | QueuedEvent:
        """Return the session after the touch that sets its own idle timeout, or the event that it ended meanwhile."""
        self.touching = None
        if answer is False:
            return QueuedEvent(EventKind.UNKNOWN, found.handle)
        if answer is True:
            self._queue(QueuedEvent(EventKind.RENEWED, found.handle, found.record.owner))
            return replace(found, ttl=self._own_ttl(found), renewal_due=False)
        return found

    def _own_ttl(self, found: Loaded) -> float:
        return self.context.lifetimes.renewed_ttl(found.record, found.as_of)

    def _end_without_session(self) -> Step | None:
        crossing = self.crossing
        if crossing is None or (self.state is not None and crossing.cookies_allowed):
            return self._end(None)
        self.state, unusable = crossing.without_session()
        return self._end(unusable)

    def _end(self, unusable: ErrorFactory | None) -> Step | None:
        self.view = None
        self.session_id = ""
        self.unusable = unusable
        return None

    def _queue(self, event: QueuedEvent) -> None:
        if self.events is None:
            self.events = []
        self.events.append(event)
