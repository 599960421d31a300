"""Responses that aiohttp handlers prepare themselves: the session is stored in `prepare`, or the client hears of it."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from tests.adapters.browser import Browser, until
from tests.adapters.conftest import Visit
from tests.stores import SpyStorage

from sessioncore import SessionConfig, SessionStore, StorageUnavailable, from_cookie
from sessioncore_aiohttp import get_session, session_middleware, setup


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
    storage.fail("create")
    reply = browser.get("/")
    assert (reply.status, reply.body) == (503, b"Service Unavailable")
    assert {name.lower() for name, _ in reply.headers} == {
        "connection", "content-type", "content-length", "cache-control"
    }  # fmt: skip
    storage.restore()
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
    storage.fail("create")
    head, _, body = _everything(browser, f"{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert body == (b"" if method == "HEAD" else b"Service Unavailable")


@pytest.mark.parametrize("alone", [False, True])
def test_an_error_after_the_headers_have_left_ends_the_response(
    alone: bool, store: SessionStore, storage: SpyStorage, visit: Visit
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        session["n"] = 1
        if alone:  # else the signal does it
            await session.save()
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"abc")
        session["n"] = 2
        await session.save()
        return response

    app = web.Application(middlewares=[session_middleware(store)] if alone else [])
    if not alone:
        setup(app, store)
    app.router.add_get("/", stream)
    browser = visit(app)
    storage.fail("replace")
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


async def renew(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["n"] = session.get("n", 0) + 1
    await session.regenerate()
    await session.save()
    session["lost"] = True
    raise ValueError


@pytest.mark.parametrize("alone", [False, True], ids=["setup", "middleware alone"])
def test_an_id_that_was_stored_is_told_with_the_500(
    store: SessionStore, storage: SpyStorage, visit: Visit, alone: bool, caplog: pytest.LogCaptureFixture
) -> None:
    app = web.Application(middlewares=[session_middleware(store)] if alone else [])
    if not alone:
        setup(app, store)
    app.router.add_get("/renew", renew)
    app.router.add_get("/count", count)
    browser = visit(app)
    for _ in range(2):
        reply = browser.get("/renew")
        assert (reply.status, len(reply.set_cookies), reply.one("cache-control")) == (500, 1, "no-store")
    assert browser.get("/count").text == "3"
    assert len(storage.inner) == 1
    until(lambda: len([record for record in caplog.records if record.exc_info]) == 2)  # the server's log has it


def test_an_id_that_was_stored_is_told_whatever_stands_around(store: SessionStore, visit: Visit) -> None:
    @web.middleware
    async def page(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ValueError:
            return web.Response(status=500, text="sorry")

    app = web.Application(middlewares=[page])
    setup(app, store)
    app.router.add_get("/renew", renew)
    app.router.add_get("/count", count)
    browser = visit(app)
    reply = browser.get("/renew")
    assert (reply.status, reply.text, len(reply.set_cookies)) == (500, "sorry", 1)
    assert browser.get("/count").text == "2"


@pytest.mark.parametrize("hidden", [False, True])
def test_an_error_of_the_store_that_the_handler_hides_is_told(
    store: SessionStore, storage: SpyStorage, visit: Visit, hidden: bool
) -> None:
    async def revoke(request: web.Request) -> web.Response:
        try:
            await store.revoke_all("ada")
        except StorageUnavailable as error:
            if hidden:
                raise RuntimeError from error
            raise
        return web.Response()

    app = web.Application()
    setup(app, store)
    app.router.add_get("/", revoke)
    browser = visit(app)
    storage.fail("owned_keys")
    assert browser.get("/").status == 503


def test_a_response_in_place_of_one_that_is_prepared_tells_of_the_other_store(
    store: SessionStore, storage: SpyStorage, visit: Visit
) -> None:
    other = SessionStore(SessionConfig(extractor=from_cookie("__Host-other"), key_prefix="other:"))

    async def stream(request: web.Request) -> web.StreamResponse:
        for scope_key in ("other", "session"):
            session = await get_session(request, scope_key=scope_key)
            session["n"] = session.get("n", 0) + 1
        response = web.StreamResponse()
        await response.prepare(request)
        return response

    async def look(request: web.Request) -> web.Response:
        return web.json_response(dict(await get_session(request, scope_key="other")))

    app = web.Application()
    setup(app, other, scope_key="other")
    setup(app, store)
    app.router.add_get("/", stream)
    app.router.add_get("/look", look)
    browser = visit(app)
    storage.fail("create")
    assert browser.get("/").status == 503
    assert browser.get("/look").text == '{"n": 1}'
    assert set(browser.cookies) == {"__Host-other"}
