"""What the adapter knows about one request and one store: the exchange and the session's headers."""

from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import Any, cast

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload
from msgspec import Struct
from multidict import CIMultiDict

from sessioncore import Done, Exchange, SessionError, SessionStore
from sessioncore.integration import DONE, ErrorResponse, Opaque, log_late_failure
from sessioncore_aiohttp._open import OpenConnection, end_body_with_session, is_event_stream, open_connection
from sessioncore_aiohttp._view import AiohttpView

__all__ = ["RequestContext", "abort_with", "to_web_response"]


class RequestContext(Opaque, Struct, eq=False):
    """The data that the middleware, the signal and `get_session` share."""

    store: SessionStore
    scope_key: str
    request: web.Request | None  # None: the middleware has finished
    exchange: Exchange | None = None  # None: nothing has needed it
    added: Sequence[tuple[str, str]] | None = None  # the session's headers; None: nothing is committed yet
    headers_final: bool = False  # the response has these headers, or must not be changed any more
    sent: web.StreamResponse | None = None  # the response whose headers were sent
    refusal: Exception | None = None  # why an error response was sent instead of the one that was being prepared
    open: OpenConnection | None = None  # a WebSocket or an event stream, from its headers on

    def begin(self, request: web.Request) -> Exchange:
        """Return the exchange; the first call creates it: most requests that need no session need no exchange.

        If the commit or the end of the request is over by then, the exchange learns so, which never has to wait.
        """
        if self.exchange is None:
            view = AiohttpView(request if self.request is None else self.request)  # a middleware may pass on a clone
            self.exchange = exchange = self.store.exchange(view)
            if self.added is not None:
                exchange.commit(None)
            if self.request is None:
                exchange.finish()
        return self.exchange

    def commit(self, request: web.Request, status: int | None) -> Done[None] | Awaitable[None]:
        """Commit, once.

        Raises:
            SessionError: send the core's error response instead.
        """
        if self.added is None:
            # With a status of 500 or more, the exchange also looks for an error of ours that the handler has hidden.
            if self.exchange is not None or (status is not None and status >= 500):
                return self._commit_session(request, status)
            self.added = ()
        return DONE

    async def _commit_session(self, request: web.Request, status: int | None) -> None:
        self.added = await self.begin(request).commit(status)

    async def commit_prepared(self, request: web.Request, response: web.StreamResponse) -> None:
        """Commit before a response that the handler prepares is sent, after which nothing can replace it.

        Raises:
            SessionError: send the core's error response instead.
        """
        self.headers_final = True
        await self.commit(request, response.status)

    async def commit_for_answer(self, request: web.Request, status: int) -> None:
        """Commit, because an error response is about to be sent for another store, or the application.

        Without the headers, the client would not know a new ID that the handler has stored already.
        """
        if self.request is not None and not self.headers_final:
            self.headers_final = True
            with suppress(SessionError):  # the client gets one error response only
                # With 500, the exchange would raise the error again that is being answered.
                await self.commit(request, 503 if status == 500 else status)

    def write_headers_with(self, writer: AbstractStreamWriter, response: web.FileResponse) -> None:
        """Write the session's headers when this writer writes those of the response, which sets Vary before that."""
        write = writer.write_headers

        async def write_headers(status_line: str, headers: CIMultiDict[str]) -> None:
            if headers is response.headers and not self.headers_final:  # else a middleware outside has replaced it
                self.write_headers(headers)
            await write(status_line, headers)

        vars(writer)["write_headers"] = write_headers

    def write_headers(self, headers: CIMultiDict[str]) -> None:
        """Write the session's headers into those of a response that is about to be sent."""
        self.headers_final = True
        exchange, added = self.exchange, self.added or ()
        if exchange is None or not (added or exchange.session.accessed):
            return
        present = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers.items()]
        revised = exchange.revise(present, added)
        if revised[: len(present)] == present:  # usually headers are only appended
            del revised[: len(present)]
        else:
            headers.clear()
        headers.extend([(name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in revised])

    def keep_refusal(self, error: Exception, response: web.StreamResponse) -> None:
        """Keep the error response that is sent instead of the one that was being prepared."""
        self.refusal, self.sent = error, response

    def note_response(
        self, request: web.Request, response: web.StreamResponse, contexts: Sequence["RequestContext"]
    ) -> None:
        """Note the response whose headers are about to be sent; watch the session of a WebSocket or an event stream."""
        if isinstance(response, web.Response):
            body = response.body
            if not isinstance(body, bytes) and isinstance(body, Payload) and is_event_stream(response):
                end_body_with_session(self.begin(request), request, response)
            if self.request is not None:
                self.sent = response
            return
        is_socket = isinstance(cast("object", response), web.WebSocketResponse)
        if self.request is not None:  # otherwise an outer middleware has made this response: nothing would stop it
            self.sent = response
            if is_socket or is_event_stream(response):
                self.open = open_connection(self.begin(request), request, response)
                self.open.begin_with_headers(request.writer)
        if is_socket:
            _observe(response, contexts)

    async def end_for_error(self, error: Exception) -> web.StreamResponse | None:
        """Close the WebSocket or event stream because of an error, and return it; None: raise the error again."""
        return None if self.open is None else await self.open.end_for_error(error)

    def break_off(self, request: web.Request, error: Exception) -> web.StreamResponse | None:
        """Break the response off, and return it, if the storage failed after it began; None: raise the error again.

        If the error was already answered while a response was being prepared, return that answer.
        """
        if self.sent is None or (error is not self.refusal and not log_late_failure(self.begin(request), error)):
            return None
        if request.transport is not None:
            request.transport.close()
        return self.sent

    def forget_response(self) -> None:
        """Forget it, because it refers to the request, whose writer keeps this context."""
        self.sent = self.refusal = None

    def end(self) -> None:
        """Note that the middleware has finished: a response that was not committed must not be changed."""
        self.request = None
        if self.open is not None:
            self.open.stop()
            vars(self.open.response).pop("receive", None)
            self.open = None  # like the response, see `forget_response`
        if self.added is None:
            self.headers_final = True


def _observe(response: web.StreamResponse, contexts: Sequence[RequestContext]) -> None:
    """Notify the contexts of each message that a WebSocket's handler receives, by wrapping a method of this response.

    aiohttp's other ways to receive call this one.
    """
    kind = cast("Any", type(response))

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
        headers.extend(context.added or ())
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
