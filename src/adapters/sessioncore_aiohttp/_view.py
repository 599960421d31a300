"""Implements `RequestView` for aiohttp."""

import warnings
from collections.abc import Sequence

from aiohttp import hdrs, web
from msgspec import Struct

from sessioncore.forms import MAX_FORM, form_field, is_form
from sessioncore.integration import Opaque, asks_for_websocket

__all__ = ["AiohttpView"]


class AiohttpView(Opaque, Struct, eq=False):
    """Shows a request to the core, as `RequestView`; only `form` reads the body, and the handler can read it again."""

    _request: web.Request
    _body: bytes | None = None  # the body, up to the limit of `form`; None: `form` has not read it

    @property
    def method(self) -> str:
        return self._request.method

    @property
    def path(self) -> str:
        return self._request.path

    @property
    def scheme(self) -> str:
        """The scheme of the connection; aiohttp ignores forwarded headers here."""
        return self._request.scheme

    @property
    def handshake(self) -> bool:
        headers = self._request.headers
        return hdrs.UPGRADE in headers and asks_for_websocket(headers.getall(hdrs.UPGRADE))

    def cookie_headers(self) -> Sequence[bytes]:
        return self._raw(hdrs.COOKIE)

    def header(self, name: str) -> Sequence[str]:
        return [value.decode("latin-1") for value in self._raw(name)]

    def _raw(self, name: str) -> list[bytes]:
        """Return the header values as the bytes that were received, undoing aiohttp's decoding."""
        return [value.encode("utf-8", "surrogateescape") for value in self._request.headers.getall(name, ())]

    def query(self, name: str) -> str | None:
        return self._request.query.get(name)

    def path_param(self, name: str) -> str | None:
        return self._request.match_info.get(name)

    async def form(self, name: str) -> str | None:
        """A field of a form body, which the handler can still read by any of aiohttp's methods."""
        content_type = self._request.headers.get("Content-Type", "")
        if not is_form(content_type):
            return None
        if self._body is None:
            self._body = await self._read()
        return form_field(content_type, self._body, name)

    async def _read(self) -> bytes:
        """Read until the body ends or is larger than `MAX_FORM`; then put it back into the stream."""
        content = self._request.content
        if content.at_eof():  # there is no body, or the handler has read it; `read` caches it
            return await self._request.read()
        parts: list[bytes] = []
        size = 0
        while size <= MAX_FORM and (part := await content.readany()):
            parts.append(part)
            size += len(part)
        body = b"".join(parts)
        with warnings.catch_warnings():
            # unread_data() is deprecated without a replacement. `read()` caches the body for `post()` and `text()`,
            # but not for `multipart()`, and it would reject an upload that the handler reads as a stream.
            warnings.simplefilter("ignore", DeprecationWarning)
            content.unread_data(body)
        return body
