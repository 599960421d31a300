"""Stands between application and server: commits before the headers are sent, and sends error responses."""

from collections.abc import Awaitable, Sequence

from msgspec import Struct

from sessioncore import Done, Exchange, SessionError
from sessioncore.integration import DONE, close_code
from sessioncore_asgi._shared import EXCHANGES, warn_of_other_sessions
from sessioncore_asgi._types import Message, Receive, Scope, Send

__all__ = ["Responder"]


class Responder(Struct, eq=False):
    """The messages of one connection."""

    _exchange: Exchange
    _send: Send
    _receive: Receive
    _scope: Scope
    _response_type: str | None = "http.response"  # None: the server cannot send a response to a WebSocket handshake
    _started: bool = False
    _replaced: bool = False  # an error response was sent instead of the application's response
    client_disconnected: bool = False  # set for WebSockets only, as is the next one
    _closed: bool = False  # the application has closed the connection

    def __repr__(self) -> str:
        return "<Responder>"  # the repr of `send` may contain the scope, which contains the ID

    def send(self, message: Message) -> Awaitable[None]:
        """Forward a message; commit before the one that has the headers.

        This is a plain function, so that it can return the server's own awaitable if nothing must be awaited first.
        """
        kind = message["type"]
        if self._started:
            if self._replaced:
                return _ignore_message()
            if kind == "http.response.body" and not message.get("more_body", False):
                # When the client has read the whole response, late changes must be stored.
                saving = self._exchange.save_late()
                if saving is not DONE:
                    return self._send_after(saving, message)
            return self._send(message)
        if kind == "http.response.start" or kind == "websocket.http.response.start":  # noqa: PLR1714 - each request
            status = message["status"]
            if status < 200:  # an interim response (RFC 9110, section 15.2)
                return self._send(message)
        elif kind == "websocket.accept":
            status = 101
        elif kind == "websocket.close":
            return self._send_after(self._exchange.commit(None), message)
        else:
            return self._send(message)
        self._started = True
        exchange = self._exchange
        try:
            added = exchange.commit(status)
        except SessionError as error:
            return self._replace_response(error, status)
        if not isinstance(added, Done):
            return self._commit(message, status, added)
        if added.value or exchange.session.accessed:
            message = self._revised(message, added.value)
        return self._send(message)

    async def _commit(self, message: Message, status: int, added: Awaitable[Sequence[tuple[str, str]]]) -> None:
        try:
            headers = await added
        except SessionError as error:
            await self._replace_response(error, status)
        else:
            await self._send(self._revised(message, headers))

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

    def _revised(self, message: Message, added: Sequence[tuple[str, str]]) -> Message:
        scope_key, _, sent, _ = self._scope[EXCHANGES]
        if added:
            sent.extend(added)
        if self._scope.get(scope_key) is not self._exchange.session:  # two stores, or another library's session
            warn_of_other_sessions(self._scope, self._exchange)
        revised = {**message}
        revised["headers"] = self._exchange.revise(message.get("headers", ()), added)
        return revised

    async def respond_to_error(self, error: Exception) -> bool:
        """Send the response for an error of the application; return False if the error must be raised again."""
        if self._response_type is None or (self._started and not self._replaced):
            return False
        return await self._send_error_response(error, self._response_type)

    async def _send_error_response(self, error: Exception, response_type: str) -> bool:
        """Send the core's error response, once, and return whether the error is handled.

        It replaces a response with other stores' headers, so it repeats them: they contain new IDs that are stored.
        """
        response = self._exchange.error_response(error)
        if response is None:
            return False
        if not self._replaced:
            pairs = (*response.headers, *self._scope[EXCHANGES][2])
            headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
            self._started = self._replaced = True
            await self._send({"type": f"{response_type}.start", "status": response.status, "headers": headers})
            await self._send({"type": f"{response_type}.body", "body": response.body})
        return response.handled

    # -- WebSockets only

    async def receive(self) -> Message:
        """Note that the client has disconnected: an exception of the application is then not a failure."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.client_disconnected = True
        return message

    async def send_websocket(self, message: Message) -> None:
        """Forward a message; store late changes before the connection is closed."""
        # With code 1011 the application itself reports a failure (RFC 6455, section 7.4.1).
        if message["type"] == "websocket.close":
            self._closed = True
            if self._started and message.get("code", 1000) != 1011:
                await self._exchange.save_late()
        try:
            await self.send(message)
        except OSError:  # the client has disconnected; frameworks replace this by errors of their own
            self.client_disconnected = True
            raise

    async def close_for_error(self, error: Exception) -> bool:
        """Close the connection if it is too late for a response; return False if the error must be raised again."""
        code = None if self.client_disconnected or self._closed else close_code(error)
        if code is None:
            return False
        await self._send({"type": "websocket.close", "code": code})
        return True


async def _ignore_message() -> None:
    """Ignore a message that the application sends after the error response."""
