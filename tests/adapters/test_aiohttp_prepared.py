"""Responses that aiohttp handlers prepare: the session is stored first, or the client gets an error."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from tests.adapters.aiohttp_kit import application, count, proxied, route, with_middleware_alone
from tests.adapters.browser import Browser, compose, until
from tests.adapters.conftest import Visit
from tests.stores import SpyStorage

from sessioncore import SessionConfig, SessionError, SessionStore, StorageUnavailable, from_cookie
from sessioncore_aiohttp import get_session, setup


@pytest.mark.proves("P3", "AT-107")
def test_a_commit_that_fails_while_a_response_is_prepared_is_a_clean_503(
    store: SessionStore, storage: SpyStorage, visit: Visit, caplog: pytest.LogCaptureFixture
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        await count(request)
        response = web.StreamResponse(headers={"X-Secret": "of a page that was never sent"})
        match request.query["shape"]:
            case "length":
                response.content_length = 3
            case "compressed":
                response.enable_compression(web.ContentCoding.gzip)
            case "chunked":
                response.enable_chunked_encoding()
            case "swallowed":
                try:
                    await response.prepare(request)
                except Exception:  # noqa: BLE001 - what applications do
                    return web.Response(text="all is well")
            case _:
                pass
        await response.prepare(request)
        await response.write(b"abc")
        return response

    browser = visit(application(store, stream, count))
    storage.fail("create")
    for shape in ("plain", "length", "compressed", "chunked", "swallowed"):
        for method, body in (("GET", b"Service Unavailable"), ("HEAD", b"")):
            head, _, rest = _everything(browser, method, f"/stream?shape={shape}").partition(b"\r\n\r\n")
            status, *lines = head.decode().split("\r\n")
            assert (status, rest) == ("HTTP/1.1 503 Service Unavailable", body), shape
            assert {line.partition(":")[0].lower() for line in lines} == {
                "connection", "content-type", "content-length", "cache-control", "retry-after"
            }, shape  # fmt: skip
    assert [record.name for record in caplog.records if record.exc_info] == ["sessioncore"]  # once for the outage
    storage.restore()
    assert browser.get("/count").text == "1"


@pytest.mark.parametrize("alone", [False, True], ids=["setup", "middleware alone"])
def test_an_error_after_the_headers_have_left_ends_the_response(
    alone: bool, store: SessionStore, storage: SpyStorage, visit: Visit
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        session["n"] = 1
        if alone:  # with `setup` the signal does it
            await session.save()
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"abc")
        session["n"] = 2
        await session.save()
        return response

    browser = visit(with_middleware_alone(store, stream) if alone else application(store, stream))
    storage.fail("replace")
    received = _everything(browser, "GET", "/stream")
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"3\r\nabc\r\n")  # cut off after this chunk


def _everything(browser: Browser, method: str, path: str) -> bytes:
    """Return all that the server sends until it closes the connection."""
    with browser.address.connect() as sock:
        sock.sendall(compose(method, path))
        return b"".join(iter(lambda: sock.recv(65536), b""))


@pytest.mark.proves("P7")
@pytest.mark.parametrize("first", [False, True], ids=["after setup", "before setup"])
def test_an_error_of_another_signal_handler_is_answered_like_one_of_a_handler(
    first: bool, store: SessionStore, storage: SpyStorage, visit: Visit, caplog: pytest.LogCaptureFixture
) -> None:
    async def show_visits(request: web.Request, response: web.StreamResponse) -> None:
        if "down" in request.query:
            raise StorageUnavailable
        if "broken" in request.query:
            raise LookupError
        if not isinstance(request.match_info.http_exception, web.HTTPNotFound):  # `serve` asks for a missing page
            response.headers["X-Visits"] = str((await get_session(request)).get("n"))

    async def streamed(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        return response

    async def raised(request: web.Request) -> web.Response:
        with suppress(SessionError):
            await get_session(request)
        raise web.HTTPNotFound

    async def returned(request: web.Request) -> web.Response:
        with suppress(SessionError):
            await get_session(request)
        return web.Response(text="all is well")

    app = web.Application()
    if first:
        app.on_response_prepare.append(show_visits)
    setup(app, store)
    if not first:
        app.on_response_prepare.append(show_visits)
    browser = visit(route(app, count, streamed, raised, returned))
    for query, status in (("broken", 500), ("down", 503)):  # the session is stored already, so the client needs its ID
        reply = browser.another().get(f"/count?{query}")
        assert (reply.status, len(reply.set_cookies)) == (status, 1)
    browser.get("/count")
    storage.fail("load")
    for path in ("/count", "/streamed", "/raised", "/returned"):
        reply = browser.get(path)
        assert (reply.status, reply.one("retry-after"), reply.set_cookies) == (503, "1", []), path
    storage.restore()
    assert browser.get("/returned").one("x-visits") == "1"
    names = ["aiohttp.server", "sessioncore"]  # what is broken, and once for the outage
    until(lambda: [record.name for record in caplog.records if record.exc_info] == names)


def test_the_error_names_a_response_that_is_returned_twice(
    store: SessionStore, visit: Visit, caplog: pytest.LogCaptureFixture
) -> None:
    made: list[web.Response] = []

    async def shared(request: web.Request) -> web.Response:
        made.append(await count(request))
        return made[0]

    address = visit(application(store, shared)).address
    for cut_off in (False, True):
        with address.connect() as sock:  # a second client would wait for ever
            sock.sendall(compose("GET", "/shared"))
            assert cut_off or b"set-cookie" in sock.recv(65536).lower()
            until(lambda: "make a new one for each request" in caplog.text or not cut_off)  # noqa: B023


def test_a_stream_is_stored_when_its_client_leaves(store: SessionStore, visit: Visit) -> None:
    async def shown(request: web.Request) -> web.Response:
        return web.Response(text=f"{(await get_session(request))['n']}")

    async def endless(request: web.Request) -> web.StreamResponse:
        session = await get_session(request)
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            session["n"] = session["n"] + 1
            await response.write(b"x" * 100_000)
            await asyncio.sleep(0)  # a write that need not wait does not yield to other tasks

    browser = visit(application(store, endless, count, shown))
    browser.get("/count")
    with browser.address.connect() as sock:
        sock.sendall(compose("GET", "/endless", [("Cookie", browser.cookie_header())]))
        assert sock.recv(1000)
    until(lambda: int(browser.get("/shown").text) > 1)


async def fail(request: web.Request) -> web.Response:
    """Fail with a change that is not stored."""
    await count(request)
    raise ValueError


async def regenerate_and_fail(request: web.Request) -> web.Response:
    """Fail with a new ID that is stored."""
    session = await get_session(request)
    session["n"] = session.get("n", 0) + 1
    await session.regenerate()
    await session.save()
    session["lost"] = True
    raise ValueError


@web.middleware
async def sorry(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ValueError:
        return web.Response(status=500, text="sorry")


@pytest.mark.parametrize(
    ("make", "logged"),
    [
        pytest.param(application, 3, id="setup"),
        pytest.param(with_middleware_alone, 3, id="middleware alone"),
        pytest.param(partial(application, outside=[proxied]), 3, id="behind a clone of the request"),
        pytest.param(partial(application, outside=[sorry]), 0, id="behind a page for errors"),
    ],
)
def test_an_id_that_was_stored_is_sent_with_the_500_whatever_stands_around(
    make: Callable[..., web.Application],
    logged: int,
    store: SessionStore,
    storage: SpyStorage,
    visit: Visit,
    caplog: pytest.LogCaptureFixture,
) -> None:
    browser = visit(make(store, fail, regenerate_and_fail, count))
    reply = browser.get("/fail")
    assert (reply.status, reply.text == "sorry", reply.set_cookies) == (500, not logged, [])
    for _ in range(2):  # a new session, and one that has moved
        reply = browser.get("/regenerate_and_fail")
        assert (reply.status, len(reply.set_cookies)) == (500, 1)
        assert reply.one("cache-control") == "no-store"
        assert (reply.one("vary") == "Cookie") is (make is not with_middleware_alone)
    assert browser.get("/count").text == "3"
    assert len(storage.inner) == 1
    until(lambda: len([record for record in caplog.records if record.exc_info]) == logged)  # the server's log has it


@pytest.mark.parametrize(("broken", "status"), [(False, 503), (False, 500), (True, 500)])
@pytest.mark.parametrize("first", [True, False], ids=["outside", "inside"])
def test_a_response_in_place_of_one_that_is_prepared_has_the_cookie_of_the_other_store(
    first: bool, broken: bool, status: int, storage: SpyStorage, visit: Visit
) -> None:
    async def fail(_: web.Request, response: web.StreamResponse) -> None:
        if broken and type(response) is web.StreamResponse:
            raise LookupError

    async def stream(request: web.Request) -> web.StreamResponse:
        for scope_key in ("other", "session"):
            session = await get_session(request, scope_key=scope_key)
            session["n"] = session.get("n", 0) + 1
            if scope_key == "other" or broken:
                await session.save()
        response = web.StreamResponse()
        if request.query_string:
            await response.prepare(request)
        return response

    async def look(request: web.Request) -> web.Response:
        return web.json_response(dict(await get_session(request, scope_key="other")))

    store = SessionStore(SessionConfig(storage=storage, on_error=lambda _view, _error: (status, "")))
    other = SessionStore(SessionConfig(extractor=from_cookie("__Host-other"), key_prefix="other:"))
    app = web.Application()
    app.on_response_prepare.append(fail)
    for scope_key, one in sorted({"other": other, "session": store}.items(), reverse=not first):
        setup(app, one, scope_key=scope_key)
    app.router.add_get("/stream", stream)
    app.router.add_get("/look", look)
    site = visit(app)
    for path in ("/stream", "/stream?prepared"):
        browser = site.another()
        if not broken:
            storage.fail("create")
        assert browser.get(path).status == status
        storage.restore()
        assert browser.get("/look").text == '{"n": 1}'
        assert set(browser.cookies) == ({"__Host-other", "__Host-session_id"} if broken else {"__Host-other"})
