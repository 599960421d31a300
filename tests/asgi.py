"""ASGI by hand: scopes and messages as a server would make them, and what an application sends."""

from collections.abc import Iterable, MutableMapping
from typing import Any

from msgspec import Struct, field

__all__ = ["Message", "Wire", "ask", "http_scope", "run_http", "socket_scope"]

Message = MutableMapping[str, Any]


class Wire(Struct, eq=False):
    """One connection: what comes in, and what went out."""

    incoming: list[Message]
    sent: list[Message] = field(default_factory=list[Message])
    breaks_at: int | None = None  # the client is gone after so many messages

    async def receive(self) -> Message:
        assert self.incoming, "the application waits for a message that does not come"
        return self.incoming.pop(0)

    async def send(self, message: Message) -> None:
        if self.breaks_at is not None and len(self.sent) >= self.breaks_at:
            raise OSError("the client has left")
        self.sent.append(message)

    @property
    def status(self) -> int:
        return int(self.start["status"])

    @property
    def start(self) -> Message:
        return next(message for message in self.sent if message["type"] == "http.response.start")

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent if message["type"] == "http.response.body")

    def all(self, name: str) -> list[str]:
        """The values of a header of the response."""
        return [value.decode() for key, value in self.start["headers"] if key == name.encode()]

    @property
    def sid(self) -> str | None:
        """The ID that the response sets, if it sets one; "" if it clears it."""
        lines = [line for line in self.all("set-cookie") if line.startswith("__Host-session_id=")]
        assert len(lines) <= 1
        return lines[0].partition("=")[2].partition(";")[0] if lines else None


def http_scope(path: str = "/", sid: str | None = None, **changes: Any) -> dict[str, Any]:
    """A request's scope; `sid` goes into the default cookie."""
    headers: list[tuple[bytes, bytes]] = [*changes.pop("headers", []), (b"host", b"shop.example")]
    if sid is not None:
        headers.append((b"cookie", f"__Host-session_id={sid}".encode()))
    scope: dict[str, Any] = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "GET",
        "scheme": "https", "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "headers": headers, "client": ("127.0.0.1", 1), "server": ("shop.example", 443), "extensions": {},
    }  # fmt: skip
    return scope | changes


def socket_scope(path: str = "/", sid: str | None = None, **changes: Any) -> dict[str, Any]:
    """A WebSocket's scope."""
    scope: dict[str, Any] = http_scope(path, sid, **changes) | {
        "type": "websocket",
        "scheme": "wss",
        "subprotocols": [],
    }
    del scope["method"]
    return scope


async def run_http(app: Any, scope: dict[str, Any], chunks: Iterable[bytes] = (b"",), **wire: Any) -> Wire:
    """Let `app` answer a request whose body comes in `chunks`."""
    parts = list(chunks)
    incoming: list[Message] = [
        {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]
    connection = Wire([*incoming, {"type": "http.disconnect"}], **wire)
    await app(scope, connection.receive, connection.send)
    return connection


async def ask(app: Any, path: str = "/", sid: str | None = None, **changes: Any) -> Wire:
    """Send a GET request."""
    return await run_http(app, http_scope(path, sid, **changes))
