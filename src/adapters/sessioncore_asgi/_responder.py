"""Between the application and the server: commits before the headers leave, and answers in place of the application."""

from collections.abc import Awaitable, Sequence

from msgspec import Struct

from sessioncore import Done, Exchange, SessionError
from sessioncore_asgi._types import Message, Receive, Send

__all__ = ["Responder"]


class Responder(Struct, eq=False):
    """The messages of one connection."""

    _exchange: Exchange
    _send: Send
    _receive: Receive
    _other_stores_headers: list[
        tuple[str, str]
    ]  # what the stores of this request have to tell the client, innermost first
    _response_type: str | None = (
        "http.response"  # of an answer of ours; None: this server refuses a handshake without one
    )
    _started: bool = False
    _replaced: bool = False  # our answer was sent instead of the application's
    client_disconnected: bool = False  # by the client of a WebSocket

    def __repr__(self) -> str:
        return "<Responder>"  # what it sends to may show a scope, and the scope the ID

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on; commit before the one that carries the headers.

        A plain function: where nothing has to be awaited first, the server's own awaitable will do.
        """
        kind = message["type"]
        if self._started:
            if self._replaced:
                return _ignore_message()
            if kind == "http.response.body" and not message.get("more_body", False):
                # Who has read the response to its end shall find in the storage what was changed.
                saving = self._exchange.save_late()
                if not isinstance(saving, Done):
                    return self._send_after(saving, message)
            return self._send(message)
        if kind == "http.response.start" or kind == "websocket.http.response.start":  # noqa: PLR1714 - each request
            status = message["status"]
            if status < 200:  # interim: RFC 9110, section 15.2
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
        """Answer in place of a response that could not be committed."""
        if self._response_type is not None:
            await self._send_error_response(error, self._response_type)
            if status >= 500:  # it has failed already, and goes on to raise what made it fail
                return
        raise error  # also into the application: what it meant to do after the response must not happen

    async def _send_after(self, work: Awaitable[object], message: Message) -> None:
        await work  # if it fails the message is never sent: the client sees that the response broke
        await self._send(message)

    def _revised(self, message: Message, added: Sequence[tuple[str, str]]) -> Message:
        if added:
            self._other_stores_headers.extend(added)
        return {**message, "headers": self._exchange.revise(message.get("headers", ()), added)}

    async def respond_to_error(self, error: Exception) -> bool:
        """Answer for what the application raised; False if it has to go on its way, to the server's log."""
        if self._response_type is None or (self._started and not self._replaced):
            return False
        return await self._send_error_response(error, self._response_type)

    async def _send_error_response(self, error: Exception, response_type: str) -> bool:
        """Send the core's response, once.

        In the stead of one that tells of other stores' sessions, it does so too: those are stored, the old IDs dead.
        """
        response = self._exchange.error_response(error)
        if response is None:
            return False
        if not self._replaced:
            pairs = (*response.headers, *self._other_stores_headers)
            headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
            self._started = self._replaced = True
            await self._send({"type": f"{response_type}.start", "status": response.status, "headers": headers})
            await self._send({"type": f"{response_type}.body", "body": response.body})
        return response.handled

    # -- WebSockets only

    async def receive(self) -> Message:
        """Note that the client has left: applications learn it by an exception, which is no failure then."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.client_disconnected = True
        return message

    async def send_websocket(self, message: Message) -> None:
        """Pass a message on; who sees the connection closed shall find in the storage what was changed."""
        # 1011 is the application's own word for a failure: RFC 6455, section 7.4.1.
        if message["type"] == "websocket.close" and self._started and message.get("code", 1000) != 1011:
            await self._exchange.save_late()
        try:
            await self.send(message)
        except OSError:  # how a server tells that the client has left; frameworks make errors of their own of it
            self.client_disconnected = True
            raise


async def _ignore_message() -> None:
    """Stand for what the application sends after our answer."""
