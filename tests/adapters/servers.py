"""Real servers in a thread of their own: uvicorn for ASGI applications, aiohttp's own for aiohttp.

The listening socket is bound to a free port before the thread starts, so a client
that connects early waits in the queue; nothing has to be polled.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import uvicorn
from aiohttp import web
from msgspec import Struct
from tests.adapters.browser import PATIENCE, Address
from wsproto.connection import ConnectionState

__all__ = ["SERVERS", "Serve", "Server", "Stop", "serve"]

T = TypeVar("T")
Stop = asyncio.Event
Serve = Callable[[Any, socket.socket, ssl.SSLContext | None, Stop], Coroutine[Any, Any, None]]


class Server(Struct):
    """A running server."""

    address: Address
    loop: asyncio.AbstractEventLoop
    trouble: list[str]  # what nobody else would hear of: exceptions in tasks and callbacks

    def run(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `call` on the server's loop, where its storage lives, and return the result."""
        return asyncio.run_coroutine_threadsafe(call(), self.loop).result(PATIENCE)


class _Uvicorn(uvicorn.Server):
    """uvicorn that stops when it is told to, instead of looking ten times a second."""

    def __init__(self, config: uvicorn.Config, over: Stop) -> None:
        super().__init__(config)
        self._over = over

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._over.wait()
        for connection in self.server_state.connections:
            websocket: Any = getattr(connection, "conn", None)
            if getattr(websocket, "state", None) is ConnectionState.CLOSED:
                # Its client has said goodbye and is not gone yet. uvicorn would say it again, which wsproto refuses.
                vars(connection)["close_sent"] = True


async def serve_asgi(app: Any, sock: socket.socket, tls: ssl.SSLContext | None, over: Stop) -> None:
    """Serve an ASGI application under uvicorn until `over`."""

    def certified(config: uvicorn.Config, default: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        return tls or default()

    config = uvicorn.Config(app, lifespan="on", log_config=None, ws="wsproto", timeout_graceful_shutdown=2)
    config.ssl_context_factory = certified if tls else None
    await _Uvicorn(config, over).serve(sockets=[sock])


async def serve_aiohttp(app: web.Application, sock: socket.socket, tls: ssl.SSLContext | None, over: Stop) -> None:
    """Serve an aiohttp application on aiohttp's own server until `over`."""
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=2)
    await runner.setup()
    try:
        await web.SockSite(runner, sock, ssl_context=tls).start()
        await over.wait()
    finally:
        await runner.cleanup()


SERVERS: Final[Mapping[str, Serve]] = {"asgi": serve_asgi, "aiohttp": serve_aiohttp, "litestar": serve_asgi}


@contextmanager
def serve(run: Serve, app: Any, tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None) -> Generator[Server]:
    """Run a server while the block lasts; `tls` is the server's context and the clients'."""
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each small response waits 40 ms.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    sock.listen(512)
    address = Address(sock.getsockname()[1], tls[1] if tls else None)
    began = threading.Event()
    trouble: list[str] = []
    failures: list[BaseException] = []
    running: list[tuple[asyncio.AbstractEventLoop, Stop]] = []

    async def main() -> None:
        loop, over = asyncio.get_running_loop(), Stop()
        loop.set_exception_handler(
            lambda _, context: trouble.append(f"{context['message']}: {context.get('exception')!r}")
        )
        running.append((loop, over))
        began.set()
        await run(app, sock, tls[0] if tls else None, over)

    def work() -> None:
        try:
            asyncio.run(main())
        except BaseException as exc:  # noqa: BLE001 - shown by the thread that waits
            failures.append(exc)
        finally:
            sock.close()
            began.set()

    thread = threading.Thread(target=work, name="server", daemon=True)  # one that hangs fails its test, no more
    thread.start()
    began.wait(PATIENCE)
    loop, over = running[0]
    try:
        yield Server(address, loop, trouble)
    finally:
        if thread.is_alive() and not loop.is_closed():
            loop.call_soon_threadsafe(over.set)
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server does not stop"
    assert not failures, f"the server failed: {failures[0]!r}"
    assert not trouble, f"the server met what nobody handles: {trouble}"
