"""The ASGI middleware inside Litestar's routing.

Routing has run before it, so `exclude`, `opt` and path parameters work as for every Litestar
middleware, and it does not see responses 404 and 405. Inside of it, Litestar turns exceptions
into responses; this module passes the hidden exceptions to the ASGI middleware.
"""

import logging
import sys
from collections.abc import Awaitable
from typing import Any, NoReturn, cast

from litestar.connection import Request
from litestar.enums import ScopeType
from litestar.exceptions import LitestarException
from litestar.middleware._internal.exceptions import ExceptionHandlerMiddleware
from litestar.middleware.session.base import BaseSessionBackend
from litestar.middleware.session.base import SessionMiddleware as LitestarSessionMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from litestar.utils.scope.state import ScopeState
from msgspec import Struct

import sessioncore_asgi
from sessioncore import Done, Session, SessionError, SessionStore
from sessioncore.integration import DONE, Opaque
from sessioncore_asgi._ended import ConnectionEnded
from sessioncore_asgi._other_sessions import check_inside
from sessioncore_litestar._connection import apply_assignment, is_mount, provide_id

__all__ = ["SessionMiddleware"]

_logger = logging.getLogger("sessioncore")
_LAST_MESSAGES = frozenset({"websocket.close", "websocket.http.response.start"})
_START_MESSAGES = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


class SessionMiddleware(LitestarSessionMiddleware[BaseSessionBackend[Any]]):
    """A subclass of Litestar's own only because FlashPlugin and SessionAuth look for one; it overrides `__call__`."""

    def __init__(
        self, app: ASGIApp, backend: BaseSessionBackend[Any], scope_key: str = "session", lazy: bool = False
    ) -> None:
        super().__init__(app, backend)
        store: SessionStore = backend.config.store
        check_inside(app, scope_key, store)
        self._scope_key = scope_key
        self._asgi_middleware = cast(
            "ASGIApp",
            sessioncore_asgi.SessionMiddleware(cast("Any", self._call_app), store, scope_key=scope_key, lazy=lazy),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection that is not excluded."""
        # This dict belongs to the request. A handler that the application has for these errors takes precedence. It is
        # set before the ASGI middleware runs, whose own errors must reach the server, too: Litestar does not log them.
        state: Any = ScopeState.from_scope(scope)
        state.exception_handlers.setdefault(SessionError, _reraise)
        if scope["type"] == ScopeType.WEBSOCKET:
            await self._serve_websocket(scope, receive, send)
        else:
            await self._asgi_middleware(scope, receive, send)

    async def _serve_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        answered = False

        async def note_answer(message: Message) -> None:
            nonlocal answered
            answered = answered or message["type"] in _LAST_MESSAGES
            await send(message)

        try:
            await self._asgi_middleware(scope, receive, note_answer)
        except _ServerError as error:
            if not answered:  # otherwise the ASGI middleware has sent a new ID, or has closed it as its session ended
                await send(error.close)
        except SessionError as error:  # Litestar closes with 4500, and logs nothing
            _logger.exception("a WebSocket was closed, because its handler raised: %s", error)  # noqa: TRY401
            raise

    async def _call_app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._scope_key == "session":
            provide_id(scope)
        sender = None if is_mount(scope) else _Sender(scope, self._scope_key, send)
        if sender is not None:
            send = sender.send
        try:
            await self.app(scope, receive, send)
        except Exception as exc:  # noqa: BLE001 - Litestar's own middleware answers each, too
            await _answer(_unwrap(exc), scope, receive, send, sender)
        if sender is not None:
            if (applying := sender.apply_assignment()) is not DONE:
                await applying
            if sender.failure is not None:
                raise sender.failure


async def _answer(error: Exception, scope: Scope, receive: Receive, send: Send, sender: "_Sender | None") -> None:
    """Answer what a middleware of the application raised; Litestar would answer it outside of `send`.

    Errors of sessioncore are raised again, and so is what Litestar's exception handlers raise.
    """
    if ScopeState.from_scope(cast("Any", scope)).response_started:
        raise error

    async def fail(*_: object) -> NoReturn:
        raise error

    try:
        if isinstance(error, SessionError):
            raise error
        await ExceptionHandlerMiddleware(fail, debug=None)(scope, receive, send)
    except Exception:
        if sender is not None:
            await sender.apply_assignment()  # a logout by `clear_session` holds
        raise


class _Sender(Opaque, Struct, eq=False):
    """Handles the messages of the application before the ASGI middleware gets them."""

    _scope: Any  # a Scope; as a TypedDict, it could not be asked for a key that is a variable
    _scope_key: str
    _send: Send
    failure: Exception | None = None  # raised by a WebSocket handler; Litestar turned it into a close code

    def send(self, message: Message) -> Awaitable[None]:
        """Forward a message; without a coroutine of its own, as no `set_session` was called in most requests."""
        if message["type"] == "websocket.close" or type(self._scope.get(self._scope_key)) is not Session:
            return self._apply_and_send(message)
        send = self._send  # calling a field directly is slower
        return send(message)

    async def _apply_and_send(self, message: Message) -> None:
        kind = message["type"]
        if kind in _START_MESSAGES or (
            kind == "http.response.body" and not cast("Any", message).get("more_body", False)
        ):
            await self.apply_assignment()
        elif kind == "websocket.close":
            await self.apply_assignment()
            if 4500 <= cast("Any", message).get("code", 1000) < 4600:  # Litestar's 500, see WebSocketException
                error = sys.exception()
                self.failure = error if isinstance(error, SessionError | ConnectionEnded) else _ServerError(message)
                return
        await self._send(message)

    def apply_assignment(self) -> Done[None] | Awaitable[Session]:
        """Apply `set_session` and `clear_session`: before the headers, and at the end of a stream or WebSocket."""
        if type(self._scope.get(self._scope_key)) is Session:
            return DONE
        return apply_assignment(self._scope, self._scope_key)


class _ServerError(Exception):
    """A WebSocket handler failed, and Litestar has turned its exception into a close code."""

    def __init__(self, close: Message) -> None:
        super().__init__()
        self.close = close  # sent after the ASGI middleware has seen the failure


def _unwrap(error: Exception) -> Exception:
    """Return the exception behind Litestar's "Exception caught after response started"."""
    while type(error) is LitestarException and isinstance(error.__cause__, Exception):  # not one of the application
        error = error.__cause__
    return error


def _reraise(_: Request[Any, Any, Any], error: Exception) -> NoReturn:
    """Raise the error again, so that the ASGI middleware sends the same response as in every framework."""
    raise error
