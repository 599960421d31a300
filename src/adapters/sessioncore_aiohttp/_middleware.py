"""The middleware and the signal handler: a session for each request, its headers in each response.

A response that a handler returns or raises passes the middleware while it can still be
replaced, so the session is committed there. A response that the handler prepares itself is
sent before that, so `on_response_prepare` commits just before its headers are sent. The core
decides what is stored, which cookie is sent and what response an error gets.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, Final, Never, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.typedefs import Handler, Middleware

from sessioncore import Done, Session, SessionError, SessionNotLoaded, SessionStore
from sessioncore.integration import DONE, Warnings, check_beside, check_scope_key, check_store
from sessioncore_aiohttp._context import RequestContext, abort_with, to_web_response
from sessioncore_aiohttp._open import is_closing

__all__ = ["get_session", "session_middleware", "setup"]

_logger = logging.getLogger("sessioncore")
# The attribute of a request's writer that lists the contexts of the request, outermost first. A middleware may pass on
# a clone of the request, and both have the same writer. (The Mock that a mocked request has as its writer seems to have
# every attribute, but none with such a name.)
_CONTEXTS: Final = "__sessioncore__"
_STORES: Final = web.AppKey[dict[str, SessionStore]]("stores")


class _Middleware:
    """The middleware of one store; aiohttp 4 accepts a plain callable without a decorator."""

    __middleware_version__ = 1  # `@web.middleware` sets this for aiohttp 3

    def __init__(self, store: SessionStore, scope_key: str, *, uses_signal: bool) -> None:
        self._store = store
        self._scope_key = scope_key
        self._uses_signal = uses_signal  # `on_prepare` is called for every response
        self._warnings = Warnings()

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve one request."""
        context = self._begin(request)
        if context is None:  # installed twice: the outer one handles the session
            return await handler(request)
        try:
            response = await self._serve(context, request, handler)
            _answer_signals(context, request, response)
            return response
        except web.HTTPException as exc:
            _answer_signals(context, request, exc)
            raise
        except Exception as error:
            if context.sent is not None:
                await _answer(context, request, error)
            broken = context.break_off(request, error)
            if broken is None:
                raise
            return broken
        finally:
            context.forget_response()

    async def _serve(self, context: RequestContext, request: web.Request, handler: Handler) -> web.StreamResponse:
        failed = True
        try:
            try:
                response = await handler(request)
            except web.HTTPException as exc:  # a response, too
                await self._commit(context, request, exc)
                raise
            if (committing := self._commit(context, request, response)) is not DONE:
                await committing
            failed = context.added is None  # there was no response
            return response
        except web.HTTPException:
            raise
        except Exception as error:
            replacement = await self._error_response(context, request, error) or await context.end_for_error(error)
            if replacement is None:
                raise
            return replacement
        finally:
            context.end()
            # When a client disconnects from a stream or a WebSocket, the handler gets an exception; that is no failure.
            if context.exchange is not None:
                finishing = context.exchange.finish(failed and not is_closing(request))
                if finishing is not DONE:
                    await finishing

    def _begin(self, request: web.Request) -> RequestContext | None:
        """Create the context of a request; return None if an outer middleware of this store has one."""
        writer: Any = request.writer
        contexts: list[RequestContext] | None = getattr(writer, _CONTEXTS, None)
        if contexts is None:
            contexts = writer.__sessioncore__ = []
        for outer in contexts:
            if check_scope_key(outer.store, outer.scope_key, self._store, self._scope_key):
                if outer.request is not None:
                    return None
                contexts.remove(outer)  # an outer middleware serves the request again
                break
        context = RequestContext(self._store, self._scope_key, request)
        contexts.append(context)
        return context

    def _commit(
        self, context: RequestContext, request: web.Request, response: web.StreamResponse
    ) -> Done[None] | Awaitable[None]:
        """Commit before a response that the handler returned or raised is sent."""
        prepared = getattr(response, "prepared", None)
        if prepared is None:  # it is no response, but a middleware outside may make one of it, unless it is None
            status = 500 if cast("object", response) is None else 200
            return context.commit(request, status) if self._uses_signal else DONE
        if prepared and not context.headers_final:  # sent already: without the signal, or for another request
            self._warn(context)
            return context.commit(request, None)
        if self._uses_signal:
            return context.commit(request, response.status)
        return self._commit_and_write(context, request, response)

    async def _commit_and_write(
        self, context: RequestContext, request: web.Request, response: web.StreamResponse
    ) -> None:
        await context.commit(request, response.status)
        if isinstance(response, web.FileResponse):
            context.write_headers_with(request.writer, response)
        elif not context.headers_final:
            for morsel in response.cookies.values():  # otherwise aiohttp would append them after all other headers
                response.headers.add("Set-Cookie", morsel.OutputString())
            response.cookies.clear()
            context.write_headers(response.headers)

    def _warn(self, context: RequestContext) -> None:
        if context.exchange is not None and context.exchange.session.accessed:
            self._warnings.warn(
                "a handler returned a response that was sent for another request, and aiohttp sends none twice; "
                "make a new one for each request"
                if self._uses_signal
                else "a handler prepared its response itself, so it was sent without the session's cookie and Vary; "
                "use setup(app, store) instead of session_middleware(store)"
            )

    async def _error_response(
        self, context: RequestContext, request: web.Request, error: Exception
    ) -> web.Response | None:
        """Return the response for an error; None: raise it again, for aiohttp or an outer middleware to handle."""
        if context.headers_final or request.writer.output_size > 0:
            return None
        if self._uses_signal and not isinstance(error, SessionError):
            try:
                await context.commit(request, 500)
            except SessionError as hidden:
                error = hidden
            else:
                return None  # `on_prepare` writes the session's headers into the response that is made of the error
        response = context.begin(request).error_response(error)
        if response is None:
            return None
        if not response.handled:
            _logger.error("a handler failed", exc_info=error)
        contexts: Sequence[RequestContext] = getattr(request.writer, _CONTEXTS)
        return to_web_response(response, [other for other in contexts if other.headers_final])

    async def on_prepare(self, request: web.Request, response: web.StreamResponse) -> None:
        """Write the session's headers before any response is sent, and commit if that was not done yet."""
        contexts: Sequence[RequestContext] = getattr(request.writer, _CONTEXTS, ())
        for context in contexts:
            if context.store is self._store and not context.headers_final:
                if context.added is None:
                    try:
                        await context.commit_prepared(request, response)
                    except SessionError as error:
                        await _answer(context, request, error)
                        raise  # also in the handler, so that it does not send its response
                context.write_headers(response.headers)
                context.note_response(request, response, contexts)


