"""Setting sessions up in aiohttp: what is refused, the middleware alone, the storage, handlers that are cancelled."""

import asyncio
import gc
import socket
import ssl
import threading
from itertools import product

import anyio
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from aiohttp.typedefs import Handler
from tests.adapters.aiohttp_kit import application, count, prepared, route, with_middleware_alone
from tests.adapters.browser import PATIENCE, ask, compose, until
from tests.adapters.conftest import Tls, Visit
from tests.adapters.servers import serve, serve_aiohttp
from tests.stores import SpyStorage
from tests.views import as_shown

from sessioncore import (
    RequestView,
    ResponseStarted,
    SessionConfig,
    SessionNotLoaded,
    SessionReleased,
    SessionStore,
    StorageUnavailable,
)
from sessioncore_aiohttp import get_session, session_middleware
from sessioncore_aiohttp._context import RequestContext


def test_get_session_says_what_is_missing(visit: Visit) -> None:
    said: list[str] = []

    async def lost(request: web.Request) -> web.Response:
        for scope_key in ("session", "admin"):
            with pytest.raises(SessionNotLoaded) as caught:
                await get_session(request, scope_key=scope_key)
            said.append(str(caught.value))
        return web.Response()

    visit(route(web.Application(), lost)).get("/lost")
    assert [("setup(app, store)" in text, "admin" in text) for text in said] == [(True, False), (True, True)]
    assert all("before you append middlewares that use the session" in text for text in said)


@pytest.mark.anyio
async def test_a_mocked_request_has_a_session(store: SessionStore) -> None:
    request = make_mocked_request("GET", "/")
    with pytest.raises(SessionNotLoaded):
        await get_session(request)
    response = await session_middleware(store)(request, count)
    assert "Set-Cookie" in response.headers


def test_a_repr_shows_no_path_and_no_headers(visit: Visit) -> None:
    seen: list[str] = []

    def remember(view: RequestView) -> bool:
        seen.append(as_shown(view))
        return False

    visit(application(SessionStore(SessionConfig.development(skip=remember)), count)).get("/count")
    assert seen == ["<AiohttpView>AiohttpView()"]


def test_a_request_that_ends_leaves_no_context_behind(store: SessionStore, visit: Visit) -> None:
    async def plain(_: web.Request) -> web.Response:
        return web.Response()

    def contexts() -> int:
        return sum(type(found) is RequestContext for found in gc.get_objects())

    browser = visit(application(store, count, plain))
    before = contexts()  # a connection holds its last request
    gc.disable()  # what it would find is left behind
    try:
        for _ in range(10):
            browser.get("/plain")
            browser.get("/count")
        until(lambda: contexts() <= before + 2)
    finally:
        gc.enable()


def test_the_middleware_alone_serves_no_response_that_the_handler_prepares_and_stores_no_session_for_it(
    store: SessionStore, storage: SpyStorage, visit: Visit, caplog: pytest.LogCaptureFixture
) -> None:
    async def redirect(request: web.Request) -> web.Response:
        await (await get_session(request)).login("ada")
        raise web.HTTPFound("/count")

    async def stream(request: web.Request) -> web.StreamResponse:
        await count(request)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        return response

    browser = visit(with_middleware_alone(store, count, redirect, stream))
    assert len(browser.get("/count").set_cookies) == 1
    moved = browser.get("/redirect")
    assert (moved.status, len(moved.set_cookies), moved.one("vary")) == (302, 1, "Cookie")
    assert browser.get("/count").text == "2"
    storage.fail("create")
    reply = browser.another().get("/count")
    assert (reply.status, reply.text, reply.set_cookies) == (503, "Service Unavailable", [])
    storage.restore()
    stranger = browser.another()
    for _ in range(2):
        assert stranger.get("/stream").set_cookies == []
    until(lambda: "use setup(app, store)" in caplog.text)
    assert caplog.text.count("use setup(app, store)") == 1
    assert len(storage.inner) == 1
    storage.done.clear()
    browser.get("/stream")
    until(lambda: storage.done[-1:] == ["replace"])
    assert browser.get("/count").text == "4"  # a change that needs no new cookie is stored


