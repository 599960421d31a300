"""One handler in every installation that ASGI offers, and a client that speaks raw ASGI to it."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, TypeAlias

import anyio
from fastapi import FastAPI
from msgspec import Struct, field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sessioncore import SessionStore
from sessioncore_asgi import SessionMiddleware

__all__ = ["INSTALLS", "NAME", "Handler", "Reply", "call", "install"]

NAME: Final = "__Host-session_id"
INSTALLS: Final = ("bare", "starlette-around", "starlette-added", "fastapi-around", "fastapi-added")
Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


def install(how: str, store: SessionStore, handler: Handler, **options: Any) -> Any:
    """Return an application that gives every path to `handler`, with the middleware around it or added to it."""

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        response = await handler(Request(scope, receive, send))
        await response(scope, receive, send)

    app: Any = bare
    if how.startswith("starlette"):
        app = Starlette(routes=[Route("/{rest:path}", handler, methods=["GET", "POST"])])
    elif how.startswith("fastapi"):
        app = FastAPI()
        app.add_api_route("/{rest:path}", handler, methods=["GET", "POST"], response_model=None)
    if how.endswith("added"):
        app.add_middleware(SessionMiddleware, store=store, **options)
        return app
    return SessionMiddleware(app, store, **options)


class Reply(Struct):
    """What the server got to send."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    body: bytes = b""
    over: bool = False
    error: Exception | None = None  # what went on to the server

    @property
    def text(self) -> str:
        return self.body.decode()

    def all(self, name: str) -> list[str]:
        return [value.decode("latin-1") for key, value in self.headers if key.lower() == name.encode()]

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that it sets, without their attributes."""
        pairs = (line.partition(";")[0].partition("=") for line in self.all("set-cookie"))
        return {name: value for name, _, value in pairs}


async def call(
    app: Any,
    path: str = "/",
    *,
    sid: str | None = None,
    method: str = "GET",
    headers: Iterable[tuple[str, bytes | str]] = (),
    query: str = "",
    body: Sequence[bytes] = (b"",),
    sent: Callable[[bytes], Awaitable[None]] | None = None,
) -> Reply:
    """Send a request in ASGI messages by hand; `sent` is told of each piece of the response's body."""
    raw = [(b"host", b"example.com")]
    raw += [(key.encode(), value.encode() if isinstance(value, str) else value) for key, value in headers]
    raw += [(b"cookie", f"{NAME}={sid}".encode())] if sid is not None else []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": raw,
        "client": ("127.0.0.1", 1),
        "server": ("example.com", 443),
    }
    reply, finished = Reply(), anyio.Event()
    pieces = [{"type": "http.request", "body": part, "more_body": part is not body[-1]} for part in body]

    async def receive() -> Any:
        if pieces:
            return pieces.pop(0)
        await finished.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert reply.status == 0, "a second response"
            reply.status, reply.headers = message["status"], list(message.get("headers", ()))
            return
        assert reply.status != 0, "a body before its head"
        assert not reply.over, "more after the end"
        reply.body += message.get("body", b"")
        if not message.get("more_body", False):
            reply.over = True
            finished.set()
        if sent is not None:
            await sent(message.get("body", b""))

    with anyio.fail_after(10):
        try:
            await app(scope, receive, send)
        except Exception as exc:  # noqa: BLE001 - it is the server's to see
            reply.error = exc
    return reply