def _answer_signals(context: RequestContext, request: web.Request, response: web.StreamResponse) -> None:
    """Answer errors of the application's own handlers of `on_response_prepare`.

    aiohttp prepares a response when no middleware can handle an exception any more, and closes the connection.
    """
    for app in request.match_info.apps:
        for receiver in app.on_response_prepare:
            if getattr(receiver, "__func__", None) is not _Middleware.on_prepare:
                _answer_errors_of_prepare(context, request, response)
                return


def _answer_errors_of_prepare(context: RequestContext, request: web.Request, response: web.StreamResponse) -> None:
    if not isinstance(response, web.StreamResponse):  # pyright: ignore[reportUnnecessaryIsInstance]  # see `_commit`
        return
    prepare = response.prepare

    async def prepare_or_answer(prepared: web.BaseRequest) -> AbstractStreamWriter | None:
        vars(response).pop("prepare", None)
        try:
            return await prepare(prepared)
        except Exception as error:
            if await _answer(context, request, error):
                await _end_sent_response(prepared)
            raise

    vars(response)["prepare"] = prepare_or_answer


async def _answer(context: RequestContext, request: web.Request, error: Exception) -> bool:
    """Send the core's response for an error instead of the one that is being prepared, if nothing of that was sent.

    Return whether nothing else must be done about the error.
    """
    if request.writer.output_size > 0 or is_closing(request):
        return False
    if (replacement := context.begin(request).error_response(error, unsent=True)) is None:
        return False
    contexts: Sequence[RequestContext] = getattr(request.writer, _CONTEXTS)
    others = [other for other in contexts if other is not context]
    for other in others:
        await other.commit_for_answer(request, replacement.status)
    answer = to_web_response(replacement, others)
    context.keep_refusal(error, answer)
    vars(answer)["prepare"] = _end_sent_response  # if the middleware returns it
    abort_with(request, answer)
    return replacement.handled


async def _end_sent_response(_: web.BaseRequest) -> Never:
    """End aiohttp's work on a response in whose place another one was sent; it logs no ConnectionError."""
    raise ConnectionResetError("an error response was sent instead")


def setup(app: web.Application, store: SessionStore, *, scope_key: str = "session") -> None:
    """Install sessions in `app` and its sub-applications, and open and close the storage with it.

    A second store needs its own `scope_key`.

    Raises:
        ConfigError: another store has this `scope_key`, `store` has a different one, or `store` is not a SessionStore.
    """
    check_store(store, "setup")
    stores = app.setdefault(_STORES, {})
    for name, known in stores.items():
        if check_beside(known, name, store, scope_key):
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
    """Return the middleware alone, for handlers that return or raise their responses. Prefer `setup`.

    You must open and close the storage yourself, and responses that a handler prepares itself
    (streams, WebSockets) cannot send the cookie of a new session.

    Raises:
        ConfigError: `store` is not a SessionStore.
    """
    check_store(store, "session_middleware")
    return _Middleware(store, scope_key, uses_signal=False)


async def get_session(request: web.Request, *, scope_key: str = "session") -> Session:
    """Return the session of a request; the first call loads it.

    Raises:
        SessionNotLoaded: there was no `setup` with this `scope_key`, or the request is skipped.
        StorageUnavailable: the session could not be loaded.
        CrossSiteRequest: another site made this request with the session's cookie.
    """
    found = None
    contexts: Sequence[RequestContext] = getattr(request.writer, _CONTEXTS, ())
    for context in reversed(contexts):
        if context.scope_key == scope_key:
            found = context
            if context.request is not None:  # otherwise it belongs to a sub-application that has finished
                break
    if found is None:
        raise SessionNotLoaded(
            f"no store with scope_key={scope_key!r} is set up for this request; call setup(app, store) before you "
            "append middlewares that use the session"
        )
    exchange = found.begin(request)
    if (loading := exchange.load(required=True)) is not DONE:
        await loading
    return exchange.session
