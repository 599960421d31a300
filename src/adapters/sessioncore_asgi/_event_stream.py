"""An event stream, which ends when its session does."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from anyio import move_on_after
from msgspec import Struct

from sessioncore import Exchange, SessionError
from sessioncore.integration import Opaque, Watch, says_ended, watch_connection
from sessioncore_asgi._ended import SEND_TIMEOUT, ConnectionEnded, is_disconnect
from sessioncore_asgi._types import Message, Send

__all__ = ["EventStream", "is_event_stream"]

_LAST_PART: Final = {"type": "http.response.body", "body": b"", "more_body": False}
_NO_TRAILERS: Final[Message] = {"type": "http.response.trailers", "headers": [], "more_trailers": False}


def is_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a response with these headers is an event stream."""
    for name, value in headers:
        if name.lower() == b"content-type":  # Django capitalises it
            return value.lower().startswith(b"text/event-stream")
    return False


class EventStream(Opaque, Struct, eq=False):
    """Wraps the server's `send`, and watches the session from the headers on."""

    _exchange: Exchange
    _send: Send
    _end_receiving: Callable[[Message], None]
    _watch: Watch | None = None  # None: the headers are not sent, or there is no session that could end
    _complete: bool = False  # the last part was sent
    _ended: bool = False  # by this adapter
    _trailers: bool = False  # announced by the headers: the server waits for them after the last part

    async def send(self, message: Message) -> None:
        """Forward a message.

        Raises:
            ConnectionEnded: the session was ended, and the response is complete.
        """
        if self._ended:
            raise ConnectionEnded("the session of this event stream was ended")
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._complete = True
            self.stop()
        self._trailers |= message.get("trailers", False)
        await self._send(message)
        if message["type"].endswith("http.response.start") and not self._complete:
            self._watch = watch_connection(self._exchange, self._end)

    def _end(self, _: SessionError) -> Awaitable[None] | None:
        if self._complete:
            return None
        self._end_receiving({"type": "http.disconnect"})
        return self.finish()

    def finish(self) -> Awaitable[None]:
        """Complete the response in the application's place; what it sends from here on raises ConnectionEnded."""
        self._complete = self._ended = True
        return self._send_last_part()

    async def _send_last_part(self) -> None:
        with move_on_after(SEND_TIMEOUT):
            await self._send(_LAST_PART)
            if self._trailers:
                await self._send(_NO_TRAILERS)

    def stop(self) -> None:
        """Stop watching the session."""
        if self._watch is not None:
            self._watch.stop()

    async def end_for_error(self, error: Exception) -> bool:
        """Complete the response if the error only says that the session, or the stream, has ended."""
        if not says_ended(error, is_disconnect):
            return False
        if not self._complete:
            await self.finish()
        return True
