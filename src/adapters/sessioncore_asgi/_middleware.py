"""The middleware: creates an exchange for each connection, and sends the session's headers.

The core decides what is stored, which cookie is sent and what response an error gets. `_view`
shows it the request, and `_responder` writes its headers into the response.
"""

from collections.abc import MutableMapping

from sessioncore import Exchange, Session, SessionNotLoaded, SessionStore
from sessioncore.integration import DONE, check_store
from sessioncore_asgi._lifespan import run_lifespan
from sessioncore_asgi._responder import Responder
from sessioncore_asgi._shared import EXCHANGES, Exchanges, exchange_of, has_store
from sessioncore_asgi._types import ASGIApp, Connection, Receive, Scope, Send
from sessioncore_asgi._view import AsgiView

__all__ = ["SessionMiddleware", "get_session"]


class SessionMiddleware:
    """ASGI middleware: `app = SessionMiddleware(app, store)`, or `add_middleware(SessionMiddleware, store=store)`.

    With `lazy`, the session is loaded by `await get_session(request)` only. A second store needs
    its own `scope_key`. The storage is opened and closed with the lifespan.
    """

    __slots__ = ("_app", "_lazy", "_scope_key", "_store")

    def __init__(self, app: ASGIApp, store: SessionStore, *, scope_key: str = "session", lazy: bool = False) -> None:
        check_store(store, "SessionMiddleware")
        self._app = app
        self._store = store
        self._scope_key = scope_key
        self._lazy = lazy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind != "http" and kind != "websocket":  # noqa: PLR1714 - each request
            if kind == "lifespan":
                await run_lifespan(self._app, self._store, scope, receive, send)
            else:
                await self._app(scope, receive, send)
            return
        outer: Exchanges = scope.get(EXCHANGES)
        if outer is not None and has_store(outer, self._store, self._scope_key):
            await self._app(scope, receive, send)  # installed twice: the outer one handles the session
            return
        method = scope.get("method", "GET")
        view = AsgiView(scope, receive, method) if kind == "http" else AsgiView(scope, receive, method, handshake=True)
        exchange = self._store.exchange(view)
        if self._lazy:
            receive = view.receive
        elif (loading := exchange.load()) is not DONE:
            await loading
            if view.consumed:
                receive = view.receive
        scope[self._scope_key] = exchange.session
        other_stores_headers: list[tuple[str, str]] = [] if outer is None else outer[2]
        scope[EXCHANGES] = (self._scope_key, exchange, other_stores_headers, outer)
        if kind == "websocket":
            await self._serve_websocket(exchange, other_stores_headers, scope, receive, send)
            return
        responder = Responder(exchange, send, receive, other_stores_headers)
        failed = True
        try:
            await self._app(scope, receive, responder.send)
            failed = False
        except Exception as error:
            if not await responder.respond_to_error(error):
                raise
        finally:
            if (finishing := exchange.finish(failed)) is not DONE:
                await finishing

    async def _serve_websocket(
        self,
        exchange: Exchange,
        other_stores_headers: list[tuple[str, str]],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        extension = "websocket.http.response"
        response_type = extension if extension in (scope.get("extensions") or {}) else None
        responder = Responder(exchange, send, receive, other_stores_headers, response_type)
        failed = True
        try:
            await self._app(scope, responder.receive, responder.send_websocket)
            failed = False
        except Exception as error:
            failed = not responder.client_disconnected
            if not await responder.respond_to_error(error):
                raise
        finally:
            await exchange.finish(failed)


async def get_session(request: Connection | Scope, *, scope_key: str = "session") -> Session:
    """Return the session of a request, WebSocket or scope; load it if it is not loaded yet.

    Raises:
        SessionNotLoaded: there is no middleware with this `scope_key`, or the request is skipped.
        StorageUnavailable: the session could not be loaded.
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
