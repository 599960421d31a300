"""What a page of the scenario applications gets and returns; the applications translate both for their framework."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from sessioncore import Session

__all__ = ["Boom", "PageRequest", "PageResponse"]


class Boom(Exception):
    """A bug in the application."""


class PageRequest:
    """What an application shows a page of the request; Starlette and Litestar name these things alike."""

    def __init__(self, connection: Any, get_session: Callable[..., Awaitable[Session]]) -> None:
        self.connection = connection
        self._get_session = get_session

    async def session(self, scope_key: str = "session") -> Session:
        """The framework's own way to the session, of that store."""
        return await self._get_session(self.connection, scope_key=scope_key)

    def query(self, name: str) -> str | None:
        """A query parameter, read by the framework."""
        value: str | None = self.connection.query_params.get(name)
        return value

    async def body(self) -> bytes:
        """The body, read by the framework."""
        body: bytes = await self.connection.body()
        return body

    async def field(self, name: str) -> str | None:
        """A form field, read by the framework's own parser."""
        value = (await self.connection.form()).get(name)
        return value if isinstance(value, str) else None


class PageResponse(Struct):
    """What a page answers; the application turns it into the framework's own kind of response."""

    body: bytes = b""
    status: int = 200
    headers: list[tuple[str, str]] = []
    chunks: AsyncIterator[bytes] | None = None  # streamed, after the headers have been sent
    raised: bool = False  # by the framework's own exception, where it has one for this status
    file: Path | None = None  # by the framework's own file response
    background: Callable[[], Awaitable[None]] | None = None  # after the response has been sent
