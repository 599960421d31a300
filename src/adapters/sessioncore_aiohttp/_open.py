"""WebSockets and event streams, which this adapter closes when their session ends."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from anyio import move_on_after
from msgspec import Struct
from multidict import CIMultiDict

from sessioncore import Exchange, SessionError
from sessioncore.integration import (
    Opaque,
    Watch,
    close_code,
    close_for_error,
    close_reason,
    says_ended,
    watch_connection,
)

__all__ = ["OpenConnection", "end_body_with_session", "is_closing", "is_event_stream", "open_connection"]

_TIMEOUT: Final = 10.0  # seconds for the last bytes to a client that reads nothing any more
_USES: Final = frozenset({web.WSMsgType.TEXT, web.WSMsgType.BINARY})


def is_event_stream(response: web.StreamResponse) -> bool:
    """Return whether the client reads events until one of the two closes the connection."""
    return response.content_type == "text/event-stream"


def open_connection(exchange: Exchange, request: web.Request, response: web.StreamResponse) -> "OpenConnection":
    """Return an object that closes a WebSocket or an event stream when the session ends."""
    if isinstance(response, web.WebSocketResponse):
        socket: Any = response  # pyright: ignore[reportUnknownVariableType]  # of its messages
        return OpenConnection(exchange, socket, partial(_close_socket, socket), lambda: bool(socket.closed))
    return OpenConnection(exchange, response, partial(_end_stream, request), partial(is_closing, request))


def end_body_with_session(exchange: Exchange, request: web.Request, response: web.Response) -> None:
    """Close an event stream whose body is a generator when the session ends; aiohttp sends it after the middleware."""
    stream, send_body = open_connection(exchange, request, response), response.write_eof

    async def write_eof(data: bytes = b"") -> None:
        vars(response).pop("write_eof", None)
        stream.begin()
        try:
            await send_body(data)
        finally:
            stream.stop()

    vars(response)["write_eof"] = write_eof


class OpenConnection(Opaque, Struct, eq=False):
    """A WebSocket or an event stream, whose session is watched from its headers on."""

    _exchange: Exchange
    response: web.StreamResponse
    _close: Callable[[BaseException], Awaitable[None]]
    _is_closed: Callable[[], bool]
    _watch: Watch | None = None  # None: its headers are not written, or there is no session that could end
    _begun: bool = False  # its headers are written
    _ended: bool = False  # by this adapter
    _stopped: bool = False  # the handler has ended

    def begin_with_headers(self, writer: AbstractStreamWriter) -> None:
        """Begin when this writer writes the headers: others may still wait in `on_response_prepare`."""
        write = writer.write_headers

        async def write_headers(status_line: str, headers: CIMultiDict[str]) -> None:
            await write(status_line, headers)
            self.begin()  # at once: the handler may end the session before it waits for anything

        vars(writer)["write_headers"] = write_headers

    def begin(self) -> None:
        """Watch the session: the headers are written."""
        if not self._stopped:
            self._begun = True
            self._watch = watch_connection(self._exchange, self._end)

    def message_received(self, message: Any) -> None:
        """Count a message of a WebSocket as a use of the session."""
        if self._watch is not None and message.type in _USES:
            self._watch.message_received()

    def stop(self) -> None:
        """Stop watching the session."""
        self._stopped = True
        if self._watch is not None:
            self._watch.stop()

    def _end(self, error: SessionError) -> Awaitable[None] | None:
        if self._is_closed():
            return None
        self._ended = True
        return self._close(error)

    async def end_for_error(self, error: Exception) -> web.StreamResponse | None:
        """Return the response if an error of the handler only says that the connection, or its session, has ended."""
        if not self._ended:
            if not self._begun or self._is_closed() or close_for_error(self._exchange, error) is None:
                return None
            await self._close(error)
        return self.response if says_ended(error, _is_disconnect) else None


async def _close_socket(socket: "web.WebSocketResponse[Any]", error: BaseException) -> None:
    """Close a WebSocket, which ends the handler's waiting for messages, too."""
    code = close_code(error)
    assert code is not None, "other errors are left to aiohttp"
    with move_on_after(_TIMEOUT):
        await socket.close(code=code, message=close_reason(error).encode(), drain=False)


async def _end_stream(request: web.Request, _: BaseException) -> None:
    """Send the last chunk, and close the connection, so that the handler's writes raise ConnectionResetError."""
    transport = request.transport
    with move_on_after(_TIMEOUT) as scope:
        await request.writer.write_eof()
    if transport is not None:
        transport.abort() if scope.cancelled_caught else transport.close()


def is_closing(request: web.Request) -> bool:
    """Return whether the connection is closed, or about to be."""
    return request.transport is None or request.transport.is_closing()


def _is_disconnect(error: BaseException) -> bool:
    return isinstance(error, ConnectionError)
