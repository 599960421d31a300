"""One request: load the session, let the handler work, commit, say what the response owes.

An adapter drives an exchange and decides nothing itself: `load()` before or during the
handler, `commit(status)` once before the first byte, `revise()` for the headers that the
response already has, `save_late()` before its last byte, `finish()` at the end, and
`error_response()` for what the handler raised.
"""

import sys
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import anyio
from msgspec import Struct
from msgspec.structs import replace

from sessioncore._error_responses import ErrorResponse, answer_to, is_ours, refusal_behind
from sessioncore._errors import SessionError
from sessioncore.http._extractors import COOKIE, OTHER, RequestView
from sessioncore.http._response_headers import Pairs, revise
from sessioncore.persistence._drive import DONE, Done
from sessioncore.persistence._load_steps import LoadSteps, next_found
from sessioncore.persistence._persistence import StorePersistence, wait_for_turn
from sessioncore.session._lifecycle import ENDED, FRESH
from sessioncore.session._session import Session, failure_of, forget_failure, require_usable
from sessioncore.session._state import SessionState
from sessioncore.session._unusable import skipped

__all__ = ["ErrorResponse", "Exchange"]

Headers = list[tuple[str, str]]

_NO_HEADERS: Final[Done[Headers]] = Done([])


class Exchange(Struct, eq=False):
    """Drives the session of one request; made by `store.exchange(view)`.

    `load`, `commit`, `save_late` and `finish` return `Done` where nothing has to wait, and
    otherwise an awaitable; both can be awaited. An error comes at the call or at the await,
    so write both in one expression.
    """

    session: Session
    _persistence: StorePersistence
    _state: SessionState
    _view: RequestView | None  # None once the request is over
    _lookup: LoadSteps | None = None  # None: nothing in the request may be an ID
    _client_id: str | None = None  # the ID that the client has for the session; None: it has none
    _loading: list[Callable[[], object]] | None = None  # woken when the load under way ends; None: none is under way
    _loaded: bool = False
    _committed: bool = False  # the headers are decided
    _failed: bool = False  # nothing that comes later is stored
    _response: ErrorResponse | None = None  # sent instead of the handler's; None: the handler's goes out

    def __repr__(self) -> str:
        return f"<Exchange of {self.session!r}>"

    # -- before the handler

    def load(self, *, required: bool = False) -> Done[None] | Awaitable[None]:
        """Find the session of the request, once; a storage failure is raised by the session's first use.

        Raises:
            SessionNotLoaded: `required`, and this request is skipped.
            StorageUnavailable: `required`, and the session could not be loaded.
        """
        view = self._view
        if not self._loaded and view is not None:
            if self._loading is not None:
                return self._load_after_another(required=required)
            context, state = self._persistence.context, self._state
            if context.skip is not None and context.skip(view):
                state.allow_use(skipped)
            elif (found := next_found(context.extractors, view, 0)) is None:
                state.allow_use(None)
            else:
                self._lookup = lookup = LoadSteps(context, state, view, *found)
                result = self._persistence.driver.drive(lookup, lookup.start())
                if result is not DONE:
                    return self._load_rest(result, required=required)
                loaded = state.loaded
                if loaded is not None:
                    self._client_id = loaded.session_id
            self._loaded = True
        if required:
            require_usable(self.session)
        return DONE

    async def _load_rest(self, work: Awaitable[None], *, required: bool) -> None:
        self._loading = []
        try:
            await work
            loaded = self._state.loaded
            if loaded is not None:
                self._client_id = loaded.session_id
            self._loaded = True
        finally:
            loading, self._loading = self._loading, None
            for wake in loading:
                wake()
        if required:
            require_usable(self.session)

    async def _load_after_another(self, *, required: bool) -> None:
        """Wait for another task's load; it may have been cancelled before it was through."""
        ended = anyio.Event()
        assert self._loading is not None
        self._loading.append(ended.set)
        await ended.wait()
        await self.load(required=required)

    # -- the response

    def commit(self, status: int | None) -> Done[Headers] | Awaitable[Headers]:
        """Store what changed and return the headers to append; called once, before the first byte.

        A status of 500 or more drops what is not committed yet, unless `save_on_server_error`.
        None is for a response that cannot carry a header, as when a WebSocket is refused: what
        would need one is dropped.

        Raises:
            SessionError: nothing may be sent as if it had been stored; send `error_response(error)` instead.
        """
        if self._committed:
            return _NO_HEADERS
        self._committed = True
        state = self._state
        if status == 500 and (hidden := failure_of(self.session) or refusal_behind(sys.exception())) is not None:
            self._failed = True  # a framework turned our error into this 500; send our error response instead
            raise hidden
        loaded = state.loaded
        if (not self.session.accessed or not state.dirty) and (loaded is None or not loaded.renewal_due):
            state.start_response()
            return _NO_HEADERS if loaded is None and state.phase is FRESH else self._headers()
        try:
            if status is None and (loaded is None or _is_rotating(state)):
                state.discard()
            elif status is not None and status >= 500 and not self._persistence.config.save_on_server_error:
                if state.waiters is not None:
                    return self._commit_rest(self._drop_after_turn())
                state.discard()
            result = self._persistence.commit(state)
        except BaseException:
            self._fail()
            raise
        if result is not DONE:
            return self._commit_rest(result)
        state.start_response()
        return self._headers()

    async def _commit_rest(self, work: Awaitable[None]) -> Headers:
        state = self._state
        try:
            await work
            while state.loaded is not None and _is_rotating(state):
                # Another task rotated the ID during the commit; this is the last response that can send it.
                await self._persistence.commit(state)
        except BaseException:
            self._fail()
            raise
        state.start_response()
        return self._headers().value

    async def _drop_after_turn(self) -> None:
        """Drop what is not stored, once another task of the request knows what became of its own commit."""
        await wait_for_turn(self._state)
        self._state.discard()
        await self._persistence.commit(self._state)

    def _fail(self) -> None:
        self._failed = True
        self._state.discard()
        self._state.start_response()

    def _headers(self) -> Done[Headers]:
        """The Set-Cookie and ID headers that this response owes the client."""
        state, lookup, context = self._state, self._lookup, self._persistence.context
        loaded = state.loaded
        if loaded is None:
            if state.phase is ENDED and lookup is not None and lookup.presented and lookup.source is not OTHER:
                cleared = [("set-cookie", cookie.clear()) for cookie in context.cookies]
                return Done(cleared + [(name, "") for name in context.headers])
            return _NO_HEADERS
        unsent = loaded.session_id != self._client_id
        if not unsent:
            follows_idle = loaded.renewed and context.cookie_follows_idle
            if not follows_idle or lookup is None or lookup.source is not COOKIE:
                return _NO_HEADERS
        self._client_id = loaded.session_id
        seconds = context.cookie_seconds(loaded.record)
        headers = [("set-cookie", cookie.set(loaded.session_id, seconds)) for cookie in context.cookies]
        if unsent and context.headers:
            headers += [(name, loaded.session_id) for name in context.headers]
        if self._view is not None:
            context.plain_http.check(self._view)
        return Done(headers)

    def revise(self, headers: Pairs, added: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
        """Return the response's headers with `added`, with `Vary` and `Cache-Control` as the session demands."""
        context = self._persistence.context
        if self.session.accessed:
            return revise(headers, added, context.vary, context.cookie_names)
        return revise(headers, added, (), context.cookie_names) if added else list(headers)

    # -- after the handler

    def save_late(self) -> Done[None] | Awaitable[None]:
        """Store late changes while the handler still runs: before the end of a stream is sent, or a WebSocket closed.

        Raises:
            SessionError: they could not be stored.
        """
        state = self._state
        if state.loaded is None or not state.dirty or not self._committed or self._failed:
            return DONE
        return self._persistence.commit(state)

    def finish(self, *, failed: bool = False) -> Done[None] | Awaitable[None]:
        """Store late changes, of streams and background tasks, and release the session.

        `failed`: the handler ended with an exception, or without a response.

        Raises:
            SessionError: a late change could not be stored; the response has gone.
        """
        keeps = not failed or self._persistence.config.save_on_server_error
        if self.session.accessed and keeps and self._state.dirty:
            work: Done[object] | Awaitable[object] = DONE
            try:
                if self._committed and not self._failed:
                    work = self._persistence.commit(self._state)
                elif failed and not self._committed:  # no response passed through this exchange
                    work = self.commit(None)
            except BaseException:
                self._release()
                raise
            if not isinstance(work, Done):
                return self._finish_rest(work)
        self._release()
        return DONE

    async def _finish_rest(self, work: Awaitable[object]) -> None:
        try:
            await work
        finally:
            self._release()

    def _release(self) -> None:
        self._view = None  # break the cycle through the framework's request
        session, state, lookup = self.session, self._state, self._lookup
        if lookup is not None and lookup.view is not None:
            lookup.abandon()
        state.release(drop=session.accessed and state.dirty)
        if session._failure is not None:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # see forget_failure
            forget_failure(session)

    # -- errors

    def error_response(self, error: BaseException) -> ErrorResponse | None:
        """Return the response to send for what the handler raised; None: it is not ours, and nothing is owed.

        Generic text, and no cookie that was not stored. Something is owed where the client has
        yet to learn an ID that is stored already: without it, it is left with a dead one.
        """
        if self._response is not None:  # the same error again, out of the application, or one that it caused
            return replace(self._response, handled=is_ours(error))
        ours = error if isinstance(error, SessionError) else refusal_behind(error) or failure_of(self.session)
        if ours is None:
            loaded = self._state.loaded
            if self._committed or loaded is None or loaded.session_id == self._client_id:
                return None
            status, body = 500, b"Internal Server Error"
        else:
            status, body = answer_to(ours, self._view, self._persistence.config)
        self._committed = self._failed = True
        self._state.discard()
        headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(body))),
            ("cache-control", "no-store"),
            *self._headers().value,  # of what was stored or ended before the error
        ]
        self._response = ErrorResponse(status, headers, body, is_ours(error))
        return self._response


def _is_rotating(state: SessionState) -> bool:
    return state.pending is not None and state.pending.metadata.rotate
