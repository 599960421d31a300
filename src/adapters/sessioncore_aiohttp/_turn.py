"""One request and one store: the exchange, made when it is first needed, and what it does to a response."""

import http.client
from collections.abc import Sequence

from aiohttp import hdrs, web
from msgspec import Struct
from multidict import CIMultiDict

from sessioncore import Exchange, OwnerLimitReached, SessionError, SessionStore, StorageError
from sessioncore_aiohttp._view import AiohttpView

__all__ = ["Turn", "answer", "cut_in"]


class Turn(Struct, eq=False):
    """What the middleware, the signal and `get_session` share; it knows no request, so that nothing cyclic remains."""

    store: SessionStore
    scope_key: str
    exchange: Exchange | None = None  # None: nobody has asked for the session
    added: Sequence[tuple[str, str]] | None = None  # committed: what the response has to say
    sealed: bool = False  # the response that goes out is not ours to change, or has been changed
    over: bool = False  # the middleware is through

    def __repr__(self) -> str:
        return "<Turn>"  # the headers hold the ID

    def begin(self, request: web.Request) -> Exchange:
        """Return the exchange."""
        if self.exchange is None:
            self.exchange = self.store.exchange(AiohttpView(request))
            if self.over:
                self.exchange.over()
        return self.exchange

    def behind(self, error: Exception) -> SessionError | None:
        """Return what to answer for: an error of the core, or what the storage refused and the handler has hidden."""
        if isinstance(error, SessionError):
            return error
        cause = error.__cause__
        while cause is not None and not isinstance(cause, (StorageError, OwnerLimitReached)):
            cause = cause.__cause__
        return cause if cause is not None or self.exchange is None else self.exchange.failure

    def revise(self, exchange: Exchange, headers: CIMultiDict[str]) -> None:
        """Give a response the headers of the session."""
        if not self.added:
            if not exchange.touched:
                return
            if hdrs.VARY not in headers and hdrs.SET_COOKIE not in headers:
                if vary := exchange.vary:
                    headers[hdrs.VARY] = vary  # no need to turn all headers into bytes and back
                return
        pairs = [(name.lower().encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers.items()]
        revised = exchange.revise(pairs, self.added or ())
        spelling: dict[str, str] = {}
        if revised[: len(pairs)] == pairs:  # as a rule, some are appended and that is all
            del revised[: len(pairs)]
        else:
            spelling = {name.lower(): name for name in headers}
            headers.clear()
        for name, value in revised:
            text = name.decode()
            headers.add(spelling.get(text, text), value.decode("utf-8", "surrogateescape"))


def answer(exchange: Exchange, error: SessionError | None) -> web.Response:
    """Build the response to send instead of the handler's; None: to an error that is not ours."""
    given = exchange.farewell() if error is None else exchange.answer(error)
    return web.Response(status=given.status, headers=CIMultiDict(given.headers), body=given.body)


def cut_in(request: web.Request, exchange: Exchange, error: SessionError) -> None:
    """Answer in place of a response that is being prepared, and close the connection.

    The request has one writer, and that response has set it up for its own body
    (chunks, compression, length), so the bytes go past it.
    """
    given = exchange.answer(error)
    if (transport := request.transport) is None:
        return
    lines = [f"HTTP/1.1 {given.status} {http.client.responses.get(given.status, '')}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in given.headers]
    head = "\r\n".join(lines) + "\r\n\r\n"
    transport.write(head.encode("latin-1") + (b"" if request.method == "HEAD" else given.body))
    transport.close()
