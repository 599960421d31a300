"""One request: load the session, let the handler work, commit, and say which headers the response needs.

An adapter drives an exchange and decides nothing itself: see docs/adapters/custom.md.
"""

# An exchange drives its session by what `SessionBase` keeps private:
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

import sys
from collections.abc import Awaitable, Coroutine
from typing import Any, Final, overload

from msgspec import Struct
from msgspec.structs import replace

from sessioncore._error_responses import ErrorResponse, Headers, find_refusal, is_session_error, response_to
from sessioncore._errors import SessionError
from sessioncore._opaque import Opaque
from sessioncore.http._plain_http import warn_over_plain_http
from sessioncore.http._request_view import RequestView
from sessioncore.http._response_headers import Pairs, revise
from sessioncore.persistence._crossing import Crossing, crossing_of
from sessioncore.persistence._driver import DONE, Done
from sessioncore.persistence._load_steps import LoadSteps, next_candidate
from sessioncore.persistence._store_persistence import StorePersistence
from sessioncore.session._error_factories import not_loaded, skipped
from sessioncore.session._lifecycle import FRESH
from sessioncore.session._limits import CHANGES_DROPPED, RESPONSE_STARTED
from sessioncore.session._session import Session
from sessioncore.session._state import SessionState
from sessioncore.session._turn import Turn

__all__ = ["UNCHANGED", "Exchange"]

_NO_HEADERS: Final[Done[Headers]] = Done([])
UNCHANGED: Final[Done[Headers]] = Done([])  # the response needs no `revise`


