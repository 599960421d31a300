"""The middleware and the signal: a session for each request, its headers on each response.

aiohttp knows two ways out of a handler. A response that is returned or raised passes
the middleware while it can still be replaced, so there the session is committed. A
response that the handler prepares itself does not: it is caught by
`on_response_prepare`, just before its headers leave. What is stored, which cookie is
sent and what an error becomes is decided in the core.
"""

import logging
import weakref
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.typedefs import Handler, Middleware

from sessioncore import ConfigError, Exchange, Session, SessionError, SessionNotLoaded, SessionStore
from sessioncore_aiohttp._turn import Turn, answer, cut_in

__all__ = ["get_session", "session_middleware", "setup"]

_logger = logging.getLogger("sessioncore")
_TURNS: Final = web.RequestKey[list[Turn]]("turns")  # outermost first
_LEFT: Final = web.ResponseKey[list[Turn]]("turns")
# By what a clone of a request shares with it: for the 500 that aiohttp makes with the request that it knows.
_OWED: Final = weakref.WeakKeyDictionary[AbstractStreamWriter, list[Turn]]()
_STORES: Final = web.AppKey[dict[str, SessionStore]]("stores")


class _Sessions:
    """The middleware of one store; a plain callable, which aiohttp 4 takes without a decorator."""

    __middleware_version__ = 1  # what `@web.middleware` sets for aiohttp 3

    def __init__(self, store: SessionStore, scope_key: str, *, signalled: bool) -> None:
        self._store = store
        self._scope_key = scope_key
        self._signalled = signalled  # `prepare` below is called for every response
        self._warned = False

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve one request."""
        turn = self._turn_for(request)
        if turn is None:  # mounted twice: one session, one cookie
            return await handler(request)
        failed = True
        try:
            response = await handler(request)
            if getattr(response, "prepared", None) is None:
                return response  # which is none, and aiohttp tells of it
            if turn.exchange is not None:
                response = await self._close(turn, turn.exchange, request, response)
            failed = False
            return response
        except web.HTTPException as exc:
            if turn.exchange is None or (response := await self._close(turn, turn.exchange, request, exc)) is exc:
                raise
            return response
        except Exception as error:
            if (instead := await self._answer_for(error, turn, request)) is None:
                raise
            return instead
        finally:
            turn.over = True
            if turn.exchange is not None and not turn.exchange.over():
                # A client that leaves a stream or a WebSocket ends it; handlers learn that by an exception.
                left = request.transport is None or request.transport.is_closing()
                await turn.exchange.finish(failed=failed and not left)
            if turn.added is None:
                turn.sealed = True

    def _turn_for(self, request: web.Request) -> Turn | None:
        """Begin a turn; None if this store has one."""
        turn = Turn(self._store, self._scope_key)
        if _TURNS not in iter(request):  # `in request` raises a KeyError to find that out
            request[_TURNS] = [turn]
            return turn
        turns = request[_TURNS]
        for outer in turns:
            if outer.store is self._store:
                _check_name(outer.scope_key, self._scope_key)
                return None
        turns.append(turn)
        return turn

    async def _close(
        self, turn: Turn, exchange: Exchange, request: web.Request, response: web.StreamResponse
    ) -> web.StreamResponse:
        """Commit before the response that was returned or raised; return the one to send."""
        if turn.added is not None:
            return response
        if response.prepared:  # without the signal, its headers have left unseen
            if exchange.touched and not self._warned:
                self._warned = True
                _logger.warning(
                    "a handler prepared its response itself, so it went out without the session's cookie and Vary; "
                    "use setup(app, store) instead of session_middleware(store)"
                )
            await exchange.deny()
            return response
        try:
            turn.added = exchange.commit_now(response.status)
            if turn.added is None:
                turn.added = await exchange.commit(response.status)
        except SessionError as error:
            return answer(exchange, error)
        if self._signalled:
            response[_LEFT] = request[_TURNS]
            return response
        turn.sealed = True
        for morsel in response.cookies.values():  # else they would be written after the headers were revised
            response.headers.add("Set-Cookie", morsel.OutputString())
        response.cookies.clear()
        turn.revise(exchange, response.headers)
        return response

    async def _answer_for(self, error: Exception, turn: Turn, request: web.Request) -> web.Response | None:
        """Answer for what the handler raised; None if `error` has to go on its way, to aiohttp's own 500."""
        if turn.sealed or request.writer.output_size > 0:
            return None
        if (ours := turn.behind(error)) is not None:
            return answer(turn.begin(request), ours)
        exchange = turn.exchange
        if exchange is None or not exchange.owes:
            return None
        if not self._signalled:  # nothing can be said later, and without the new ID the client is left with a dead one
            _logger.error("a handler failed after it had stored a session", exc_info=error)
            return answer(exchange, None)
        try:
            turn.added = await exchange.commit(500)  # `prepare` puts it into the 500 that aiohttp makes
        except SessionError as met:
            return answer(exchange, met)
        _OWED[request.writer] = request[_TURNS]
        return None

    async def prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Write the headers; for `on_response_prepare`."""
        # A middleware around ours that has handed on a clone of its request keeps one that has no turns.
        turns = _turns_of(request) or response.get(_LEFT) or _OWED.get(request.writer)
        for turn in turns or ():
            if turn.store is self._store and not turn.sealed:
                turn.sealed = True
                exchange = turn.begin(request)
                if turn.added is None:
                    try:
                        turn.added = await exchange.commit(response.status)
                    except SessionError as error:
                        cut_in(request, exchange, error)
                        raise  # also into the handler: what it meant to send must not be sent
                turn.revise(exchange, response.headers)


def _turns_of(request: web.Request) -> list[Turn]:
    try:
        return request[_TURNS]
    except KeyError:
        return []


def _check_name(known: str, scope_key: str) -> None:
    if known != scope_key:
        raise ConfigError(
            f"one store has both scope_key={known!r} and scope_key={scope_key!r}, and would send one cookie for two "
            "sessions; use one scope_key, or give the second a SessionStore with a cookie and key_prefix of its own"
        )


def _check_store(store: object, taker: str) -> None:
    if not isinstance(store, SessionStore):
        raise ConfigError(
            f"{taker} takes a SessionStore, not {type(store).__name__}; pass SessionStore(SessionConfig(storage=...))"
        )


def setup(app: web.Application, store: SessionStore, *, scope_key: str = "session") -> None:
    """Give `app` and its sub-applications sessions, and open and close the storage with it.

    A second store needs a `scope_key` of its own.

    Raises:
        ConfigError: `scope_key` is taken by another store, or `store` has another `scope_key`, or is no SessionStore.
    """
    _check_store(store, "setup")
    stores = app.setdefault(_STORES, {})
    for name, known in stores.items():
        if known is store:
            _check_name(name, scope_key)
            return
    if scope_key in stores:
        raise ConfigError(f"this application has a store for scope_key={scope_key!r} already; name the second one")
    stores[scope_key] = store
    sessions = _Sessions(store, scope_key, signalled=True)

    async def storage(_: web.Application) -> AsyncIterator[None]:
        async with store:
            yield

    app.cleanup_ctx.append(storage)
    app.middlewares.append(sessions)
    app.on_response_prepare.append(sessions.prepare)


def session_middleware(store: SessionStore, *, scope_key: str = "session") -> Middleware:
    """Return the middleware alone: for handlers that return or raise their response. Prefer `setup`.

    Opening and closing the storage is yours, and a response that a handler prepares
    itself (streams, WebSockets) cannot carry a new session's cookie.

    Raises:
        ConfigError: `store` is no SessionStore.
    """
    _check_store(store, "session_middleware")
    return _Sessions(store, scope_key, signalled=False)


async def get_session(request: web.Request, *, scope_key: str = "session") -> Session:
    """Return the session of a request; the first call loads it.

    Raises:
        SessionNotLoaded: no `setup` with this `scope_key`, or the request is skipped.
        StorageUnavailable: it could not be loaded.
    """
    found = None
    for turn in reversed(_turns_of(request)):
        if turn.scope_key == scope_key:
            found = turn
            if not turn.over:  # else it is that of a sub-application, which has answered
                break
    if found is None:
        raise SessionNotLoaded(
            f"no store with scope_key={scope_key!r} serves this request; add one: setup(app, store), before the "
            "middlewares that use the session are appended"
        )
    exchange = found.exchange
    if exchange is None:
        exchange = found.begin(request)
        exchange.settled()  # without a coroutine, where nothing has to be awaited
    return await exchange.obtain()
