"""One request: find the ID, load, let the handler work, commit, say what to answer.

An adapter drives an exchange in four calls and decides nothing itself: `load()`
before or during the handler, `commit(status)` once before the first byte,
`revise()` for the headers that the response already has, `finish()` at its end.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from inspect import isawaitable
from typing import Final

import anyio
from msgspec import Struct

from sessioncore._error_responses import Answer, answer_to, goes_astray
from sessioncore._errors import ConfigError, SessionError, SessionNotLoaded, StorageError
from sessioncore._events import EventKind
from sessioncore.http._cookies import AmbiguousID, read_cookie
from sessioncore.http._extractors import COOKIE, OTHER, Extractor, RequestView, Source
from sessioncore.http._ids import is_id
from sessioncore.http._response_headers import Pairs, revise
from sessioncore.persistence._engine import Engine
from sessioncore.session._draft import Draft, Recalled
from sessioncore.session._session import Session, released
from sessioncore.session._states import ENDED, LIVE, RELEASED

__all__ = ["Answer", "Exchange", "not_loaded"]

_logger = logging.getLogger("sessioncore")
_ASTRAY: Final = (
    "a Secure session cookie was sent over plain http, and browsers will drop it. Serve the application over TLS "
    "(a proxy must pass the scheme on to the server), or use SessionConfig.development() on your own machine."
)


class Exchange(Struct, eq=False):
    """Drives the session of one request; made by `store.exchange(view)`."""

    session: Session
    _engine: Engine
    _draft: Draft
    _view: RequestView | None
    place: Source | None = None  # where the ID of a live session came from; None for strangers
    _found: tuple[Extractor, str | Awaitable[str | None]] | None = None  # by `settled`
    _waiting: list[anyio.Event] | None = None
    _presented: bool = False  # the client has an ID in a place that we write to
    _loaded: bool = False
    _closed: bool = False  # committed: the headers are decided
    _failed: bool = False

    def __repr__(self) -> str:
        return f"<Exchange of {self.session!r}>"

    # -- before the handler

    def settled(self) -> bool:
        """Do what `load` does if that needs no waiting: True if the session can be used.

        Most requests of strangers end here, and those of visitors whose sessions are in
        memory: a coroutine for each would cost as much as the work.
        """
        view, engine = self._view, self._engine
        if self._loaded or view is None or not engine.at_once or self._waiting is not None:
            return self._loaded
        found: tuple[Extractor, str | Awaitable[str | None]] | None = None
        try:
            if engine.sole_cookie is None:
                found = self._look(view)
            elif (headers := view.cookie_headers()) and (text := read_cookie(headers, engine.sole_cookie)) is not None:
                found = engine.places[0], text
        except AmbiguousID:
            return False
        if found is not None:
            place, given = found
            live = None
            if engine.at_hand and isinstance(given, str) and is_id(given):
                live = engine.load_now(self._draft, given)
            if live is None:
                self._found = found
                return False
            self._presented = place.source is not OTHER
            if live:
                self.place = place.source
        self._draft.blocked = None
        self._loaded = True
        return True

    def _look(self, view: RequestView) -> tuple[Extractor, str | Awaitable[str | None]] | None:
        for place in self._engine.places:
            text = place.extract(view)
            if text is not None:
                return (place, text)
        return None

    async def load(self) -> None:
        """Find the ID and load its session, once; a storage failure is raised on first use of the session."""
        if self._loaded or self._view is None:
            return
        if self._waiting is not None:  # another task of this request is at it
            done = anyio.Event()
            self._waiting.append(done)
            await done.wait()
            await self.load()  # that task may have been cancelled before it was through
            return
        self._waiting = []
        try:
            skip = self._engine.config.skip
            if skip is not None and skip(self._view):
                self._draft.blocked = _skipped
            else:
                self._draft.blocked = await self._find(self._view)
            self._loaded = True
        finally:
            for done in self._waiting:
                done.set()
            self._waiting = None

    async def _find(self, view: RequestView) -> Callable[[], SessionError] | None:
        """Try the places in order until an ID resolves; return what bars the use of the session, if anything."""
        engine, found = self._engine, self._found
        self._found = None
        for place in engine.places:
            if found is not None and place is not found[0]:
                continue  # `settled` has looked there
            try:
                text = place.extract(view) if found is None else found[1]
                found = None
                if text is not None and not isinstance(text, str):
                    text = await _text(place, text)
                if text is None:
                    continue
                if place.source is not OTHER:
                    self._presented = True
                if not is_id(text):
                    engine.events.send(EventKind.MALFORMED, detail=f"{len(text)} characters")
                elif await engine.load(self._draft, text, renew=True):
                    self.place = place.source
                    return None
            except AmbiguousID:
                # With two IDs in one place one of them was planted; none is used, not even another place's.
                engine.events.send(EventKind.AMBIGUOUS, detail=f"two different values in {place.key}")
                return None
            except StorageError as exc:
                return Recalled(exc)
        return None

    async def obtain(self) -> Session:
        """Return the session, loaded.

        Raises:
            SessionNotLoaded: this request is skipped.
            SessionReleased: it is over.
            StorageUnavailable: the session could not be loaded.
        """
        await self.load()
        if self._draft.blocked is not None:
            self._draft.enter()  # raises, and remembers the failure for frameworks that hide it
        return self.session

    # -- the response

    def untouched(self) -> bool:
        """Note that the response starts; True if the session has no part in it: it can go out as it is."""
        draft = self._draft
        if draft.busy or self._closed:
            return False
        self._closed = draft.started = True
        return True

    def commit_now(self, status: int) -> list[tuple[str, str]] | None:
        """Do what `commit` does if that needs no waiting; None: nothing was done, and `commit` has to be awaited."""
        draft = self._draft
        if self._closed or draft.failure is not None or draft.blocked is not None:
            return None
        if (
            draft.ops is not None
            or draft.read is not None
            or draft.defaults is not None
            or draft.saving is not None
            or draft.doubt is not None
            or draft.renew
        ):
            shortcut = self._engine.shortcut
            if shortcut is None or status >= 500 or not shortcut.commit(draft):
                return None
        self._closed = draft.started = True
        return self._announce() if draft.announce or draft.renewed or draft.state is ENDED else []

    async def commit(self, status: int) -> list[tuple[str, str]]:
        """Store what changed and return the headers to append; called once, before the first byte.

        A status of 500 or more drops what is not committed yet, unless `save_on_server_error`.

        Raises:
            SessionError: nothing may be sent as if it had been stored; send `answer(error)` instead.
        """
        if self._closed:
            return []
        self._closed = True
        draft = self._draft
        if draft.failure is not None and status == 500:
            # A framework's catch-all made this 500 of an error of ours; the client is to have our answer to it.
            self._failed = True
            raise draft.failure()
        if draft.blocked is None:
            try:
                if status >= 500 and not self._keeps(failed=True):
                    await self._engine.committer.discard(draft)
                await self._engine.committer.commit(draft, explicit=False)
                while draft.state is LIVE and draft.wishes is not None and draft.wishes.rotate:
                    # Another task asked meanwhile: this response can still tell the new ID, and no later one can.
                    await self._engine.committer.commit(draft, explicit=False)
            except BaseException:
                self._failed = True
                draft.discard()
                raise
            finally:
                draft.started = True
        elif draft.state is RELEASED:
            await self._engine.committer.renew(draft)
        draft.started = True
        return self._announce()

    async def deny(self) -> None:
        """Commit where no header can be sent, as when a WebSocket is refused: what needs one is dropped."""
        draft = self._draft
        if draft.state is not LIVE or (draft.wishes is not None and draft.wishes.rotate):
            draft.discard()
        await self.commit(403)

    def _announce(self) -> list[tuple[str, str]]:
        """The Set-Cookie and ID headers that this response owes the client."""
        draft, engine = self._draft, self._engine
        state = draft.left if draft.state is RELEASED else draft.state
        if state is LIVE:
            follows_idle = draft.renewed and self.place is COOKIE and engine.config.absolute_seconds is None
            if not draft.announce and not (follows_idle and not engine.config.cookie_session_only):
                return []
            seconds = self._cookie_seconds()
            headers = [("set-cookie", cookie.set(draft.id, seconds)) for cookie in engine.cookies]
            if draft.announce and engine.headers:
                headers += [(name, draft.id) for name in engine.headers]
            if engine.warns_of_http and self._view is not None and goes_astray(self._view):
                engine.warns_of_http = False
                _logger.warning(_ASTRAY)
            draft.announce = draft.renewed = False
            return headers
        if state is ENDED and self._presented and self.place is not OTHER:
            ended = [("set-cookie", cookie.clear()) for cookie in engine.cookies]
            return ended + [(name, "") for name in engine.headers]
        return []

    def _cookie_seconds(self) -> float:
        """Seconds to the absolute deadline, so that reads need no new cookie; without one, the idle timeout."""
        draft, config = self._draft, self._engine.config
        if config.absolute_seconds is None or draft.record is None:
            return draft.idle
        return draft.record.created_at + config.absolute_seconds - config.clock()

    def revise(self, headers: Pairs, added: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
        """Return the response's headers with `added`, with `Vary` and `Cache-Control` as the session demands."""
        vary = self._engine.vary if self._draft.accessed else ()
        return revise(headers, added, vary, self._engine.cookie_names)

    @property
    def vary(self) -> str:
        """The Vary header of a response that used the session and has none yet."""
        return ", ".join(self._engine.vary)

    @property
    def touched(self) -> bool:
        """Whether the response has to change at all; False lets an adapter pass it on as it is."""
        return self._draft.accessed

    @property
    def late(self) -> bool:
        """Whether the response has started."""
        return self._draft.started

    @property
    def failure(self) -> SessionError | None:
        """What a verb of the session met, where the application may have hidden it behind an error of its own."""
        return None if self._draft.failure is None else self._draft.failure()

    # -- after the handler

    @property
    def unsaved(self) -> bool:
        """Whether a session that the client has may have been changed since the commit."""
        draft = self._draft
        if (
            draft.ops is None
            and draft.read is None
            and draft.defaults is None
            and draft.saving is None
            and draft.doubt is None
        ):
            return False
        return draft.state is LIVE and self._closed and not self._failed

    async def save_late(self) -> None:
        """Store late changes while the handler still runs: before a WebSocket is closed, or the end of a stream sent.

        Raises:
            SessionError: they could not be stored.
        """
        draft = self._draft
        if self._closed and not self._failed and draft.busy and draft.blocked is None:
            await self._engine.committer.commit(draft, explicit=False)

    async def finish(self, *, failed: bool = False) -> None:
        """Store late changes, of streams and background tasks, and release the session.

        `failed`: the handler ended with an exception, or without a response.

        Raises:
            SessionError: a late change could not be stored; the response has gone.
        """
        draft = self._draft
        try:
            if self.over():
                return
            if not self._closed:  # no response came by here; at most a server's own 500 went past
                if failed and self._keeps(failed=True):
                    await self.deny()
            elif not self._failed and self._keeps(failed=failed):
                await self._engine.committer.commit(draft, explicit=False)
        finally:
            self._view = None
            draft.failure = None  # its cause leads back here by the frames of its traceback
            draft.release(released)

    def over(self) -> bool:
        """Release the session if nothing was changed late, so that `finish` has no work; False if it has."""
        draft = self._draft
        if draft.busy:
            if (
                draft.ops is not None
                or draft.read is not None
                or draft.defaults is not None
                or draft.saving is not None
                or draft.doubt is not None
            ):
                if draft.state is LIVE or (draft.defaults is not None and draft.state is not RELEASED):
                    return False
                draft.release(released)
            draft.state, draft.open = RELEASED, False  # all of `release` that the others need: nothing is left to drop
        draft.blocked, draft.failure = released, None
        self._view = None  # it leads back here by way of the framework's own objects: let nothing cyclic remain
        return True

    def _keeps(self, *, failed: bool) -> bool:
        """Whether what is not committed yet is to be stored."""
        return not failed or self._engine.config.save_on_server_error

    def answer(self, error: SessionError) -> Answer:
        """Return the response to send instead of the handler's: generic text, and no cookie that was not stored."""
        self._closed = self._failed = True
        status, body = answer_to(error, self._view, self._engine.config)
        if self._draft.state is not RELEASED:
            self._draft.discard()
        return self._answer(status, body)

    @property
    def owes(self) -> bool:
        """Whether the client has yet to learn an ID that is stored already: without it, it is left with a dead one."""
        return self._draft.announce and not self._closed

    def farewell(self) -> Answer:
        """Return the response for an error that is none of ours, so that the client learns what it is owed."""
        self._closed = self._failed = True
        if self._draft.state is not RELEASED:
            self._draft.discard()
        return self._answer(500, b"Internal Server Error")

    def _answer(self, status: int, body: bytes) -> Answer:
        headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            *self._announce(),  # of what was stored or ended before the error
        ]
        return Answer(status, headers, body)


async def _text(place: Extractor, found: object) -> str | None:
    """Await what an extractor of the user's own returned; it may have promised more than it keeps."""
    text = await found if isawaitable(found) else found
    if text is None or isinstance(text, str):
        return text
    raise ConfigError(f"the extractor of {place.key!r} must return str or None, not {type(text).__name__}")


def not_loaded() -> SessionError:
    return SessionNotLoaded("the session is not loaded yet; use `await get_session(request)` first")


def _skipped() -> SessionError:
    return SessionNotLoaded("this request was skipped by SessionConfig.skip and has no session")