def test_the_middleware_around_setup_is_one_session_and_one_cookie(store: SessionStore, visit: Visit) -> None:
    address = visit(application(store, count, prepared, outside=[session_middleware(store)]))
    for path in ("/count", "/prepared"):
        browser = address.another()
        first = browser.get(path)
        assert (len(first.set_cookies), first.all("vary"), first.all("cache-control")) == (1, ["Cookie"], ["no-store"])
        assert browser.get(path).text == "2"


def test_a_request_that_an_outer_middleware_serves_again_has_a_session_again(store: SessionStore, visit: Visit) -> None:
    @web.middleware
    async def retry(request: web.Request, handler: Handler) -> web.StreamResponse:
        await handler(request)
        return await handler(request)

    browser = visit(application(store, count, outside=[retry]))
    first = browser.get("/count")
    assert (first.text, len(first.set_cookies), first.all("vary")) == ("1", 1, ["Cookie"])
    assert browser.get("/count").text == "3"


def test_a_session_loaded_in_a_stream_or_after_the_handler_takes_no_write(store: SessionStore, visit: Visit) -> None:
    kept: list[web.Request] = []

    async def later(_: web.Request) -> web.Response:
        with pytest.raises(SessionReleased):
            (await get_session(kept[0]))["n"] = 1
        return web.Response()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        session = await get_session(request)
        with pytest.raises(ResponseStarted):
            session["n"] = 1
        await response.write(b"x")
        return response

    async def keep(request: web.Request) -> web.Response:
        kept.append(request)
        return web.Response()

    browser = visit(application(store, stream, keep, later))
    reply = browser.get("/stream")
    assert (reply.body, reply.set_cookies) == (b"x", [])
    assert [browser.get(path).status for path in ("/keep", "/later")] == [200, 200]


def test_no_application_starts_on_a_storage_that_cannot_open(store: SessionStore, storage: SpyStorage) -> None:
    storage.fail("open")
    with pytest.raises(StorageUnavailable), serve(serve_aiohttp, application(store)):
        pass


@pytest.mark.proves("AT-103")
def test_handlers_that_are_cancelled_with_their_client_leave_nothing_half_done(
    store: SessionStore, storage: SpyStorage, tls: Tls
) -> None:
    """With handler_cancellation, a client that leaves cancels its handler wherever it waits."""
    reached = threading.Event()

    async def hang() -> None:
        reached.set()
        await asyncio.sleep(0.02)

    async def slow(request: web.Request) -> web.Response:
        session = await get_session(request)
        session["a"] = session["b"] = session["a"] + 1
        await session.login("ada")
        return web.Response()

    async def run(app: web.Application, sock: socket.socket, tls: ssl.SSLContext | None, over: anyio.Event) -> None:
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=2)
        await runner.setup()
        await web.SockSite(runner, sock, ssl_context=tls).start()
        await over.wait()
        await runner.cleanup()

    def request() -> bytes:
        sid = server.run(lambda: store.create({"a": 1, "b": 1})).id
        return compose("GET", "/slow", [("Cookie", f"__Host-session_id={sid}")])

    with serve(run, application(store, slow), tls) as server:
        quiet = server.run(_tasks)
        for number, (operation, when) in enumerate(product(("load", "move"), (storage.before, storage.after))):
            message = request()
            when[operation] = hang
            reached.clear()
            with server.address.connect() as sock:
                sock.sendall(message)
                reached.wait(PATIENCE)
            until(lambda: server.run(_tasks) <= quiet)  # no request is running
            assert len(storage.inner) == number + 1  # neither lost nor doubled
        assert ask(server.address, request()).status == 200


async def _tasks() -> int:
    return len(asyncio.all_tasks())
