"""Between the application and the server: commits before the headers leave, and answers in place of the application."""

import sys
from collections.abc import Awaitable, Sequence
from typing import Final, TypeVar

from msgspec import Struct

from sessioncore import Exchange, OwnerLimitReached, SessionError, StorageError
from sessioncore_asgi._types import Message, Receive, Send

__all__ = ["Responder"]

E = TypeVar("E", bound=SessionError)
_REFUSALS: Final = (StorageError, OwnerLimitReached)  # no bug of the application, so its 500 would say the wrong thing


class Responder(Struct, eq=False):
    """The messages of one connection."""

    _exchange: Exchange
    _send: Send
    _receive: Receive
    _told: list[tuple[str, str]]  # what the stores of this request have to tell the client, innermost first
    _lazy: bool  # the session may be loaded when the response is on its way
    _form: str | None = "http.response"  # of an answer of ours; None: this server refuses a handshake without one
    _started: bool = False
    _calm: bool = False  # a stranger's response began without a session, so none can come up any more
    _replaced: bool = False  # our answer was sent instead of the application's
    left: bool = False  # by the client of a WebSocket

    def __repr__(self) -> str:
        return "<Responder>"  # what it sends to may show a scope, and the scope the ID

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on; commit before the one that carries the headers.

        A plain function: where nothing has to be awaited first, the server's own awaitable will do.
        """
        if self._started:
            if self._calm:
                return self._send(message)
            if self._replaced:
                return _nothing()
            # Asked of each message: a stored session that had no part in the start can be changed in the stream.
            if self._exchange.unsaved and _is_last(message):
                return self._end(message)
            return self._send(message)
        kind = message["type"]
        if kind == "http.response.start" or kind == "websocket.http.response.start":  # noqa: PLR1714 - each request
            status = message["status"]
            if status < 200:  # interim: RFC 9110, section 15.2
                return self._send(message)
            self._started = True
            if status == 500 and (error := _behind(sys.exception(), _REFUSALS)) is not None:
                return self._answer(error)  # a framework's catch-all stands inside, and is about to hide it
            exchange = self._exchange
            if exchange.untouched():
                self._calm = exchange.place is None and not self._lazy
                return self._send(message)
            added = exchange.commit_now(status)
            if added is None:
                return self._commit(message, status)
            return self._send(self._revised(message, added))
        if kind == "websocket.accept":
            return self._commit(message, 101)
        if kind == "websocket.close":
            return self._deny(message)
        return self._send(message)

    async def answered(self, error: Exception) -> bool:
        """Answer for what the application raised; False if `error` has to go on its way, to the server's log."""
        known = _behind(error, SessionError) is not None
        if self._replaced:
            return known
        if self._started or self._form is None:
            return False
        ours = error if isinstance(error, SessionError) else _behind(error, _REFUSALS) or self._exchange.failure
        if ours is not None:
            await self._answer(ours)
            return known
        if self._exchange.owes:  # the old ID is dead, and no later response will tell the new one
            await self._answer(None)
        return False

    async def _commit(self, message: Message, status: int) -> None:
        self._started = True
        try:
            added = await self._exchange.commit(status)
        except SessionError as error:
            if self._form is not None:
                await self._answer(error)
                if status >= 500:  # it has failed already, and goes on to raise what made it fail
                    return
            raise  # also into the application: what it meant to do after the response must not happen
        await self._send(self._revised(message, added))

    async def _end(self, message: Message) -> None:
        """Who has read the response to its end shall find in the storage what was changed."""
        await self._exchange.save_late()  # if it fails the end is never sent: the client sees that the response broke
        await self._send(message)

    def _revised(self, message: Message, added: Sequence[tuple[str, str]]) -> Message:
        exchange = self._exchange
        if added:
            self._told += added
        elif not exchange.touched:
            return message
        return {**message, "headers": exchange.revise(message.get("headers", ()), added)}

    async def _answer(self, error: SessionError | None) -> None:
        """Send the core's response: to an error of its own, or a last one that tells what is owed.

        In the stead of one that tells of other stores' sessions, it does so too: those are stored, the old IDs dead.
        """
        answer = self._exchange.farewell() if error is None else self._exchange.answer(error)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*answer.headers, *self._told)]
        self._started = self._replaced = True
        await self._send({"type": f"{self._form}.start", "status": answer.status, "headers": headers})
        await self._send({"type": f"{self._form}.body", "body": answer.body})

    # -- WebSockets only

    async def receive(self) -> Message:
        """Note that the client has left: applications learn it by an exception, which is no failure then."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.left = True
        return message

    async def send_websocket(self, message: Message) -> None:
        """Pass a message on; who sees the connection closed shall find in the storage what was changed."""
        # 1011 is the application's own word for a failure: RFC 6455, section 7.4.1.
        if message["type"] == "websocket.close" and self._started and message.get("code", 1000) != 1011:
            await self._exchange.save_late()
        try:
            await self.send(message)
        except OSError:  # how a server tells that the client has left; frameworks make errors of their own of it
            self.left = True
            raise

    async def _deny(self, message: Message) -> None:
        await self._exchange.deny()
        await self._send(message)


def _is_last(message: Message) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body", False)


def _behind(error: BaseException | None, kind: type[E] | tuple[type[E], ...]) -> E | None:
    """Return the error of this kind that an application met, where it may have made another one of it."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    return error


async def _nothing() -> None:
    """Stand for what the application sends after our answer."""
