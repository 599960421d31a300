"""One request and one store: the exchange, and what it has to say in the headers of the response."""

from collections.abc import Iterable

from aiohttp import web
from msgspec import Struct
from multidict import CIMultiDict

from sessioncore import Exchange
from sessioncore.integration import ErrorResponse

__all__ = ["RequestContext", "abort_with", "to_web_response"]


class RequestContext(Struct, eq=False):
    """What the middleware, the signal and `get_session` share."""

    scope_key: str
    exchange: Exchange
    added: list[tuple[str, str]] | None = None  # what the response has to say; None: nothing is committed yet
    headers_final: bool = False  # the response that goes out has them, or is not ours to change
    ended: bool = False  # the middleware is through

    def __repr__(self) -> str:
        return "<RequestContext>"  # the headers hold the ID

    async def commit(self, status: int | None) -> None:
        """Commit, once.

        Raises:
            SessionError: send the core's error response instead.
        """
        if self.added is None:
            self.added = await self.exchange.commit(status)

    async def write_headers(self, response: web.StreamResponse) -> None:
        """Commit, if that is still to be done, and write the headers into a response that is about to leave.

        Raises:
            SessionError: send the core's error response instead.
        """
        self.headers_final = True
        if self.added is None:
            await self.commit(response.status)
        if not self.added and not self.exchange.session.accessed:
            return
        headers = response.headers
        given = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers.items()]
        revised = self.exchange.revise(given, self.added or ())
        if revised[: len(given)] == given:  # as a rule, some are appended and that is all
            del revised[: len(given)]
        else:
            headers.clear()
        headers.extend([(name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in revised])

    async def commit_for_error(self) -> None:
        """Commit before the 500 that aiohttp, or a middleware around, makes of an error; often nothing is to be said.

        Raises:
            SessionError: this is what it failed by; send the core's error response instead.
        """
        await self.commit(500)
        self.headers_final = not self.added

    def end(self) -> None:
        """The middleware is through: a response that was not committed by now is none of ours."""
        self.ended = True
        if self.added is None:
            self.headers_final = True


def to_web_response(given: ErrorResponse, contexts: Iterable[RequestContext]) -> web.Response:
    """Return the core's response, in the stead of one that may have told of other stores' sessions: it does so too."""
    headers = CIMultiDict(given.headers)
    for context in contexts:
        if context.headers_final and context.added:
            headers.extend(context.added)
    return web.Response(status=given.status, headers=headers, body=given.body)


def abort_with(request: web.Request, response: web.Response) -> None:
    """Send a response in place of one that is being prepared, and close the connection.

    The request has one writer, and the other response has set it up for its own body
    (chunks, compression, length), so the bytes go past it.
    """
    if (transport := request.transport) is None:
        return
    lines = [f"HTTP/1.1 {response.status} {response.reason}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    head = "\r\n".join(lines) + "\r\n\r\n"
    body = b"" if request.method == "HEAD" or not isinstance(response.body, bytes) else response.body
    transport.write(head.encode("latin-1") + body)
    transport.close()
