"""Stands between application and server: commits before the headers are sent, and sends error responses."""

from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from anyio import CancelScope
from msgspec import Struct

from sessioncore import Done, Exchange, SessionError
from sessioncore.integration import DONE, UNCHANGED, Opaque, has_replaced_id
from sessioncore_asgi._event_stream import EventStream, is_event_stream
from sessioncore_asgi._exchanges import EXCHANGES, SCOPE_KEY, SENT
from sessioncore_asgi._other_sessions import warn_of_other_sessions
from sessioncore_asgi._types import Message, Receive, Scope, Send

__all__ = ["Responder"]

_ONE_PART: Final = b"content-length"  # with this header, frameworks begin a response in one part
_ENDS: Final = frozenset({  # what can be the last message of a response; the second and third are extensions for files
    "http.response.body", "http.response.pathsend", "http.response.zerocopysend", "http.response.trailers",
})  # fmt: skip


class Responder(Opaque, Struct, eq=False):
    """The messages of one connection."""

    _exchange: Exchange
    _send: Send
    _receive: Receive
    _scope: Scope
    _response_type: str | None = "http.response"  # None: the server cannot send a response to a WebSocket handshake
    _started: bool = False
    _replaced: bool = False  # an error response was sent instead of the application's response
    _body_read: bool = False  # the application has received the request; nothing but a disconnect can follow
    _disconnect: Message | None = None  # this adapter has ended the connection: from then on, only this is received
    _waiting: tuple[CancelScope, ...] = ()  # around each wait for the client
    events: EventStream | None = None  # the response is an event stream

    async def __call__(self) -> Message:
        """Receive for the application: a message of the client, or a disconnect if an event stream was ended.

        The responder itself is the application's `receive`, because each request pays for making a bound method.
        """
        if self._body_read or self.events is not None:
            return await self._next_message()
        message = await self._receive()
        self._body_read = not message.get("more_body", False)
        return message

    async def _next_message(self) -> Message:
        message: Message = {}
        if self._disconnect is None:
            with CancelScope() as scope:
                self._waiting += (scope,)
                try:
                    message = await self._receive()
                finally:
                    self._waiting = tuple(waiting for waiting in self._waiting if waiting is not scope)
        return message if self._disconnect is None else self._disconnect

    def end_receiving(self, disconnect: Message) -> None:
        """Let the application receive this message from now on, without waiting for the server."""
        self._disconnect = disconnect
        for scope in self._waiting:
            scope.cancel()

    def send(self, message: Message) -> Awaitable[None]:
        """Forward a message; commit before the one that has the headers.

        This is a plain function, so that it can return the server's own awaitable if nothing must be awaited first.
        """
        kind, send = message["type"], self._send  # calling a field directly is slower
        if not self._started:
            if kind != "http.response.start" and kind != "websocket.http.response.start":  # noqa: PLR1714 - each request
                return send(message)
            status = message["status"]
            if status < 200:  # an interim response (RFC 9110, section 15.2)
                return send(message)
            self._started = True
            try:
                added = self._exchange.commit(status)
            except SessionError as error:
                return self._replace_response(error, status)
            if added is UNCHANGED:
                try:
                    first = message["headers"][0][0]
                except (LookupError, TypeError):  # there are no headers, or they are an iterator
                    first = b""
                if first == _ONE_PART:
                    return send(message)
                return self._send_unchanged(message)
            if not isinstance(added, Done):
                return self._commit(message, status, added)
            return self._send_headers(message, added.value)
        if self._replaced:
            return _ignore_message()
        exchange = self._exchange
        if exchange.session.accessed and kind in _ENDS and ("more_body" not in message or not message["more_body"]):
            # When the client has read the whole response, late changes must be stored.
            saving = exchange.save_late()
            if saving is not DONE:
                return self._send_after(saving, message)
        return send(message)

    async def _commit(self, message: Message, status: int, added: Awaitable[Sequence[tuple[str, str]]]) -> None:
        try:
            headers = await added
        except SessionError as error:
            await self._replace_response(error, status)
        else:
            await self._send_headers(message, headers)

    async def _send_new_id(self, message: Message) -> None:
        """Send headers with an ID whose former one leads nowhere; if a middleware outside fails, send a 500 with it."""
        try:
            await self._send(message)
        except Exception as error:
            if self._response_type is not None:
                with suppress(Exception):
                    await self._send_error_response(error, self._response_type, unsent=True)
            raise

    async def _replace_response(self, error: SessionError, status: int) -> None:
        """Send an error response instead of a response whose changes could not be committed."""
        if self._response_type is not None:
            await self._send_error_response(error, self._response_type)
            if status >= 500:  # the application has failed already, and raises its own error
                return
        raise error  # also in the application, so that it does not continue as if the response had been sent

    async def _send_after(self, work: Awaitable[object], message: Message) -> None:
        await work  # if it fails, the message is not sent, so the client sees an incomplete response
        await self._send(message)

    def _send_headers(self, message: Message, added: Sequence[tuple[str, str]]) -> Awaitable[None]:
        """Send the headers of the response, with those that the session needs."""
        scope, exchange = self._scope, self._exchange
        exchanges = scope[EXCHANGES]
        if added:
            exchanges[SENT].extend(added)
        if scope.get(exchanges[SCOPE_KEY]) is not exchange.session:  # two stores, or another library's session
            warn_of_other_sessions(scope, exchange)
        revised = {**message}
        present: Iterable[tuple[bytes, bytes]] = message.get("headers", ())
        revised["headers"] = headers = exchange.revise(present, added)
        if headers and headers[0][0] != _ONE_PART:
            self._look_for_events(headers)
        if added and has_replaced_id(exchange):
            return self._send_new_id(revised)
        return self._send(revised)  # looked up here: this may be an event stream by now

    def _send_unchanged(self, message: Message) -> Awaitable[None]:
        """Send the headers of a response whose handler has not used the session, but may do so while it streams."""
        headers: Iterable[tuple[bytes, bytes]] = message.get("headers", ())
        if not isinstance(headers, Sequence):  # it can be read once
            headers = [*headers]
            message = {**message, "headers": headers}
        self._look_for_events(headers)
        return self._send(message)

    def _note_start(self) -> None:
        self._started = True

    def _look_for_events(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Put an `EventStream` before the server if the response is one."""
        if is_event_stream(headers):
            self.events = EventStream(self._exchange, self._send, self.end_receiving)
            self._send = self.events.send

    async def respond_to_error(self, error: Exception) -> bool:
        """Send the response for an error of the application; return False if the error must be raised again."""
        if self.events is not None:
            return await self.events.end_for_error(error)
        if self._response_type is None or (self._started and not self._replaced):
            return False
        return await self._send_error_response(error, self._response_type)

    async def _send_error_response(self, error: Exception, response_type: str, *, unsent: bool = False) -> bool:
        """Send the core's error response, once, and return whether the error is handled.

        It replaces a response with other stores' headers, so it repeats them: they contain new IDs that are stored.
        """
        response = self._exchange.error_response(error, unsent=unsent)
        if response is None:
            return False
        if not self._replaced:
            pairs = dict.fromkeys((*response.headers, *self._scope[EXCHANGES][SENT]))  # if unsent, ours are in both
            headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
            self._started = self._replaced = True
            await self._send({"type": f"{response_type}.start", "status": response.status, "headers": headers})
            await self._send({"type": f"{response_type}.body", "body": response.body})
        return response.handled


async def _ignore_message() -> None:
    """Ignore a message that the application sends after the error response."""
