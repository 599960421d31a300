"""Real servers in a thread of their own: uvicorn, hypercorn and granian for ASGI; aiohttp's own for aiohttp.

The listening socket is bound to a free port before the thread starts, so a client
that connects early waits in the queue: one request waits for the start.
"""

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from contextvars import Context
from functools import partial
from typing import Any, Final, TypeVar

import anyio
import hypercorn.asyncio
import hypercorn.trio
import uvicorn
from aiohttp import web
from anyio.abc import TaskStatus
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypercorn.config import Config
from msgspec import Struct
from tests.adapters.browser import PATIENCE, Address, ask, compose, until
from wsproto.connection import ConnectionState

__all__ = ["SERVERS", "Serve", "Server", "serve", "serve_aiohttp", "serve_asgi"]

T = TypeVar("T")
_on_trio: Any = hypercorn.trio  # their types are incomplete
_on_asyncio: Any = hypercorn.asyncio
Serve = Callable[[Any, socket.socket, ssl.SSLContext | None, anyio.Event], Awaitable[None]]


class Server(Struct):
    """A running server."""

    address: Address
    portal: BlockingPortal
    trouble: list[str]  # exceptions in tasks and callbacks that nobody awaits

    def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Run `call` on the server's loop, where its storage lives, and return the result."""
        return self.portal.start_task_soon(call).result(PATIENCE)


class _Uvicorn(uvicorn.Server):
    """uvicorn that waits for an event to stop, instead of looking at a flag ten times a second."""

    def __init__(self, config: uvicorn.Config, over: anyio.Event) -> None:
        super().__init__(config)
        self._over = over

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._over.wait()
        for connection in self.server_state.connections:
            websocket: Any = getattr(connection, "conn", None)
            if getattr(websocket, "state", None) is ConnectionState.CLOSED:
                # Its client has closed it and not left yet. uvicorn would close it again, which wsproto refuses.
                vars(connection)["close_sent"] = True


async def serve_asgi(
    app: Any, sock: socket.socket, tls: ssl.SSLContext | None, over: anyio.Event, ws: Any = "wsproto"
) -> None:
    """Serve an ASGI application under uvicorn until `over`."""

    def certified(config: uvicorn.Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        return tls or default()

    config = uvicorn.Config(app, lifespan="on", log_config=None, ws=ws, timeout_graceful_shutdown=2)
    config.ssl_context_factory = certified if tls else None
    await _Uvicorn(config, over).serve(sockets=[sock])


async def serve_asgi_on_trio(
    app: Any, sock: socket.socket, tls: ssl.SSLContext | None, over: anyio.Event, run: Any = _on_trio.serve
) -> None:
    """Serve an ASGI application under hypercorn until `over`."""

    class Certified(Config):
        @property
        def ssl_enabled(self) -> bool:
            return tls is not None

        def create_ssl_context(self) -> ssl.SSLContext | None:
            return tls

    config = Certified()
    config.bind = [f"fd://{os.dup(sock.fileno())}"]  # hypercorn closes the descriptor that it is given
    config.errorlog, config.accesslog = logging.getLogger("hypercorn.error"), None
    config.graceful_timeout = 1
    await run(app, config, shutdown_trigger=over.wait)


async def serve_aiohttp(
    app: web.Application, sock: socket.socket, tls: ssl.SSLContext | None, over: anyio.Event
) -> None:
    """Serve an aiohttp application on aiohttp's own server until `over`."""
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=2)
    await runner.setup()
    try:
        await web.SockSite(runner, sock, ssl_context=tls).start()
        await over.wait()
    finally:
        await runner.cleanup()


async def serve_granian(app: Any, sock: socket.socket, tls: ssl.SSLContext | None, over: anyio.Event) -> None:
    """Serve an ASGI application under granian until `over`; granian binds a socket of its own."""
    from granian.constants import Interfaces  # noqa: PLC0415 - it has no wheel for every platform
    from granian.server.embed import Server as Granian  # noqa: PLC0415

    port = sock.getsockname()[1]
    sock.close()
    server: Any = Granian(app, port=port, interface=Interfaces.ASGI, log_enabled=False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve)
        await over.wait()
        server.stop()


SERVERS: Final[Mapping[str, Serve]] = {
    "asgi": serve_asgi,
    "asgi-on-trio": serve_asgi_on_trio,
    "asgi-on-hypercorn": partial(serve_asgi_on_trio, run=_on_asyncio.serve),
    "asgi-on-uvloop": partial(serve_asgi, ws="websockets-sansio"),
    "asgi-on-websockets": partial(serve_asgi, ws="websockets"),
    "asgi-on-granian": serve_granian,
    "aiohttp": serve_aiohttp,
    "litestar": serve_asgi,
}


def _answers(address: Address) -> bool:
    """Ask for a page; False if no server listens yet, or if granian has just closed the socket that it does not use."""
    with suppress(ConnectionError):
        ask(address, compose("GET", "/the-start-is-over"))
        return True
    return False


@contextmanager
def serve(run: Serve, app: Any, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None) -> Generator[Server]:
    """Run a server while the block lasts; `tls` is the server's context and the clients'."""
    # asyncio sets TCP_NODELAY only if the protocol is named; without it each small response waits 40 ms.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    sock.listen(512)
    trouble: list[str] = []
    backend = "trio" if run is serve_asgi_on_trio else "asyncio"
    options = {"use_uvloop": True} if run is SERVERS["asgi-on-uvloop"] else {}

    async def main(*, task_status: TaskStatus[anyio.Event]) -> None:
        if backend == "asyncio":
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context: trouble.append(f"{context['message']}: {context.get('exception')!r}")
            )
        over = anyio.Event()
        task_status.started(over)
        if backend == "asyncio":  # without what `anyio.run` puts into the context, because servers do not call it
            await asyncio.create_task(run_server(over), context=Context())
        else:
            await run_server(over)

    async def run_server(over: anyio.Event) -> None:
        await run(app, sock, tls[0] if tls else None, over)

    address = Address(sock.getsockname()[1], tls[1] if tls else None, [])
    with sock, start_blocking_portal(backend, backend_options=options) as portal:
        serving, over = portal.start_task(main)
        serving.add_done_callback(lambda _: sock.close())  # if the start failed, nobody waits for an answer
        try:
            # The start checks the storage, which a test may break afterwards.
            until(lambda: serving.done() or _answers(address))
            yield Server(address, portal, trouble)
        finally:
            address.hang_up()
            portal.call(over.set)
            serving.result(PATIENCE)
    assert not trouble, f"nobody handled these exceptions: {trouble}"
