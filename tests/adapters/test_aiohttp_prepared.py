"""Responses that aiohttp handlers prepare themselves: the session is stored in `prepare`, or the client hears of it."""

import asyncio

import pytest
from aiohttp import web
from tests.adapters.browser import Browser, until
from tests.adapters.conftest import Visit
from tests.stores import SpyStorage

from sessioncore import SessionStore
from sessioncore_aiohttp import get_session, setup


async def count(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["n"] = session.get("n", 0) + 1
    return web.Response(text=str(session["n"]))


def test_a_response_prepared_by_hand_carries_the_cookie(store: SessionStore, visit: Visit) -> None:
    async def by_hand(request: web.Request) -> web.Response:
        response = await count(request)
        await response.prepare(request)
        await response.write_eof()
        return response

    app = web.Application()
    setup(app, store)
    app.router.add_get("/", by_hand)
    browser = visit(app)
    assert [browser.get("/").text for _ in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize("shape", ["plain", "length", "compressed", "chunked", "swallowed"])
def test_a_commit_that_fails_while_a_response_is_prepared_is_a_clean_503(
    store: SessionStore, storage: SpyStorage, visit: Visit, shape: str
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        await count(request)
        response = web.StreamResponse(headers={"X-Secret": "of a page that was never sent"})
        if shape == "length":
            response.content_length = 3
        if shape == "compressed":
            response.enable_compression(web.ContentCoding.gzip)
        if shape == "chunked":
            response.enable_chunked_encoding()
        if shape == "swallowed":
            try:
                await response.prepare(request)
            except Exception:  # noqa: BLE001 - what applications do
                return web.Response(text="all is well")
        await response.prepare(request)
        await response.write(b"abc")
        return response

    app = web.Application()
    setup(app, store)
    app.router.add_get("/", stream)
    app.router.add_get("/count", count)
    browser = visit(app)
    storage.down.add("create")
    reply = browser.get("/")
    assert (reply.status, reply.body) == (503, b"Service Unavailable")
    assert {name.lower() for name, _ in reply.headers} == {
        "connection", "content-type", "content-length", "cache-control"
    }  # fmt: skip
    storage.down.clear()
    assert browser.get("/count").text == "1"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_answer_to_a_failed_commit_is_the_only_response(
    store: SessionStore, storage: SpyStorage, visit: Visit, method: str
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        await count(request)
        response = web.StreamResponse()
        await response.prepare(request)
        return response

    app = web.Application()
    setup(app, store)
    app.router.add_route("*", "/", stream)
    browser = visit(app)
    storage.down.add("create")
    head, _, body = _everything(browser, f"{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert body == (b"" if method == "HEAD" else b"Service Unavailable")


def test_an_error_after_the_headers_have_left_ends_the_response(
    store: SessionStore, storage: SpyStorage, visit: Visit
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        session["n"] = 1
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"abc")
        session["n"] = 2
        await session.save()
        return response

    app = web.Application()
    setup(app, store)
    app.router.add_get("/", stream)
    browser = visit(app)
    storage.down.add("replace")
    received = _everything(browser, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"3\r\nabc\r\n")  # cut off, and nothing behind it


def _everything(browser: Browser, request: str) -> bytes:
    """Return all that the server sends until it closes the connection."""
    with browser.address.connect() as sock:
        sock.sendall(request.encode())
        received = b""
        while part := sock.recv(65536):
            received += part
    return received


def test_what_a_stream_wrote_is_stored_when_its_client_leaves(
    store: SessionStore, storage: SpyStorage, visit: Visit
) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            session["n"] = session["n"] + 1
            await response.write(b"x" * 100_000)
            await asyncio.sleep(0)  # a write that need not wait lets nobody else run

    app = web.Application()
    setup(app, store)
    app.router.add_get("/", endless)
    app.router.add_get("/count", count)
    browser = visit(app)
    browser.get("/count")
    cookie = browser.cookie_header()
    with browser.address.connect() as sock:
        sock.sendall(f"GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n".encode())
        assert sock.recv(1000)
    until(lambda: "replace" in storage.calls)
    assert int(browser.get("/count").text) > 2


def test_the_500_of_the_server_says_nothing_of_the_session(store: SessionStore, visit: Visit) -> None:
    async def fail(request: web.Request) -> web.Response:
        await count(request)
        raise ValueError

    app = web.Application()
    setup(app, store)
    app.router.add_get("/", fail)
    reply = visit(app).get("/")
    assert (reply.status, reply.one("vary"), reply.set_cookies) == (500, None, [])
