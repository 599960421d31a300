"""The middleware: brings an exchange to each request and its headers to each response.

It reads the scope, asks the exchange, writes the messages. What is stored, which
cookie is sent and what an error becomes is decided in the core.
"""

from collections.abc import Awaitable, MutableMapping, Sequence

from msgspec import Struct

from sessioncore import Exchange, Session, SessionError, SessionNotLoaded, SessionStore
from sessioncore_asgi._lifespan import run_lifespan
from sessioncore_asgi._types import ASGIApp, Connection, Message, Receive, Scope, Send
from sessioncore_asgi._view import AsgiView

__all__ = ["SessionMiddleware", "get_session"]


class SessionMiddleware:
    """ASGI middleware: `app = SessionMiddleware(app, store)`, or `add_middleware(SessionMiddleware, store=store)`.

    With `lazy`, nothing is loaded until `await get_session(request)`. A second store
    needs a `scope_key` of its own. Opens and closes the storage with the lifespan.
    """

    __slots__ = ("_app", "_exchange_key", "_lazy", "_scope_key", "_store")

    def __init__(self, app: ASGIApp, store: SessionStore, *, scope_key: str = "session", lazy: bool = False) -> None:
        self._app = app
        self._store = store
        self._scope_key = scope_key
        self._exchange_key = exchange_key(scope_key)
        self._lazy = lazy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind == "lifespan":
            await run_lifespan(self._app, self._store, scope, receive, send)
            return
        outer: Exchange | None = scope.get(self._exchange_key)
        if kind not in {"http", "websocket"} or (outer is not None and outer.session.store is self._store):
            await self._app(scope, receive, send)  # mounted twice: one session, one cookie
            return
        view = AsgiView(scope, receive)
        exchange = self._store.exchange(view)
        if self._lazy:
            receive = view.receive
        elif not exchange.settled():
            await exchange.load()
            if view.consumed:
                receive = view.receive
        scope[self._scope_key] = exchange.session
        scope[self._exchange_key] = exchange
        responder = _Responder(exchange, send, receive)
        if kind == "websocket":
            await responder.serve_websocket(self._app, scope)
            return
        failed = True
        try:
            await self._app(scope, receive, responder.send)
            failed = False
        except Exception as error:
            if not await responder.answered(error):
                raise
        finally:
            if not exchange.over():
                await exchange.finish(failed=failed)


class _Responder(Struct, eq=False):
    """Stands between the application and the server for one connection."""

    _exchange: Exchange
    _send: Send
    _receive: Receive
    _started: bool = False
    replaced: bool = False  # our answer was sent instead of the application's
    _disconnected: bool = False
    _denial: str | None = None  # how a handshake is answered, if the server can

    async def serve_websocket(self, app: ASGIApp, scope: Scope) -> None:
        if "websocket.http.response" in (scope.get("extensions") or {}):
            self._denial = "websocket.http.response"
        failed = True
        try:
            await app(scope, self.receive, self.send_websocket)
            failed = False
        except Exception as error:
            # Applications learn by an exception that the client has left; a server's send raises OSError then.
            failed = not (self._disconnected or isinstance(error, OSError))
            if self._denial is None or not await self.answered(error, self._denial):
                raise
        finally:
            await self._exchange.finish(failed=failed)

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on; commit before the one that carries the headers.

        A plain function: where nothing has to be awaited first, the server's own awaitable will do.
        """
        if self._started:
            return _nothing() if self.replaced else self._send(message)
        kind = message["type"]
        if kind == "http.response.start" or kind == "websocket.http.response.start":  # noqa: PLR1714 - each request
            if message["status"] < 200:  # interim: RFC 9110, section 15.2
                return self._send(message)
            self._started = True
            exchange = self._exchange
            if exchange.untouched():
                return self._send(message)
            added = exchange.commit_now(message["status"])
            if added is None:
                return self._commit(message, message["status"])
            return self._send(self._revised(message, added))
        if kind == "websocket.accept":
            return self._commit(message, 101)
        if kind == "websocket.close":
            return self._deny(message)
        return self._send(message)

    async def send_websocket(self, message: Message) -> None:
        """Pass a message on; who sees the connection closed shall find in the storage what was changed."""
        # 1011 is the application's own word for a failure: RFC 6455, section 7.4.1.
        if message["type"] == "websocket.close" and self._started and message.get("code", 1000) != 1011:
            await self._exchange.save_late()
        await self.send(message)

    async def answered(self, error: Exception, form: str = "http.response") -> bool:
        """Answer for an error of the core; False if `error` has to go on its way, to the server's log."""
        known = _is_ours(error)
        if self.replaced:
            return known
        ours = error if isinstance(error, SessionError) else self._exchange.failure
        if ours is None or self._started:
            return False
        await self.answer(ours, form)
        return known

    async def _commit(self, message: Message, status: int) -> None:
        self._started = True
        try:
            added = await self._exchange.commit(status)
        except SessionError as error:
            form = self._denial if message["type"].startswith("websocket.") else "http.response"
            if form is not None:
                await self.answer(error, form)
                if status >= 500:  # it has failed already, and goes on to raise what made it fail
                    return
            raise  # also into the application: what it meant to do after the response must not happen
        await self._send(self._revised(message, added))

    async def _deny(self, message: Message) -> None:
        await self._exchange.deny()
        await self._send(message)

    def _revised(self, message: Message, added: Sequence[tuple[str, str]]) -> Message:
        exchange = self._exchange
        if not added and not exchange.touched:
            return message
        return {**message, "headers": exchange.revise(message.get("headers", ()), added)}

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._disconnected = True
        return message

    async def answer(self, error: SessionError, form: str) -> None:
        answer = self._exchange.answer(error)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
        self._started = self.replaced = True
        await self._send({"type": f"{form}.start", "status": answer.status, "headers": headers})
        await self._send({"type": f"{form}.body", "body": answer.body})


async def get_session(request: Connection | Scope, *, scope_key: str = "session") -> Session:
    """Return the session of a request, WebSocket or scope; loads it if that has not happened yet.

    Raises:
        SessionNotLoaded: no middleware for this `scope_key`, or the request is skipped.
        StorageUnavailable: it could not be loaded.
    """
    scope = request if isinstance(request, MutableMapping) else request.scope
    exchange: Exchange | None = scope.get(exchange_key(scope_key))
    if exchange is None:
        raise SessionNotLoaded(
            f"no SessionMiddleware with scope_key={scope_key!r} is around this application; "
            "add one: app.add_middleware(SessionMiddleware, store=store)"
        )
    return await exchange.obtain()


def _is_ours(error: BaseException | None) -> bool:
    """Tell whether an application raised an error of the core, or one made of it."""
    while error is not None and not isinstance(error, SessionError):
        error = error.__cause__
    return error is not None


async def _nothing() -> None:
    """Stand for what the application sends after our answer."""


def exchange_key(scope_key: str) -> str:
    """Where the exchange stands in the scope."""
    return f"sessioncore.{scope_key}"
