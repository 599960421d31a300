"""The middleware and the signal: an exchange for each request, its headers on each response.

aiohttp knows two ways out of a handler. A response that is returned or raised passes
the middleware while it can still be replaced, so there the session is committed. A
response that the handler prepares itself does not: it is caught by
`on_response_prepare`, just before its headers leave. What is stored, which cookie is
sent and what an error becomes is decided in the core.
"""

import http.client
import logging
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec import Struct
from multidict import CIMultiDict

from sessioncore import ConfigError, Exchange, Session, SessionError, SessionNotLoaded, SessionStore
from sessioncore_aiohttp._view import AiohttpView

__all__ = ["get_session", "session_middleware", "setup"]

_logger = logging.getLogger("sessioncore")


class _Turn(Struct, eq=False):
    """One request and one store; it knows no request, so that nothing cyclic remains of it."""

    exchange: Exchange
    added: list[tuple[str, str]] | None = None  # committed: what the response has to say
    over: bool = False  # the response that goes out is not ours to change, or has been changed

    def __repr__(self) -> str:
        return "<Turn>"  # the headers hold the ID


_Turns = dict[tuple[str, SessionStore], _Turn]
_TURNS: Final = web.RequestKey[_Turns]("turns")
_NONE: Final[_Turns] = {}
_STORES: Final = web.AppKey[dict[str, SessionStore]]("stores")


class _Sessions:
    """The middleware of one store; a plain callable, which aiohttp 4 takes without a decorator."""

    __middleware_version__ = 1  # what `@web.middleware` sets for aiohttp 3

    def __init__(self, store: SessionStore, scope_key: str, *, signalled: bool) -> None:
        self._store = store
        self._key = scope_key, store
        self._signalled = signalled  # `prepare` below is called for every response
        self._warned = False

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve one request."""
        turns = request.get(_TURNS)
        if turns is None:
            turns = request[_TURNS] = {}
        if self._key in turns:  # mounted twice: one session, one cookie
            return await handler(request)
        exchange = self._store.exchange(AiohttpView(request))
        turn = turns[self._key] = _Turn(exchange)
        failed = True
        try:
            response = await handler(request)
            if isinstance(response, web.StreamResponse):  # pyright: ignore[reportUnnecessaryIsInstance]  # aiohttp tells of what is none
                response = await self._close(turn, response) or response
                failed = False
            return response
        except web.HTTPException as exc:
            instead = await self._close(turn, exc)
            if instead is None:
                raise
            return instead
        except Exception as error:
            ours = error if isinstance(error, SessionError) else exchange.failure
            if ours is None or turn.over or request.writer.output_size > 0:
                raise
            return _answer(turn, ours)
        finally:
            if not exchange.over():
                # A client that leaves a stream or a WebSocket ends it; handlers learn that by an exception.
                await exchange.finish(failed=failed and not _has_left(request))
            turn.over = turn.over or turn.added is None

    async def _close(self, turn: _Turn, response: web.StreamResponse) -> web.Response | None:
        """Commit before the response that was returned or raised; return the one to send instead, if any."""
        if turn.added is not None:
            return None
        if getattr(response, "prepared", False):  # the HTTPException of aiohttp 4 is no response
            await self._close_unseen(turn.exchange)
            return None
        try:
            await _commit(turn, response.status)
        except SessionError as error:
            return _answer(turn, error)
        if not self._signalled:
            turn.over = True
            for morsel in response.cookies.values():  # else they would be written after the headers were revised
                response.headers.add("Set-Cookie", morsel.OutputString())
            response.cookies.clear()
            _revise(turn, response.headers)
        return None

    async def _close_unseen(self, exchange: Exchange) -> None:
        """Without the signal, the headers of a response that the handler prepared have left unseen."""
        if exchange.touched and not self._warned:
            self._warned = True
            _logger.warning(
                "a handler prepared its response itself, so it went out without the session's cookie and Vary; "
                "use setup(app, store) instead of session_middleware(store)"
            )
        await exchange.deny()

    async def prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Write the headers; for `on_response_prepare`."""
        turn = (request.get(_TURNS) or _NONE).get(self._key)
        if turn is None or turn.over:
            return
        turn.over = True
        if turn.added is None:
            try:
                await _commit(turn, response.status)
            except SessionError as error:
                _cut_in(request, turn, error)
                raise  # also into the handler: what it meant to send must not be sent
        _revise(turn, response.headers)


async def _commit(turn: _Turn, status: int) -> None:
    turn.added = [] if turn.exchange.at_rest() else await turn.exchange.commit(status)


def _revise(turn: _Turn, headers: CIMultiDict[str]) -> None:
    """Give a response the headers of the session."""
    if not turn.added and not turn.exchange.touched:
        return
    if not turn.added and "Vary" not in headers and "Set-Cookie" not in headers:
        headers["Vary"] = turn.exchange.vary  # no need to turn all headers into bytes and back
        return
    pairs = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers.items()]
    revised = turn.exchange.revise(pairs, turn.added or ())
    headers.clear()
    headers.extend([(name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in revised])


def _answer(turn: _Turn, error: SessionError) -> web.Response:
    """Build the response to send instead of the handler's."""
    answer = turn.exchange.answer(error)
    return web.Response(status=answer.status, headers=CIMultiDict(answer.headers), body=answer.body)


def _cut_in(request: web.Request, turn: _Turn, error: SessionError) -> None:
    """Answer in place of a response that is being prepared, and close the connection.

    The request has one writer, and that response has set it up for its own body
    (chunks, compression, length), so the bytes go past it.
    """
    answer = turn.exchange.answer(error)
    if (transport := request.transport) is None:
        return
    lines = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, '')}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    head = "\r\n".join(lines) + "\r\n\r\n"
    transport.write(head.encode("latin-1") + (b"" if request.method == "HEAD" else answer.body))
    transport.close()


def _has_left(request: web.Request) -> bool:
    transport = request.transport
    return transport is None or transport.is_closing()


def setup(app: web.Application, store: SessionStore, *, scope_key: str = "session") -> None:
    """Give `app` and its sub-applications sessions, and open and close the storage with it.

    A second store needs a `scope_key` of its own.

    Raises:
        ConfigError: `scope_key` is taken by another store.
    """
    stores = app.get(_STORES)
    if stores is None:
        stores = app[_STORES] = {}
    if scope_key in stores:
        if stores[scope_key] is not store:
            raise ConfigError(f"this application has a store for scope_key={scope_key!r} already; name the second one")
        return
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
    """
    return _Sessions(store, scope_key, signalled=False)


async def get_session(request: web.Request, *, scope_key: str = "session") -> Session:
    """Return the session of a request; the first call loads it.

    Raises:
        SessionNotLoaded: no `setup` with this `scope_key`, or the request is skipped.
        StorageUnavailable: it could not be loaded.
    """
    for (name, _), turn in reversed((request.get(_TURNS) or _NONE).items()):
        if name == scope_key:
            return await turn.exchange.obtain()
    raise SessionNotLoaded(f"no store with scope_key={scope_key!r} serves this request; add one: setup(app, store)")