class Exchange(Opaque, Struct, eq=False):
    """Loads and commits the session of one request; created by `store.exchange(view)`.

    `load`, `commit`, `save_late` and `finish` return `Done` if nothing must be awaited, else
    an awaitable. `Done` can be awaited, too. Errors are raised by the call or by the await,
    so write both in one expression.
    """

    session: Session
    _persistence: StorePersistence
    _view: RequestView | None  # None after the request
    _lookup: LoadSteps | None = None  # None: the request has nothing that can be an ID
    _crossing: Crossing | None = None  # None: no other site made the request, or it may use the session
    _loading: Turn | None = None  # of the task that loads; None: no task does
    _drops_changes: bool = False  # what is changed from now on is not stored
    _response: ErrorResponse | None = None  # sent instead of the handler's; None: the handler's is sent

    # -- before the handler

    def load(self, required: bool = False) -> Done[None] | Awaitable[None]:
        """Load the session of the request, once; if the storage fails, the session's first use raises the error.

        Raises:
            SessionNotLoaded: `required` is set, and this request is skipped.
            StorageUnavailable: `required` is set, and the session could not be loaded.
            CrossSiteRequest: `required` is set, and another site made this request with the session's cookie.
        """
        session, view = self.session, self._view
        if session._unusable is not_loaded and view is not None:
            if self._loading is not None:
                return self._wait_for_load(self._loading, required=required)
            context = self._persistence.context
            if context.skip is not None and context.skip(view):
                session._open(None, skipped)
            else:
                crossing, rule = None, context.cross_site
                if rule is not None and (request := rule.judge(view)) is not None:
                    crossing = self._crossing = crossing_of(context, request, view)
                extractors = context.extractors if crossing is None else crossing.extractors
                if (found := next_candidate(extractors, view, 0)) is None:
                    if crossing is None:
                        session._open(None, None)
                    else:
                        session._open(*crossing.without_session())
                else:
                    index, text = found
                    lookup = LoadSteps(context, view, index, crossing)
                    result = self._persistence.driver.drive(lookup, lookup.start(text))
                    if not isinstance(result, Done):
                        return self._load_rest(lookup, result, required=required)
                    self._lookup = lookup
                    session._open(lookup.state, lookup.unusable)
        if required and session._unusable is not None:
            session._refuse(session._unusable)
        return DONE

    async def _load_rest(self, lookup: LoadSteps, work: Coroutine[Any, Any, None], *, required: bool) -> None:
        if self._loading is not None or self.session._unusable is not not_loaded:  # another load was awaited first
            work.close()
            await self.load(required=required)
            return
        self._loading = turn = Turn()
        try:
            await work
            if self._view is not None:  # otherwise the request ended meanwhile
                self._lookup = lookup
                self.session._open(lookup.state, lookup.unusable)
        finally:
            self._loading = None
            if turn.waiters:
                turn.end()
        await self.load(required=required)

    async def _wait_for_load(self, turn: Turn, *, required: bool) -> None:
        """Wait for another task's load; load again if that one was cancelled."""
        await turn.wait()
        await self.load(required=required)

    # -- the response

    def commit(self, status: int | None) -> Done[Headers] | Awaitable[Headers]:
        """Store the changes and return the headers to append; call this once, before the response starts.

        A status of 500 or more drops what is not committed, and later changes, unless `save_on_server_error`
        is set. None: the response has no headers, as for a refused WebSocket; if a change needs one, none is stored.

        Raises:
            SessionError: the changes were not stored; send `error_response(error)` instead of the response.
        """
        session = self.session
        if session._limits is RESPONSE_STARTED:
            return _NO_HEADERS
        session._start_response()
        state = session._state
        if status is not None and status >= 500:
            hidden = self._hidden_error(sys.exception()) if status == 500 else None
            self._drops_changes |= hidden is not None or not self._persistence.config.save_on_server_error
            if hidden is not None:
                raise hidden  # a framework turned our error into this 500: send our error response instead
        if state is None:
            return UNCHANGED
        loaded = state.loaded
        if not state.dirty() and (loaded is None or not loaded.renewal_due):
            state.start_response()
            client_must_know = state.phase is not FRESH if loaded is None else loaded.renewed
            if client_must_know:
                return self._session_headers(state)
            return _NO_HEADERS if session.accessed else UNCHANGED
        try:
            if status is None:
                if loaded is None or state.rotating:
                    state.discard()
                state.start_response()
            result = self._persistence.commit(state, self._drops_changes)
        except BaseException:
            self._fail(state)
            raise
        if result is not DONE:
            return self._commit_rest(state, result)
        state.start_response()
        return self._session_headers(state)

    async def _commit_rest(self, state: SessionState, work: Awaitable[None]) -> Headers:
        try:
            await work
            while state.loaded is not None and state.rotating:
                # Another task rotated the ID during the commit; this is the last response that can send it.
                await self._persistence.commit(state, self._drops_changes)
        except BaseException:
            self._fail(state)
            raise
        state.start_response()
        return self._session_headers(state).value

    def _fail(self, state: SessionState) -> None:
        self._drops_changes = True
        state.limit(CHANGES_DROPPED)
        state.discard()

    def _drop_late_changes(self) -> None:
        """Store nothing more: the session was ended. For `integration.watch_connection`."""
        self._drops_changes = True

    def _session_headers(self, state: SessionState, only_new: bool = False) -> Done[Headers]:
        """Return the Set-Cookie and ID headers that the client needs; `only_new`: those of an ID that it lacks."""
        context, lookup, crossing = self._persistence.context, self._lookup, self._crossing
        ids, loaded, cookies = context.id_headers, state.loaded, True
        if crossing is not None:
            crossing.report_dropped(state, self.session.accessed)
            cookies = crossing.cookies_allowed
        if loaded is None:
            if only_new or lookup is None:
                return _NO_HEADERS
            headers = ids.without_session(state, lookup, self.session.accessed, cookies)
        else:
            headers = ids.with_session(loaded, lookup, only_new, cookies)
            if headers is not None and cookies and ids.secure and self._view is not None:
                warn_over_plain_http(self._view, context.warnings)
        return _NO_HEADERS if headers is None else Done(headers)

    @overload
    def revise(self, headers: Pairs[bytes], added: Pairs[str]) -> list[tuple[bytes, bytes]]: ...
    @overload
    def revise(self, headers: Pairs[str], added: Pairs[str]) -> list[tuple[str, str]]: ...
    def revise(self, headers: Pairs[Any], added: Pairs[str]) -> list[tuple[Any, Any]]:
        """Return the response's headers with `added`, `Vary` and `Cache-Control`; in bytes if `headers` is empty."""
        context, accessed = self._persistence.context, self.session.accessed
        if not accessed and not added:
            return list(headers)
        vary, cookies = context.vary if accessed else b"", context.id_headers.cookie_names
        return revise(headers, added, vary, cookies, context.warnings)

    # -- after the handler

    def save_late(self) -> Done[None] | Awaitable[None]:
        """Store late changes while the handler still runs: call this before a stream ends or a WebSocket is closed.

        Raises:
            SessionError: they could not be stored.
        """
        state = self.session._state
        if state is None or not state.dirty() or state.loaded is None or self._drops_changes:
            return DONE
        return self._persistence.commit(state) if self.session._limits is RESPONSE_STARTED else DONE

    def finish(self, failed: bool = False) -> Done[None] | Awaitable[None]:
        """Store late changes of streams and background tasks, and release the session.

        `failed`: the handler ended with an exception, or without a response.

        Raises:
            SessionError: a late change could not be stored, after the response was sent.
        """
        session = self.session
        state = session._state
        drop = False
        if state is not None and state.dirty():
            work: Done[object] | Awaitable[object] = DONE
            try:
                if self._drops_changes or (failed and not self._persistence.config.save_on_server_error):
                    pass  # drop the changes
                elif session._limits is RESPONSE_STARTED:
                    work = self._persistence.commit(state)
                elif failed:  # no response passed through this exchange
                    work = self.commit(None)
            except BaseException:
                self._drops_changes = True
                self.finish()
                raise
            if not isinstance(work, Done):
                return self._finish_rest(work)
            drop = state.dirty()
        if self._crossing is not None:
            self._crossing.report_dropped(state, session.accessed)
        self._view = None  # the request may refer to this exchange
        if state is None:
            session._mark_released()
        else:
            state.release(drop)
        if session._failure is not None or session._unusable is not None:
            session._forget_tracebacks()
        return DONE

    async def _finish_rest(self, work: Awaitable[object]) -> None:
        try:
            await work
        finally:
            self._drops_changes = True  # do not try again
            await self.finish()

    def error_response(self, error: BaseException, *, unsent: bool = False) -> ErrorResponse | None:
        """Return the response for an error of the handler, with generic text; None: leave the error to the framework.

        If the client does not have the ID of the stored session yet, any error gets a response: with
        its old ID, the client would lose the session. `unsent`: the headers of `commit` were not sent.
        """
        if self._response is not None:  # the same error again, or one that was raised from it
            return replace(self._response, handled=is_session_error(error))
        session, state, headers = self.session, self.session._state, _NO_HEADERS
        session_error = error if isinstance(error, SessionError) else self._hidden_error(error)
        if state is not None and (unsent or session_error is not None or session._limits is not RESPONSE_STARTED):
            headers = self._session_headers(state, only_new=session_error is None)
        if session_error is None and not headers.value:
            return None
        session._start_response()
        if state is None:
            self._drops_changes = True
        else:
            self._fail(state)
        self._response = response_to(
            session_error, self._view, self._persistence.context, headers.value, handled=is_session_error(error)
        )
        return self._response

    def _hidden_error(self, error: BaseException | None) -> SessionError | None:
        """Return the refusal that `error` was raised from, or else the last one that a use of the session raised."""
        failure, crossing = self.session._failure, self._crossing
        if failure is None and crossing is not None and crossing.refused:
            failure = crossing.refusal
        return find_refusal(error) or (None if failure is None else find_refusal(failure()))
