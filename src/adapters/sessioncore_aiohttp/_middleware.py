"""The middleware and the signal: a session for each request, its headers on each response.

aiohttp knows two ways out of a handler. A response that is returned or raised passes
the middleware while it can still be replaced, so there the session is committed. A
response that the handler prepares itself does not: it is caught by
`on_response_prepare`, just before its headers leave. What is stored, which cookie is
sent and what an error becomes is decided in the core.
"""

import logging
from collections.abc import AsyncIterator
from typing import Final
from weakref import WeakKeyDictionary

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.typedefs import Handler, Middleware

from sessioncore import Session, SessionError, SessionNotLoaded, SessionStore
from sessioncore.integration import check_installed, check_scope_key, check_store
from sessioncore_aiohttp._context import RequestContext, abort_with, to_web_response
from sessioncore_aiohttp._view import AiohttpView

__all__ = ["get_session", "session_middleware", "setup"]

_logger = logging.getLogger("sessioncore")
# Of each request, outermost first; by what a clone of it, which a middleware may hand on, has in common with it.
_CONTEXTS: Final = WeakKeyDictionary[AbstractStreamWriter, list[RequestContext]]()
_STORES: Final = web.AppKey[dict[str, SessionStore]]("stores")


class _Middleware:
    """The middleware of one store; a plain callable, which aiohttp 4 takes without a decorator."""

    __middleware_version__ = 1  # what `@web.middleware` sets for aiohttp 3

    def __init__(self, store: SessionStore, scope_key: str, *, uses_signal: bool) -> None:
        self._store = store
        self._scope_key = scope_key
        self._uses_signal = uses_signal  # `prepare` below is called for every response
        self._warned = False

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve one request."""
        context = self._begin(request)
        if context is None:  # mounted twice: one session, one cookie
            return await handler(request)
        failed = True
        try:
            response = await self._call_handler(context, request, handler)
            failed = context.added is None  # there was no response
            return response
        except web.HTTPException:  # it is a response, and committed
            raise
        except Exception as error:
            if (replacement := await self._error_response(context, request, error)) is None:
                raise
            return replacement
        finally:
            context.end()
            # A client that leaves a stream or a WebSocket ends it; handlers learn that by an exception.
            client_disconnected = failed and (request.transport is None or request.transport.is_closing())
            await context.exchange.finish(failed=failed and not client_disconnected)

    def _begin(self, request: web.Request) -> RequestContext | None:
        """Begin with a request; None if this store is at it already."""
        contexts = _CONTEXTS.setdefault(request.writer, [])
        for outer in contexts:
            if check_scope_key(outer.exchange.session.store, outer.scope_key, self._store, self._scope_key):
                return None
        context = RequestContext(self._scope_key, self._store.exchange(AiohttpView(request)))
        contexts.append(context)
        return context

    async def _call_handler(
        self, context: RequestContext, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        """Let the handler work, and commit before what it returned or raised can leave."""
        try:
            response = await handler(request)
        except web.HTTPException as exc:
            await self._commit(context, exc)
            raise
        if isinstance(response, web.StreamResponse):  # pyright: ignore[reportUnnecessaryIsInstance]  # a `return` may be missing
            await self._commit(context, response)
        return response

    async def _commit(self, context: RequestContext, response: web.StreamResponse) -> None:
        if response.prepared and not context.headers_final:  # there is no signal, and its headers have left unseen
            self._warn(context)
            await context.commit(None)
            return
        await context.commit(response.status)
        if not self._uses_signal and not context.headers_final:
            for morsel in response.cookies.values():  # else aiohttp would write them after all other headers
                response.headers.add("Set-Cookie", morsel.OutputString())
            response.cookies.clear()
            await context.write_headers(response)

    def _warn(self, context: RequestContext) -> None:
        if context.exchange.session.accessed and not self._warned:
            self._warned = True
            _logger.warning(
                "a handler prepared its response itself, so it went out without the session's cookie and Vary; "
                "use setup(app, store) instead of session_middleware(store)"
            )

    async def _error_response(
        self, context: RequestContext, request: web.Request, error: Exception
    ) -> web.Response | None:
        """Return what to send for an error; None: it goes on, to the 500 of aiohttp or of a middleware around."""
        if context.headers_final or request.writer.output_size > 0:
            return None
        if self._uses_signal and not isinstance(error, SessionError):
            try:
                await context.commit_for_error()
            except SessionError as hidden:
                error = hidden
            else:
                return None  # `prepare` will write into that 500 what there is to say
        given = context.exchange.error_response(error)
        if given is None:
            return None
        if not given.handled:
            _logger.error("a handler failed", exc_info=error)
        return to_web_response(given, _CONTEXTS[request.writer])

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Commit, if the handler prepares its response itself, and write the headers; for `on_response_prepare`."""
        contexts = _CONTEXTS.get(request.writer, ())
        for context in contexts:
            if context.exchange.session.store is self._store and not context.headers_final:
                try:
                    await context.write_headers(response)
                except SessionError as error:
                    if (given := context.exchange.error_response(error)) is not None:
                        abort_with(request, to_web_response(given, contexts))
                    raise  # also into the handler: what it meant to send must not be sent


def setup(app: web.Application, store: SessionStore, *, scope_key: str = "session") -> None:
    """Give `app` and its sub-applications sessions, and open and close the storage with it.

    A second store needs a `scope_key` of its own.

    Raises:
        ConfigError: `scope_key` is taken by another store, or `store` has another `scope_key`, or is no SessionStore.
    """
    check_store(store, "setup")
    stores = app.setdefault(_STORES, {})
    for name, known in stores.items():
        if check_installed(known, name, store, scope_key):
            return
    stores[scope_key] = store
    middleware = _Middleware(store, scope_key, uses_signal=True)

    async def storage(_: web.Application) -> AsyncIterator[None]:
        async with store:
            yield

    app.cleanup_ctx.append(storage)
    app.middlewares.append(middleware)
    app.on_response_prepare.append(middleware.on_prepare)


def session_middleware(store: SessionStore, *, scope_key: str = "session") -> Middleware:
    """Return the middleware alone: for handlers that return or raise their response. Prefer `setup`.

    Opening and closing the storage is yours, and a response that a handler prepares
    itself (streams, WebSockets) cannot carry a new session's cookie.

    Raises:
        ConfigError: `store` is no SessionStore.
    """
    check_store(store, "session_middleware")
    return _Middleware(store, scope_key, uses_signal=False)


async def get_session(request: web.Request, *, scope_key: str = "session") -> Session:
    """Return the session of a request; the first call loads it.

    Raises:
        SessionNotLoaded: no `setup` with this `scope_key`, or the request is skipped.
        StorageUnavailable: it could not be loaded.
    """
    found = None
    for context in reversed(_CONTEXTS.get(request.writer, ())):
        if context.scope_key == scope_key:
            found = context
            if not context.ended:  # else it is that of a sub-application, which has answered
                break
    if found is None:
        raise SessionNotLoaded(
            f"no store with scope_key={scope_key!r} serves this request; add one: setup(app, store), before the "
            "middlewares that use the session are appended"
        )
    await found.exchange.load(required=True)
    return found.exchange.session
