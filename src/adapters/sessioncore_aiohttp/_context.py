"""What the adapter knows about one request and one store: the exchange and the session's headers."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from aiohttp import web
from msgspec import Struct
from multidict import CIMultiDict

from sessioncore import Exchange
from sessioncore.integration import ErrorResponse, Opaque, log_late_failure
from sessioncore_aiohttp._open import OpenConnection, end_body_with_session, open_connection

__all__ = ["RequestContext", "abort_with", "observe", "to_web_response"]


class RequestContext(Opaque, Struct, eq=False):
    """The data that the middleware, the signal and `get_session` share."""

    scope_key: str
    exchange: Exchange
    added: list[tuple[str, str]] | None = None  # the session's headers; None: nothing is committed yet
    headers_final: bool = False  # the response has these headers, or must not be changed any more
    ended: bool = False  # the middleware has finished
    sent: web.StreamResponse | None = None  # the response whose headers were sent
    refusal: Exception | None = None  # why an error response was sent instead of the one that was being prepared
    open: OpenConnection | None = None  # a WebSocket or an event stream, from its headers on

    async def commit(self, status: int | None) -> None:
        """Commit, once.

        Raises:
            SessionError: send the core's error response instead.
        """
        if self.added is None:
            self.added = await self.exchange.commit(status)

    async def write_headers(self, response: web.StreamResponse) -> None:
        """Commit if that was not done yet, and write the session's headers into a response that is about to be sent.

        Raises:
            SessionError: send the core's error response instead.
        """
        self.headers_final = True
        if self.added is None:
            await self.commit(response.status)
        if not self.added and not self.exchange.session.accessed:
            return
        headers = response.headers
        present = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers.items()]
        revised = self.exchange.revise(present, self.added or ())
        if revised[: len(present)] == present:  # usually headers are only appended
            del revised[: len(present)]
        else:
            headers.clear()
        headers.extend([(name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in revised])

    def keep_refusal(self, error: Exception, response: web.StreamResponse) -> None:
        """Keep the error response that is sent instead of the one that was being prepared."""
        self.refusal, self.sent = error, response

    def note_response(self, request: web.Request, response: web.StreamResponse) -> None:
        """Note the response whose headers are about to be sent; watch the session of a WebSocket or an event stream."""
        end_body_with_session(self.exchange, request, response)
        if self.ended:  # an outer middleware may have made this response, and nothing would stop the watch
            return
        self.sent = response
        self.open = open_connection(self.exchange, request, response)
        if self.open is not None:
            self.open.begin_with_headers(request.writer)

    async def end_for_error(self, error: Exception) -> web.StreamResponse | None:
        """Close the WebSocket or event stream because of an error, and return it; None: raise the error again."""
        return None if self.open is None else await self.open.end_for_error(error)

    def break_off(self, request: web.Request, error: Exception) -> web.StreamResponse | None:
        """Break the response off, and return it, if the storage failed after it began; None: raise the error again.

        If the error was already answered while a response was being prepared, return that answer.
        """
        if self.sent is None or (error is not self.refusal and not log_late_failure(self.exchange, error)):
            return None
        if request.transport is not None:
            request.transport.close()
        return self.sent

    def forget_response(self) -> None:
        """Forget it, because it refers to the request, whose writer keeps this context."""
        self.sent = self.refusal = None

    def end(self) -> None:
        """Note that the middleware has finished: a response that was not committed must not be changed."""
        self.ended = True
        if self.open is not None:
            self.open.stop()
            vars(self.open.response).pop("receive", None)
            self.open = None  # like the response, see `forget_response`
        if self.added is None:
            self.headers_final = True


def observe(response: web.StreamResponse, contexts: Sequence[RequestContext]) -> None:
    """Notify the contexts of each message that a WebSocket's handler receives, by wrapping a method of this response.

    aiohttp's other ways to receive call this one.
    """
    if not isinstance(response, web.WebSocketResponse):
        return
    kind = cast("Any", type(cast("object", response)))

    async def receive(*args: float | None, **options: float | None) -> object:
        message = await kind.receive(response, *args, **options)
        for context in contexts:
            if context.open is not None:
                context.open.message_received(message)
        return message

    vars(response)["receive"] = receive


def to_web_response(given: ErrorResponse, contexts: Iterable[RequestContext]) -> web.Response:
    """Return the core's error response, with the headers of other stores that the replaced response had."""
    headers = CIMultiDict(given.headers)
    for context in contexts:
        if context.headers_final and context.added:
            headers.extend(context.added)
    return web.Response(status=given.status, headers=headers, body=given.body)


def abort_with(request: web.Request, response: web.Response) -> None:
    """Send a response instead of the one that is being prepared, and close the connection.

    The request's writer is already set up for the other response's body (chunks, compression,
    length), so write to the transport directly.
    """
    if (transport := request.transport) is None:
        return
    lines = [f"HTTP/1.1 {response.status} {response.reason}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    head = "\r\n".join(lines) + "\r\n\r\n"
    body = b"" if request.method == "HEAD" or not isinstance(response.body, bytes) else response.body
    transport.write(head.encode("latin-1") + body)
    transport.close()
