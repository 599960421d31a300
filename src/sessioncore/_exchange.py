"""One request: load the session, let the handler work, commit, and say which headers the response needs.

An adapter drives an exchange and decides nothing itself: see docs/adapters/custom.md.
"""

import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final

import anyio
from msgspec import Struct
from msgspec.structs import replace

from sessioncore._error_responses import ErrorResponse, answer_to, is_ours, refusal_behind, text_response
from sessioncore._errors import SessionError
from sessioncore.http._extractors import COOKIE, RequestView
from sessioncore.http._response_headers import Pairs, revise
from sessioncore.persistence._drive import DONE, Done
from sessioncore.persistence._load_steps import LoadSteps, next_found
from sessioncore.persistence._persistence import StorePersistence
from sessioncore.session._lifecycle import ENDED, FRESH
from sessioncore.session._mapping import bind_request
from sessioncore.session._openers import barred
from sessioncore.session._session import Session, failure_of, note_failure
from sessioncore.session._state import SessionState
from sessioncore.session._unusable import ErrorFactory, after_release, not_loaded, skipped
from sessioncore.session._values import Values

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
    _view: RequestView | None  # None once the request is over
    _state: SessionState | None = None  # None: nothing was found, and the session was not used
    _unusable: ErrorFactory | None = not_loaded  # what a use of the session raises; None: it can be used
    _lookup: LoadSteps | None = None  # None: nothing in the request may be an ID
    _sent_id: str | None = None  # that the response has for the client; None: it has none
    _loading: list[Callable[[], object]] | None = None  # woken when the load under way ends; None: none is under way
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
        if self._unusable is not_loaded and view is not None:
            if self._loading is not None:
                return self._load_after_another(required=required)
            context = self._persistence.context
            if context.skip is not None and context.skip(view):
                self._unusable = skipped
            elif (found := next_found(context.extractors, view, 0)) is None:
                self._unusable = None
            else:
                number, text = found
                lookup = LoadSteps(context, view, number)
                result = self._persistence.driver.drive(lookup, lookup.start(text))
                if not isinstance(result, Done):
                    return self._load_rest(lookup, result, required=required)
                self._take(lookup)
        if required:
            self._open_state()
        return DONE

    async def _load_rest(self, lookup: LoadSteps, work: Coroutine[Any, Any, None], *, required: bool) -> None:
        if self._loading is not None or self._unusable is not not_loaded:  # another load was awaited first
            work.close()
            await self.load(required=required)
            return
        self._loading = []
        try:
            await work
            if self._view is not None:  # else the request ended meanwhile
                self._take(lookup)
        finally:
            loading, self._loading = self._loading, None
            for wake in loading:
                wake()
        if required:
            self._open_state()

    def _take(self, lookup: LoadSteps) -> None:
        self._lookup, self._unusable, self._state = lookup, lookup.unusable, lookup.state
        if self._committed and self._state is not None:
            self._state.start_response()

    async def _load_after_another(self, *, required: bool) -> None:
        """Wait for another task's load; it may have been cancelled before it was through."""
        ended = anyio.Event()
        assert self._loading is not None
        self._loading.append(ended.set)
        await ended.wait()
        await self.load(required=required)

    def _open_state(self) -> SessionState:
        """Return the state of the session, for its first use; a released one can still be read.

        Raises:
            SessionError: what bars its use.
        """
        if self._unusable is not None:
            note_failure(self.session, self._unusable)
            raise self._unusable()
        if self._state is None:
            self._state = SessionState(Values(self._persistence.codec, {}), response_started=self._committed)
        return self._state

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
        if status == 500 and (hidden := self._hidden(sys.exception())) is not None:
            self._failed = True  # a framework turned our error into this 500; send our error response instead
            raise hidden
        if state is None:
            return _NO_HEADERS
        loaded = state.loaded
        if (not self.session.accessed or not state.dirty()) and (loaded is None or not loaded.renewal_due):
            state.start_response()
            unchanged = state.phase is FRESH if loaded is None else not loaded.renewed  # since it was looked for
            return _NO_HEADERS if unchanged else self._headers(state)
        try:
            if status is None and (loaded is None or state.rotating):
                state.discard()
            drop = status is not None and status >= 500 and not self._persistence.config.save_on_server_error
            result = self._persistence.commit(state, drop=drop)
        except BaseException:
            self._fail(state)
            raise
        if result is not DONE:
            return self._commit_rest(state, result)
        state.start_response()
        return self._headers(state)

    async def _commit_rest(self, state: SessionState, work: Awaitable[None]) -> Headers:
        try:
            await work
            while state.loaded is not None and state.rotating:
                # Another task rotated the ID during the commit; this is the last response that can send it.
                await self._persistence.commit(state)
        except BaseException:
            self._fail(state)
            raise
        state.start_response()
        return self._headers(state).value

    def _fail(self, state: SessionState) -> None:
        self._failed = True
        state.discard()
        state.start_response()

    def _headers(self, state: SessionState, *, new_id_only: bool = False) -> Done[Headers]:
        """The Set-Cookie and ID headers that this response owes the client."""
        lookup, context = self._lookup, self._persistence.context
        loaded = state.loaded
        if loaded is None:
            if new_id_only or state.phase is not ENDED or lookup is None or not lookup.presented:
                return _NO_HEADERS
            return Done(context.clearing_headers())
        known = self._sent_id
        if known is None and lookup is not None:
            known = lookup.session_id
        unsent = loaded.session_id != known
        if not unsent:
            follows_idle = loaded.renewed and context.cookie_follows_idle and not new_id_only
            if not follows_idle or lookup is None or lookup.source is not COOKIE:
                return _NO_HEADERS
        self._sent_id = loaded.session_id
        if self._view is not None:
            context.plain_http.check(self._view)
        return Done(context.id_headers(loaded, new=unsent))

    def revise(self, headers: Pairs, added: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
        """Return the response's headers with `added`, with `Vary` and `Cache-Control` as the session demands."""
        context = self._persistence.context
        if self.session.accessed:
            return revise(headers, added, context.vary, context.cookie_names)
        return revise(headers, added, b"", context.cookie_names) if added else list(headers)

    # -- after the handler

    def save_late(self) -> Done[None] | Awaitable[None]:
        """Store late changes while the handler still runs: before the end of a stream is sent, or a WebSocket closed.

        Raises:
            SessionError: they could not be stored.
        """
        state = self._state
        if state is None or state.loaded is None or not state.dirty() or not self._committed or self._failed:
            return DONE
        return self._persistence.commit(state)

    def finish(self, *, failed: bool = False) -> Done[None] | Awaitable[None]:
        """Store late changes, of streams and background tasks, and release the session.

        `failed`: the handler ended with an exception, or without a response.

        Raises:
            SessionError: a late change could not be stored; the response has gone.
        """
        state, session = self._state, self.session
        drop = state is not None and session.accessed and state.dirty()
        if drop and state is not None and not self._failed:
            work: Done[object] | Awaitable[object] = DONE
            try:
                if failed and not self._persistence.config.save_on_server_error:
                    pass  # what is not stored is dropped
                elif self._committed:
                    work = self._persistence.commit(state)
                elif failed:  # no response passed through this exchange
                    work = self.commit(None)
            except BaseException:
                self._failed = True
                self.finish()
                raise
            if not isinstance(work, Done):
                return self._finish_rest(work)
            drop = state.dirty()
        # Release the session, and break the cycles: through the request, an error's traceback, and the session.
        self._view = None
        if state is not None:
            state.release(drop=drop)
        if self._unusable is not None:
            self._unusable = after_release(self._unusable)
        if session._failure is not None:  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # see note_failure
            note_failure(session, None)
        if not session.accessed:
            bind_request(session, None if self._unusable is None else barred(self._unusable), state)
        return DONE

    async def _finish_rest(self, work: Awaitable[object]) -> None:
        try:
            await work
        finally:
            self._failed = True  # nothing is tried a second time
            await self.finish()

    def error_response(self, error: BaseException) -> ErrorResponse | None:
        """Return the response to send for what the handler raised; None: it is not ours, and nothing is owed.

        Generic text, and no cookie that was not stored. Something is owed where the client has
        yet to learn an ID that is stored already: without it, it is left with a dead one.
        """
        if self._response is not None:  # the same error again, out of the application, or one that it caused
            return replace(self._response, handled=is_ours(error))
        state, owed = self._state, _NO_HEADERS
        ours = error if isinstance(error, SessionError) else self._hidden(error)
        if state is not None and (ours is not None or not self._committed):
            owed = self._headers(state, new_id_only=ours is None)  # of what was stored or ended before the error
        if ours is not None:
            status, body = answer_to(ours, self._view, self._persistence.config)
        elif owed.value:
            status, body = 500, b"Internal Server Error"
        else:
            return None
        self._committed = self._failed = True
        if state is not None:
            state.discard()
        self._response = text_response(status, body, owed.value, handled=is_ours(error))
        return self._response

    def _hidden(self, error: BaseException | None) -> SessionError | None:
        """Return the error of ours behind one of the application's."""
        return refusal_behind(error) or failure_of(self.session)
