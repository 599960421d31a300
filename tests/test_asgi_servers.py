"""The ASGI adapter under real servers: uvicorn on asyncio, hypercorn on trio."""

import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import hypercorn.trio
import pytest
import uvicorn
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from tests.stores import SpyStorage

from sessioncore import SessionConfig, SessionStore
from sessioncore_asgi import SessionMiddleware, get_session

pytestmark = pytest.mark.anyio


async def count(request: Request) -> Response:
    session = await get_session(request)
    session["n"] = session.get("n", 0) + 1
    return PlainTextResponse(str(session["n"]))


async def peek(request: Request) -> Response:
    return PlainTextResponse("nothing to see")


async def events(request: Request) -> Response:
    session = await get_session(request)

    async def stream() -> AsyncIterator[str]:
        for number in range(3):
            session["event"] = number
            await session.save()
            yield f"data: {number}\n\n"
        session["done"] = True

    session["begun"] = True
    return StreamingResponse(stream(), media_type="text/event-stream")


class _Endless(Response):
    """Sends until the client leaves; without a generator, which trio wants closed by hand."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        scope["session"]["streaming"] = True
        await scope["session"].save()

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(listen)
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
                await anyio.sleep(0.001)


async def endless(request: Request) -> Response:
    await get_session(request)
    return _Endless(headers={"content-length": "1000000000"})


async def later(request: Request) -> Response:
    session = await get_session(request)

    async def task() -> None:
        session["later"] = True

    session["n"] = 1
    return PlainTextResponse("ok", background=BackgroundTask(task))


async def login(request: Request) -> Response:
    await (await get_session(request)).login("ada")
    return PlainTextResponse("welcome")


async def put(request: Request) -> Response:
    session = await get_session(request)
    session[request.query_params["key"]] = 1
    session.mutate("puts", lambda puts: puts + 1, 0)
    return PlainTextResponse("ok")


async def boom(request: Request) -> Response:
    session = await get_session(request)
    session["n"] = 99
    raise ZeroDivisionError


async def show(request: Request) -> Response:
    return PlainTextResponse(repr(sorted((await get_session(request)).items())))


HANDLERS: list[Callable[[Request], Awaitable[Response]]] = [
    count, peek, events, endless, later, login, put, boom, show
]  # fmt: skip


async def renew(scope: Any) -> None:
    """Fail with no framework around that would answer."""
    session = await get_session(scope)
    await session.regenerate()
    await session.save()
    raise ZeroDivisionError


async def _uvicorn(app: Any, sock: socket.socket, started: anyio.Event, over: anyio.Event) -> None:
    class Server(uvicorn.Server):
        async def main_loop(self) -> None:
            started.set()
            await over.wait()

    config = uvicorn.Config(app, lifespan="on", log_config=None, timeout_graceful_shutdown=1, ws="none")
    await Server(config).serve(sockets=[sock])


async def _hypercorn(app: Any, sock: socket.socket, started: anyio.Event, over: anyio.Event) -> None:
    async def trigger() -> None:
        started.set()
        await over.wait()

    config = Config()
    config.bind = [f"fd://{os.dup(sock.fileno())}"]  # hypercorn closes what it is given
    config.errorlog = config.accesslog = None
    config.graceful_timeout = 1
    await hypercorn.trio.serve(app, config, shutdown_trigger=trigger)  # pyright: ignore[reportUnknownMemberType]


class Site:
    """A running server, and clients of it."""

    def __init__(self, port: int, store: SessionStore, storage: SpyStorage) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.store = store
        self.storage = storage

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=10)


@asynccontextmanager
async def serving(anyio_backend: str) -> AsyncGenerator[Site]:
    storage = SpyStorage()
    store = SessionStore(SessionConfig.development(storage=storage))
    pages = Starlette(routes=[Route(f"/{handler.__name__}", handler) for handler in HANDLERS])

    async def serve_pages(scope: Any, receive: Any, send: Any) -> None:
        await (renew(scope) if scope.get("path") == "/renew" else pages(scope, receive, send))

    app = SessionMiddleware(serve_pages, store)
    sock = socket.create_server(("127.0.0.1", 0))
    started, over = anyio.Event(), anyio.Event()
    serve = _uvicorn if anyio_backend == "asyncio" else _hypercorn
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(serve, app, sock, started, over)
            with anyio.fail_after(10):
                await started.wait()
            yield Site(sock.getsockname()[1], store, storage)
            over.set()
    finally:
        sock.close()
    assert storage.calls[0] == "open"
    assert storage.calls[-1] == "aclose"


@pytest.fixture
async def site(anyio_backend: str) -> AsyncIterator[Site]:
    async with serving(anyio_backend) as running:
        yield running


async def test_a_session_lives_over_requests_and_connections(site: Site) -> None:
    async with site.client() as client:
        assert [(await client.get("/count")).text for _ in range(3)] == ["1", "2", "3"]
        first = client.cookies["session_id"]
        assert (await client.get("/login")).text == "welcome"
        assert client.cookies["session_id"] != first
        assert (await client.get("/count")).text == "4"
    async with site.client() as stranger:
        assert (await stranger.get("/count", headers={"cookie": f"session_id={first}"})).text == "1"


async def test_an_untouched_response_bears_no_mark(site: Site) -> None:
    async with site.client() as client:
        response = await client.get("/peek")
    assert not {"set-cookie", "vary", "cache-control"} & set(response.headers)
    assert "load" not in site.storage.calls


async def test_events_are_stored_as_they_are_sent(site: Site) -> None:
    async with site.client() as client:
        async with client.stream("GET", "/events") as response:
            assert "session_id" in response.cookies
            text = "".join([part async for part in response.aiter_text()])
        assert text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
        assert (await client.get("/show")).text == "[('begun', True), ('done', True), ('event', 2)]"


async def test_a_client_that_leaves_an_endless_stream_does_no_harm(site: Site) -> None:
    async with site.client() as client:
        await client.get("/count")
        async with await anyio.connect_tcp("127.0.0.1", int(site.url.rpartition(":")[2])) as connection:
            cookie = f"session_id={client.cookies['session_id']}"
            await connection.send(f"GET /endless HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode())
            received = 0
            while received < 10_000:
                received += len(await connection.receive())
        assert (await client.get("/show")).text == "[('n', 1), ('streaming', True)]"
        assert (await client.get("/count")).text == "2"


async def test_a_background_task_is_stored(site: Site) -> None:
    async with site.client() as client:
        await client.get("/later")
        with anyio.fail_after(5):
            while "later" not in (await client.get("/show")).text:
                await anyio.lowlevel.checkpoint()


async def test_an_application_that_fails_changes_nothing(site: Site) -> None:
    async with site.client() as client:
        await client.get("/count")
        assert (await client.get("/boom")).status_code == 500
        assert (await client.get("/show")).text == "[('n', 1)]"


async def test_an_id_that_was_stored_before_the_failure_reaches_the_client(site: Site) -> None:
    async with site.client() as client:
        await client.get("/count")
        for _ in range(2):
            before = client.cookies["session_id"]
            response = await client.get("/renew")
            assert (response.status_code, response.text) == (500, "Internal Server Error")
            assert client.cookies["session_id"] != before
        assert (await client.get("/count")).text == "2"
        assert len(site.storage.inner) == 1


async def test_a_storage_that_is_down_is_503_and_the_cookie_stays(site: Site) -> None:
    async with site.client() as client:
        await client.get("/count")
        kept = client.cookies["session_id"]
        site.storage.fail("load")
        response = await client.get("/count")
        assert (response.status_code, response.text) == (503, "Service Unavailable")
        assert (await client.get("/peek")).status_code == 200
        site.storage.restore()
        assert client.cookies["session_id"] == kept
        assert (await client.get("/count")).text == "2"


async def test_parallel_requests_on_one_session_lose_nothing(site: Site) -> None:
    async with site.client() as client:
        await client.get("/count")

        async def one(number: int) -> None:
            assert (await client.get(f"/put?key=k{number:02}")).status_code == 200

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(one, number)
        kept = (await client.get("/show")).text
        assert all(f"('k{number:02}', 1)" in kept for number in range(50))
        assert "('puts', 50)" in kept
