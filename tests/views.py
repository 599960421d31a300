"""The smallest possible request: a real RequestView that needs no framework."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct
from rich.pretty import pretty_repr

from sessioncore import Exchange, Session, SessionError, SessionStore
from sessioncore._error_responses import ErrorResponse

__all__ = ["PlainView", "Visitor", "as_shown", "logged_in", "obtain", "response_to"]


class PlainView(Struct):
    """Shows what it was given."""

    cookies: list[bytes] = []
    headers: list[tuple[str, str]] = []
    queries: dict[str, str] = {}
    params: dict[str, str] = {}
    fields: dict[str, str] = {}
    method: str = "GET"
    path: str = "/"
    scheme: str = "https"

    def cookie_headers(self) -> Sequence[bytes]:
        return self.cookies

    def header(self, name: str) -> Sequence[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def query(self, name: str) -> str | None:
        return self.queries.get(name)

    def path_param(self, name: str) -> str | None:
        return self.params.get(name)

    async def form(self, name: str) -> str | None:
        return self.fields.get(name)


async def obtain(exchange: Exchange) -> Session:
    """Load the session as `get_session` of an adapter does."""
    await exchange.load(required=True)
    return exchange.session


def as_shown(value: object) -> str:
    """How a traceback in a log may show a variable: by its repr, and by rich."""
    return repr(value) + pretty_repr(value)


def response_to(exchange: Exchange, error: BaseException) -> ErrorResponse:
    """The response to an error that must have one."""
    response = exchange.error_response(error)
    assert response is not None
    return response


class Visitor:
    """A client with a cookie jar for one cookie; it keeps the headers of the last response."""

    def __init__(self, store: SessionStore, name: str = "__Host-session_id", *, sid: str | None = None) -> None:
        self.store = store
        self.name = name
        self.sid = sid
        self.headers: list[tuple[str, str]] = []

    @asynccontextmanager
    async def request(self, status: int = 200) -> AsyncGenerator[Session]:
        """One request: its session for the block, and its response at the end; an exception leaves it unanswered."""
        exchange = await self.arrive()
        try:
            yield exchange.session
        except BaseException:
            await exchange.finish(failed=True)
            raise
        await self.leave(exchange, status)

    async def arrive(self, sid: str | None = None) -> Exchange:
        """Begin a request that carries this visitor's cookie."""
        sid = sid or self.sid
        exchange = self.store.exchange(PlainView([f"{self.name}={sid}".encode()] if sid else []))
        await exchange.load()
        return exchange

    async def leave(self, exchange: Exchange, status: int = 200) -> list[tuple[str, str]]:
        """End a request, and obey its Set-Cookie."""
        try:
            self.headers = await exchange.commit(status)
        except SessionError as error:
            self.headers = response_to(exchange, error).headers
            raise
        finally:
            await exchange.finish()
            for name, value in self.headers:
                if name == "set-cookie":
                    self.sid = value.split(";")[0].removeprefix(f"{self.name}=") or None
        return self.headers


async def logged_in(store: SessionStore, owner: str = "ada", sid: str | None = None, **details: Any) -> Visitor:
    """A visitor who has just logged in."""
    visitor = Visitor(store, sid=sid)
    async with visitor.request() as session:
        await session.login(owner, **details)
    return visitor
