"""The middleware: creates an exchange for each connection, and sends the session's headers.

The core decides what is stored, which cookie is sent and what response an error gets. `_view`
shows it the request, and `_responder` writes its headers into the response.
"""

from collections.abc import MutableMapping

from sessioncore import Exchange, Session, SessionNotLoaded, SessionStore
from sessioncore.integration import DONE, check_store, check_vacant, log_late_failure, warn_if_replaced
from sessioncore_asgi._ended import is_disconnect
from sessioncore_asgi._exchanges import EXCHANGES, SENT, Exchanges, exchange_of, forget_finished, has_store
from sessioncore_asgi._lifespan import run_lifespan
from sessioncore_asgi._other_sessions import check_inside
from sessioncore_asgi._responder import Responder
from sessioncore_asgi._socket import SocketResponder
from sessioncore_asgi._types import ASGIApp, Connection, Receive, Scope, Send
from sessioncore_asgi._view import AsgiView

__all__ = ["SessionMiddleware", "get_session"]


class SessionMiddleware:
    """ASGI middleware: `app = SessionMiddleware(app, store)`, or `add_middleware(SessionMiddleware, store=store)`.

    With `lazy`, the session is loaded by `await get_session(request)` only. A second store needs
    its own `scope_key`. The storage is opened and closed with the lifespan.

    Raises:
        ConfigError: `store` is not a SessionStore, or another library's session middleware is directly inside this one
            and has the same scope key or cookie.
    """

    __slots__ = ("_app", "_first", "_lazy", "_scope_key", "_store")

    def __init__(self, app: ASGIApp, store: SessionStore, *, scope_key: str = "session", lazy: bool = False) -> None:
        check_store(store, "SessionMiddleware")
        check_inside(app, scope_key, store)
        self._app = app
        self._first = True  # no request was served yet
        self._store = store
        self._scope_key = scope_key
        self._lazy = lazy

    async def __call__(  # noqa: C901, PLR0912 - a call costs each request more than the branches do
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind != "http" and kind != "websocket":  # noqa: PLR1714 - each request
            await self._serve_other(scope, receive, send)
            return
        outer: Exchanges = scope[EXCHANGES] if EXCHANGES in scope else None  # noqa: SIM401 - each request
        if outer is not None:
            outer = forget_finished(scope)
            if has_store(outer, self._store, self._scope_key):
                await self._app(scope, receive, send)  # installed twice: the outer one handles the session
                return
            if exchange_of(scope, self._scope_key) is not None:
                scope = {**scope}  # middlewares between the two keep the outer session
        if self._first:
            await self._serve_first(scope, receive, send)
            return
        exchange = self._store.exchange(view := AsgiView(scope, receive, scope.get("method", "GET"), kind != "http"))
        if self._lazy:
            receive = view.receive
        elif (loading := exchange.load()) is not DONE:
            await loading
            if view.consumed:
                receive = view.receive
        scope_key = self._scope_key
        scope[scope_key] = exchange.session
        scope[EXCHANGES] = (scope_key, exchange, [] if outer is None else outer[SENT], outer)
        try:
            if kind == "websocket":
                await self._serve_websocket(exchange, scope, receive, send)
                return
            responder = Responder(exchange, send, receive, scope)
            failed = True
            try:
                await self._app(scope, responder, responder.send)
                failed = False
            except Exception as error:
                failed = not is_disconnect(error)
                if not await responder.respond_to_error(error):
                    raise
            finally:
                if responder.events is not None:
                    responder.events.stop()
                if (finishing := exchange.finish(failed)) is not DONE:
                    await finishing
        except Exception as error:
            if not log_late_failure(exchange, error):  # what was logged is not raised to the server, too
                raise

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the lifespan, or pass on a connection of an unknown kind."""
        if scope["type"] == "lifespan":
            await run_lifespan(self._app, self._store, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _serve_first(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the first request, and check whether another library uses the session's place in the scope, too.

        Raises:
            ConfigError: one does, outside of this middleware.
        """
        scope_key = self._scope_key
        check_vacant(scope.get(scope_key), scope_key)
        self._first = False
        await self(scope, receive, send)
        warn_if_replaced(self._store, scope_key, scope.get(scope_key))

    async def _serve_websocket(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        extension = "websocket.http.response"
        response_type = extension if extension in (scope.get("extensions") or {}) else None
        responder = SocketResponder(exchange, send, receive, scope, response_type)
        failed = True
        try:
            await self._app(scope, responder.receive, responder.send_socket)
            failed = responder.reports_failure
        except Exception as error:
            failed = not responder.client_disconnected
            if not await responder.respond_to_error(error) and not await responder.close_for_error(error):
                raise
        finally:
            responder.stop()
            try:
                await exchange.finish(failed)
            finally:
                await responder.wait_until_closed()


async def get_session(request: Connection | Scope, *, scope_key: str = "session") -> Session:
    """Return the session of a request, WebSocket or scope; load it if it is not loaded yet.

    Raises:
        SessionNotLoaded: there is no middleware with this `scope_key`, or the request is skipped.
        StorageUnavailable: the session could not be loaded.
        CrossSiteRequest: another site made this request with the session's cookie.
    """
    exchange = exchange_of(request if isinstance(request, MutableMapping) else request.scope, scope_key)
    if exchange is None:
        raise SessionNotLoaded(
            f"no SessionMiddleware with scope_key={scope_key!r} is installed around this application; add one with "
            "app.add_middleware(SessionMiddleware, store=store), and add it last: a middleware that is added later "
            "runs outside of it and has no session"
        )
    await exchange.load(required=True)
    return exchange.session
