"""Implements `RequestView` for ASGI."""

from collections import deque
from collections.abc import Sequence
from urllib.parse import parse_qsl

from msgspec import Struct

from sessioncore.forms import MAX_FORM, form_field, is_form
from sessioncore.integration import Opaque, Warnings
from sessioncore_asgi._types import Message, Receive, Scope

__all__ = ["AsgiView"]

_warnings = Warnings()


class AsgiView(Opaque, Struct, eq=False):
    """Shows a scope to the core, as `RequestView`; only `form` reads the body, and the application can read it again.

    `method` and `handshake` are fields, because every request is asked for them, and a property is slow.
    """

    _scope: Scope
    _receive: Receive
    method: str
    handshake: bool = False
    _body: bytes | None = None  # the body, up to the limit of `form`; None: `form` has not read it
    _replay: deque[Message] | None = None  # messages yet to be received again; None: `form` has read nothing
    _body_prefix: bytearray | None = None  # the part of it that was received so far; None: nothing yet
    _body_complete: bool = False

    @property
    def path(self) -> str:
        return str(self._scope["path"])

    @property
    def scheme(self) -> str:
        return str(self._scope.get("scheme", "http"))

    def cookie_headers(self) -> Sequence[bytes]:
        found: list[bytes] | tuple[()] = ()
        for name, value in self._scope["headers"]:
            if name == b"cookie":
                if not found:
                    found = [value]
                else:
                    found.append(value)
        return found

    def header(self, name: str) -> Sequence[str]:
        """The values of a header; names are lower case in ASGI."""
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for key, value in self._scope["headers"] if key == wanted]

    def query(self, name: str) -> str | None:
        pairs = parse_qsl(self._scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        return next((value for key, value in pairs if key == name), None)

    def path_param(self, name: str) -> str | None:
        """A parameter of the matched route, if routing runs before the middleware."""
        params = self._scope.get("path_params")
        if params is None:
            _warnings.warn(
                f"from_param({name!r}) finds no session, because the middleware runs before routing: pass the route, "
                f"as in from_param({name!r}, path='/.../{{{name}}}')"
            )
            return None
        value = params.get(name)
        return None if value is None else str(value)

    async def form(self, name: str) -> str | None:
        content_type = self._content_type()
        if self._scope["type"] != "http" or not is_form(content_type):
            return None
        if self._body is None:
            self._body = await self._read()
        return form_field(content_type, self._body, name)

    @property
    def consumed(self) -> bool:
        """Whether the body was read, so that the application must use `receive` of this view."""
        return self._replay is not None

    async def receive(self) -> Message:
        """Return the messages that `form` has read, so that the application gets them, too; then the others."""
        if self._replay:
            return self._replay.popleft()
        message = await self._receive()
        if self._body is None and message["type"] == "http.request":
            # The headers are searched once: a client can send many of them, and many pieces.
            if self._body_prefix is not None or is_form(self._content_type()):
                self._collect(message)  # a session that is loaded later may call `form` after the application has read
            else:
                self._body = b""  # there is no field in it
        return message

    async def _read(self) -> bytes:
        """Read until the body ends or is larger than `MAX_FORM`; keep one message, however many the client makes."""
        self._replay = deque()
        start = len(self._body_prefix or b"")
        message: Message | None = None
        while not self._body_complete and len(self._body_prefix or b"") <= MAX_FORM:
            message = await self._receive()
            self._collect(message)
        body = bytes(self._body_prefix or b"")
        if message is not None:
            has_left = message["type"] == "http.disconnect"
            more_body = has_left or not self._body_complete
            self._replay.append({"type": "http.request", "body": body[start:], "more_body": more_body})
            if has_left:
                self._replay.append(message)
        return body

    def _collect(self, message: Message) -> None:
        if self._body_prefix is None:
            self._body_prefix = bytearray()
        if len(self._body_prefix) <= MAX_FORM:
            self._body_prefix += message.get("body", b"")
        self._body_complete = not message.get("more_body", False)

    def _content_type(self) -> str:
        return next(iter(self.header("content-type")), "")
