"""The protocol by which an adapter shows a request to the core."""

from collections.abc import Sequence
from typing import Protocol

__all__ = ["RequestView"]


class RequestView(Protocol):
    """The parts of a request that the core reads; adapters implement this.

    A view may also have an attribute `handshake`, which tells whether the request opens a
    WebSocket; without it, the core looks at `scheme` and at the header Upgrade.
    """

    @property
    def method(self) -> str:
        """The request method, in capitals; `GET` for a WebSocket handshake."""
        ...

    @property
    def path(self) -> str:
        """The whole path, percent-decoded, with the prefix of a mounted application, without the query string."""
        ...

    @property
    def scheme(self) -> str:
        """`http`, `https`, `ws` or `wss`, as the server received the request; forwarded headers are not trusted."""
        ...

    def cookie_headers(self) -> Sequence[bytes]:
        """Return every Cookie header as raw bytes, in order."""
        ...

    def header(self, name: str) -> Sequence[str]:
        """Return the values of every header `name`, in order; names are compared without case."""
        ...

    def query(self, name: str) -> str | None:
        """Return the first query parameter `name`, decoded."""
        ...

    def path_param(self, name: str) -> str | None:
        """Return the path parameter `name` of the matched route."""
        ...

    async def form(self, name: str) -> str | None:
        """Return the field `name` of an urlencoded or multipart body; the handler must still be able to read it."""
        ...
