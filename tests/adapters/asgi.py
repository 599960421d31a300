"""ASGI by hand: scopes and messages as a server would make them, and what an application sends."""

import contextlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

import pytest
from msgspec import Struct, field
from tests.stores import SpyStorage

from sessioncore import Session, SessionConfig, SessionStore
from sessioncore_asgi import SessionMiddleware, get_session

__all__ = [
    "ACCEPT", "BODY", "CONNECT", "LEAVE", "START", "AsgiSite", "Channel", "Message", "Wire", "ask", "http_scope", "run",
    "socket_scope",
]  # fmt: skip

Message = MutableMapping[str, Any]
START: Final[Message] = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
BODY: Final[Message] = {"type": "http.response.body", "body": b"ok"}
CONNECT: Final[Message] = {"type": "websocket.connect"}
ACCEPT: Final[Message] = {"type": "websocket.accept"}
LEAVE: Final[Message] = {"type": "websocket.disconnect", "code": 1001}


class Wire(Struct, eq=False):
    """One connection: what comes in, and what went out."""

    incoming: list[Message]
    sent: list[Message] = field(default_factory=list[Message])
    breaks_at: int | None = None  # the number of messages after which the client is gone

    async def receive(self) -> Message:
        assert self.incoming, "the application waits for a message that does not come"
        return self.incoming.pop(0)

    async def send(self, message: Message) -> None:
        if self.breaks_at is not None and len(self.sent) >= self.breaks_at:
            raise OSError("the client has left")
        self.sent.append(message)

    @property
    def kinds(self) -> list[str]:
        return [str(message["type"]) for message in self.sent]

    @property
    def start(self) -> Message:
        """The message with the headers."""
        return next(message for message in self.sent if "headers" in message and message.get("status", 200) >= 200)

    @property
    def status(self) -> int:
        return int(self.start["status"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

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
    scope = http_scope(path, sid, **changes)
    scope.update(type="websocket", scheme="wss", subprotocols=[])
    del scope["method"]
    return scope


async def run(
    app: Any,
    scope: dict[str, Any],
    *incoming: Message,
    raises: type[Exception] | None = None,
    breaks_at: int | None = None,
) -> Wire:
    """Serve one connection; `raises` is the exception that goes on to the server."""
    wire = Wire([*incoming], breaks_at=breaks_at)
    with pytest.raises(raises) if raises is not None else contextlib.nullcontext():
        await app(scope, wire.receive, wire.send)
    return wire


async def ask(
    app: Any, path: str = "/", sid: str | None = None, *, raises: type[Exception] | None = None, **scope: Any
) -> Wire:
    """Send a request; with `chunks`, it has a body."""
    chunks: Iterable[bytes] = scope.pop("chunks", [b""])
    body = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    body[-1]["more_body"] = False
    return await run(app, http_scope(path, sid, **scope), *body, {"type": "http.disconnect"}, raises=raises)


class Channel:
    """The connection as a handler has it."""

    def __init__(self, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]) -> None:
        self.receive = receive
        self._send = send

    async def send(self, *messages: Message) -> None:
        for message in messages:
            await self._send(message)


class AsgiSite:
    """An ASGI application behind the middleware, with the store and the storage that it uses."""

    def __init__(
        self, handler: Callable[[Session, Channel], Awaitable[None]], *, lazy: bool = False, **config: Any
    ) -> None:
        self.storage = SpyStorage()
        self.store = SessionStore(SessionConfig(storage=self.storage, **config))

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            session = await get_session(scope) if lazy else scope["session"]
            await handler(session, Channel(receive, send))

        self.app = SessionMiddleware(serve, self.store, lazy=lazy)

    async def ask(self, sid: str | None = None, **scope: Any) -> Wire:
        return await ask(self.app, sid=sid, **scope)

    async def connect(
        self,
        sid: str | None = None,
        *incoming: Message,
        raises: type[Exception] | None = None,
        breaks_at: int | None = None,
    ) -> Wire:
        messages = incoming or (CONNECT,)
        return await run(self.app, socket_scope(sid=sid), *messages, raises=raises, breaks_at=breaks_at)

    async def make(self, **data: Any) -> str:
        session = await self.store.create(data)
        self.storage.calls.clear()
        return session.id

    async def data(self, sid: str | None) -> dict[str, Any]:
        assert sid is not None
        return dict(await self.store.get_by_id(sid))
