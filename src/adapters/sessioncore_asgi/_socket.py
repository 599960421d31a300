"""Stands between application and server on a WebSocket, and closes it when its session ends."""

from collections.abc import Awaitable
from typing import Final

from anyio import Event, move_on_after
from anyio.lowlevel import checkpoint

from sessioncore import SessionError
from sessioncore.integration import Watch, close_code, close_for_error, close_reason, says_ended, watch_connection
from sessioncore_asgi._ended import SEND_TIMEOUT, ConnectionEnded, is_disconnect
from sessioncore_asgi._responder import Responder
from sessioncore_asgi._types import Message

__all__ = ["SocketResponder"]

_MOST_DISCONNECTS: Final = 5  # for several tasks; one that goes on receiving, as Sanic's do, would never wait
_CLOSE_TIMEOUT: Final = 1.0  # seconds that an application which has ended waits for the close frame to be sent


class SocketResponder(Responder):
    """The messages of one WebSocket."""

    client_disconnected: bool = False  # or this adapter has closed the connection
    reports_failure: bool = False  # the application has closed the connection with 1011 (RFC 6455, 7.4.1)
    _closed: bool = False  # the application has closed the connection, or refused the handshake
    _disconnects: int = 0  # how often the application has received the disconnect that this adapter has made
    _watch: Watch | None = None  # None: it is not accepted, or there is no session that could end
    _sent: Event | None = None  # set when the adapter's close message is sent; None: it has not ended the connection

    async def receive(self) -> Message:
        """Pass on a message of the client; one that arrives is a use of the session.

        The client's disconnecting is noted: an exception of the application is then not a failure.

        Raises:
            ConnectionEnded: this adapter has closed the connection, and the application has received that already.
        """
        if self._disconnects == _MOST_DISCONNECTS:
            await checkpoint()
            raise ConnectionEnded("the session of this WebSocket was ended")
        message = await self._next_message()
        if message is self._disconnect:
            self._disconnects += 1
        if message["type"] == "websocket.disconnect":
            self.client_disconnected = True
        elif self._watch is not None:
            self._watch.message_received()
        return message

    async def send_socket(self, message: Message) -> None:
        """Forward a message; store late changes before the connection is closed.

        Raises:
            ConnectionEnded: this adapter has closed the connection, because the session was ended.
        """
        if self._disconnect is not None:
            raise ConnectionEnded("the session of this WebSocket was ended")
        kind = message["type"]
        if kind == "websocket.close":
            await self._prepare_close(message)
        try:
            if kind == "websocket.accept" and not self._started:
                await self._accept(message)
            else:
                await self.send(message)
                self._closed |= kind == "websocket.http.response.start"
        except OSError:  # the client has disconnected; frameworks replace this by errors of their own
            self.client_disconnected = True
            raise

    async def _accept(self, message: Message) -> None:
        self._note_start()
        try:
            added = await self._exchange.commit(101)
        except SessionError as error:
            await self._replace_response(error, 101)
        else:
            uses_session = added or self._exchange.session.accessed
            await (self._send_headers(message, added) if uses_session else self._send(message))
            self._watch = watch_connection(self._exchange, self._end)

    async def _prepare_close(self, message: Message) -> None:
        """Store late changes, or those of a handshake that is refused."""
        self._closed = True
        try:
            if not self._started:
                await self._exchange.commit(None)
                self._note_start()  # too late for an error response, too
            elif message.get("code") == 1011:
                self.reports_failure = True
            else:
                await self._exchange.save_late()
        except SessionError:
            self._closed = False  # the message is not sent: `close_for_error` sends one with the error's code
            raise

    async def close_for_error(self, error: Exception) -> bool:
        """Close the connection if it is too late for a response; return False if the error must be raised again."""
        if self._disconnect is not None:
            return says_ended(error, is_disconnect)
        code = None if self.client_disconnected or self._closed else close_for_error(self._exchange, error)
        if code is None:
            return False
        self._closed = True
        await self._send_close(error)
        return True

    # -- the end of the session

    def _end(self, error: SessionError) -> Awaitable[None] | None:
        if self._closed or self.client_disconnected:
            return None
        self.client_disconnected = True
        self._sent = Event()
        self.end_receiving(self._closing("websocket.disconnect", error))
        return self._close(error)

    async def _close(self, error: SessionError) -> None:
        try:
            with move_on_after(SEND_TIMEOUT):
                await self._send_close(error)
        finally:
            assert self._sent is not None
            self._sent.set()

    async def _send_close(self, error: Exception) -> None:
        message = self._closing("websocket.close", error)
        try:
            await self._send(message)
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - Daphne raises nothing more specific for each code below 3000 except 1000
            await self._send({**message, "code": 1000})

    def _closing(self, kind: str, error: Exception) -> Message:
        return {"type": kind, "code": close_code(error), "reason": close_reason(error)}

    def stop(self) -> None:
        """Stop watching the session."""
        if self._watch is not None:
            self._watch.stop()

    async def wait_until_closed(self) -> None:
        """Wait until the close message is sent: after the application's end, servers close with a code of their own."""
        if self._sent is not None:
            with move_on_after(_CLOSE_TIMEOUT):
                await self._sent.wait()
