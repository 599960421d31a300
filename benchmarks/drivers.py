"""Drives an application in this process, without sockets between it and the benchmark.

ASGI applications are called; aiohttp's own server protocol is fed bytes and
watched for its answer. `request` returns the reply; `burst` is for requests
that are timed, and ignores their replies.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from benchmarks.families import bare
from benchmarks.places import Place
from benchmarks.scopes import REQUEST_HEADERS, Headers, cookie_line, http_scope, kept_cookies

__all__ = ["Driver", "Reply", "bare_driver", "drive"]


@dataclass
class Reply:
    """One response."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    @property
    def cookie(self) -> bytes:
        """The Cookie header that a browser would send back."""
        return kept_cookies(self.headers)

    @property
    def header_bytes(self) -> int:
        return sum(len(name) + len(value) + 4 for name, value in self.headers)


class AsgiDriver:
    """Calls an ASGI application."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._to_app: asyncio.Queue[Any] = asyncio.Queue()
        self._lifespan: asyncio.Task[None] | None = None

    async def start(self) -> None:
        started = asyncio.Event()

        async def send(message: Any) -> None:
            assert not message["type"].endswith("failed"), message
            started.set()

        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        self._lifespan = asyncio.create_task(self._app(scope, self._to_app.get, send))
        await self._to_app.put({"type": "lifespan.startup"})
        waiter = asyncio.create_task(started.wait())
        await asyncio.wait([waiter, self._lifespan], return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()

    async def stop(self) -> None:
        if self._lifespan is not None:
            await self._to_app.put({"type": "lifespan.shutdown"})
            await self._lifespan

    async def request(self, path: str, cookie: bytes = b"") -> Reply:
        reply = Reply()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                reply.status, reply.headers = message["status"], [(bytes(n), bytes(v)) for n, v in message["headers"]]
            else:
                reply.body += message.get("body", b"")

        await self._app(http_scope(path, cookie), _no_body, send)
        return reply

    async def burst(self, path: str, cookies: list[bytes]) -> None:
        app = self._app
        for cookie in cookies:
            await app(http_scope(path, cookie), _no_body, _to_nobody)


async def _no_body() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _to_nobody(message: Any) -> None:
    pass


class AiohttpDriver:
    """Feeds aiohttp's server protocol and collects what it writes."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._wire: _Wire | None = None

    async def start(self) -> None:
        self._runner = web.AppRunner(self._app, access_log=None, keepalive_timeout=3600)
        await self._runner.setup()
        assert self._runner.server is not None
        self._server = self._runner.server
        self._wire = _Wire(self._server())

    async def stop(self) -> None:
        if self._wire is not None:
            self._wire.close()
        await self._runner.cleanup()

    async def request(self, path: str, cookie: bytes = b"") -> Reply:
        wire = _Wire(self._server())
        try:
            head, _, body = (await wire.ask(_request_bytes(path, cookie), whole=True)).partition(b"\r\n\r\n")
        finally:
            wire.close()
        lines = head.split(b"\r\n")
        pairs = [line.partition(b": ") for line in lines[1:]]
        return Reply(int(lines[0].split()[1]), [(name, value) for name, _, value in pairs], body)

    async def burst(self, path: str, cookies: list[bytes]) -> None:
        wire = self._wire if self._wire is not None and not self._wire.busy else _Wire(self._server())
        for cookie in cookies:
            await wire.ask(_request_bytes(path, cookie))


def _request_bytes(path: str, cookie: bytes) -> bytes:
    lines = b"".join(b"%b: %b\r\n" % pair for pair in REQUEST_HEADERS)
    return b"GET %b HTTP/1.1\r\n%b%b\r\n" % (path.encode(), lines, b"cookie: %b\r\n" % cookie if cookie else b"")


class _Wire(asyncio.Transport):
    """The other end of one kept-alive connection."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self._protocol = protocol
        self._data = b""
        self._whole = False
        self._waiter: asyncio.Future[bytes] | None = None
        self._closing = False
        protocol.connection_made(self)

    @property
    def busy(self) -> bool:
        return self._waiter is not None

    async def ask(self, request: bytes, *, whole: bool = False) -> bytes:
        self._data, self._whole = b"", whole
        self._waiter = asyncio.get_running_loop().create_future()
        self._protocol.data_received(request)
        try:
            return await self._waiter
        finally:
            self._waiter = None

    def write(self, data: Any) -> None:
        self._data += bytes(data)
        if self._waiter is None or self._waiter.done():
            return
        if not self._whole:
            if self._data.endswith(b"ok"):
                self._waiter.set_result(self._data)
            elif not self._data.startswith(b"HTTP/1.1 200"):
                self._waiter.set_exception(RuntimeError(f"not what was asked for: {self._data[:200]!r}"))
            return
        head, found, body = self._data.partition(b"\r\n\r\n")
        size = next((line[16:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")), b"0")
        if found and len(body) >= int(size):
            self._waiter.set_result(self._data)

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 50000) if name in {"peername", "sockname"} else default

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._protocol.connection_lost(None)

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_reading(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Driver:
    """One started application of one contender in one place, and its visitors."""

    def __init__(self, label: str, family: str, app: Any, place: Place) -> None:
        self.label = label
        self.family = family
        self.place = place
        self._inner = AiohttpDriver(app) if family == "aiohttp" else AsgiDriver(app)
        self.request = self._inner.request
        self.burst = self._inner.burst

    async def __aenter__(self) -> "Driver":
        await self._inner.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._inner.stop()
        for close in self.place.closers:
            await close()

    async def visitor(self, path: str = "/fill") -> bytes:
        """Return the Cookie header of a new visitor who went to `path`."""
        reply = await self.request(path)
        if reply.status != 200:
            raise RuntimeError(f"{self.label} answered {path} with {reply.status}: {reply.body[:200]!r}")
        return cookie_line(reply.cookie or b"sid=none")


def drive(contender: Any, place: Place) -> Driver:
    """Return a driver for a contender's application."""
    return Driver(contender.NAME, contender.FAMILY, contender.build(place), place)


def bare_driver(family: str) -> Driver:
    """Return a driver for the application without sessions."""
    return Driver("bare", family, bare(family), Place("none"))
