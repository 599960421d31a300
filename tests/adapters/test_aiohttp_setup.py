"""Setting sessions up in aiohttp: the middleware alone, the storage's life, handlers that are cancelled."""

import asyncio
import itertools
import logging
import socket
import ssl
import threading
from typing import Any

import pytest
from aiohttp import web
from tests.adapters.browser import PATIENCE, Browser, ask, compose, until
from tests.adapters.conftest import Tls, Visit
from tests.adapters.servers import Server, serve, serve_aiohttp
from tests.stores import SpyStorage

from sessioncore import (
    ConfigError,
    MemoryStorage,
    RequestView,
    ResponseStarted,
    SessionConfig,
    SessionNotLoaded,
    SessionReleased,
    SessionStore,
)
from sessioncore_aiohttp import get_session, session_middleware, setup
from sessioncore_aiohttp._middleware import _CONTEXTS  # pyright: ignore[reportPrivateUsage]  # what may not grow


async def count(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["n"] = session.get("n", 0) + 1
    return web.Response(text=str(session["n"]))


def test_the_middleware_alone_serves_responses_that_are_returned_or_raised(store: SessionStore, visit: Visit) -> None:
    async def redirect(request: web.Request) -> web.Response:
        await (await get_session(request)).login("ada")
        raise web.HTTPFound("/count")

    async def meddle(request: web.Request) -> web.Response:
        response = await count(request)
        response.set_cookie("__Host-session_id", "mine", secure=True)
        response.set_cookie("theme", "dark")
        return response

    app = web.Application(middlewares=[session_middleware(store)])
    app.router.add_get("/count", count)
    app.router.add_get("/redirect", redirect)
    app.router.add_get("/meddle", meddle)
    browser = visit(app)
    assert len(browser.get("/count").set_cookies) == 1
    moved = browser.get("/redirect")
    assert (moved.status, len(moved.set_cookies), moved.one("vary")) == (302, 1, "Cookie")
    assert browser.get("/meddle").text == "2"
    assert browser.get("/count").text == "3"
    assert browser.cookies["theme"] == "dark"


def test_the_middleware_alone_tells_of_errors(store: SessionStore, storage: SpyStorage, visit: Visit) -> None:
    app = web.Application(middlewares=[session_middleware(store)])
    app.router.add_get("/count", count)
    browser = visit(app)
    storage.fail("create")
    reply = browser.get("/count")
    assert (reply.status, reply.text, reply.set_cookies) == (503, "Service Unavailable", [])


def test_the_middleware_alone_stores_no_session_that_the_client_cannot_learn(
    store: SessionStore, storage: SpyStorage, visit: Visit, caplog: pytest.LogCaptureFixture
) -> None:
    async def stream(request: web.Request) -> web.StreamResponse:
        await count(request)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        return response

    app = web.Application(middlewares=[session_middleware(store)])
    app.router.add_get("/count", count)
    app.router.add_get("/stream", stream)
    browser = visit(app)
    with caplog.at_level(logging.WARNING, "sessioncore"):
        for _ in range(2):
            assert browser.get("/stream").set_cookies == []
        until(lambda: bool(caplog.records))
    assert len(storage.inner) == 0
    (warning,) = [record.message for record in caplog.records if record.name == "sessioncore"]  # once
    assert "use setup(app, store)" in warning
    browser.get("/count")
    browser.get("/stream")
    until(lambda: storage.calls[-1] == "replace")
    assert browser.get("/count").text == "3"  # what needs no cookie is stored


@pytest.mark.parametrize("prepared", [False, True])
def test_the_middleware_around_setup_is_one_session_and_one_cookie(
    store: SessionStore, visit: Visit, prepared: bool
) -> None:
    async def page(request: web.Request) -> web.Response:
        response = await count(request)
        if prepared:
            await response.prepare(request)
        return response

    app = web.Application(middlewares=[session_middleware(store)])
    setup(app, store)
    app.router.add_get("/", page)
    browser = visit(app)
    first = browser.get("/")
    assert (len(first.set_cookies), first.all("vary"), first.all("cache-control")) == (1, ["Cookie"], ["no-store"])
    assert browser.get("/").text == "2"


def test_a_request_that_ends_leaves_no_context_behind(store: SessionStore, visit: Visit) -> None:
    async def plain(_: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    setup(app, store)
    app.router.add_get("/plain", plain)
    app.router.add_get("/count", count)
    browser = visit(app)
    before = len(_CONTEXTS)  # a connection holds its last request
    for _ in range(20):
        browser.get("/plain")
        browser.get("/count")
    until(lambda: len(_CONTEXTS) <= before + 2)


def test_get_session_says_what_is_missing(visit: Visit) -> None:
    said: list[str] = []

    async def lost(request: web.Request) -> web.Response:
        for scope_key in ("session", "admin"):
            try:
                await get_session(request, scope_key=scope_key)
            except SessionNotLoaded as exc:
                said.append(str(exc))
        return web.Response()

    app = web.Application()
    app.router.add_get("/", lost)
    visit(app).get("/")
    assert [("setup(app, store)" in text, "admin" in text) for text in said] == [(True, False), (True, True)]
    assert all("before you append middlewares that use the session" in text for text in said)


@pytest.mark.parametrize("wrong", [SessionConfig(), MemoryStorage(), None])
def test_what_is_no_store_is_refused_with_what_to_pass(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=rf"setup takes .*{type(wrong).__name__}; pass SessionStore\("):
        setup(web.Application(), wrong)
    with pytest.raises(ConfigError, match=rf"session_middleware takes .*{type(wrong).__name__}; pass SessionStore\("):
        session_middleware(wrong)


def test_a_repr_shows_no_path_and_no_headers(visit: Visit) -> None:
    seen: list[str] = []

    def remember(view: RequestView) -> bool:
        seen.append(repr(view))
        return False

    app = web.Application()
    setup(app, SessionStore(SessionConfig.development(skip=remember)))
    app.router.add_get("/count", count)
    visit(app).get("/count")
    assert seen == ["<AiohttpView>"]


def test_a_second_store_needs_a_name(store: SessionStore) -> None:
    app = web.Application()
    setup(app, store)
    with pytest.raises(ConfigError, match="scope_key='session'"):
        setup(app, SessionStore())
    setup(app, SessionStore(), scope_key="admin")


def test_one_store_has_one_name(store: SessionStore) -> None:
    app = web.Application()
    setup(app, store)
    with pytest.raises(ConfigError, match=r"scope_key='admin'.*its own cookie name and key_prefix"):
        setup(app, store, scope_key="admin")
    assert (len(app.middlewares), len(app.on_response_prepare)) == (1, 1)


def test_one_store_has_one_name_in_sub_applications_too(store: SessionStore, storage: SpyStorage, visit: Visit) -> None:
    app, inner = web.Application(), web.Application()
    setup(app, store)
    setup(inner, store, scope_key="admin")
    inner.router.add_get("/count", count)
    app.router.add_get("/count", count)
    app.add_subapp("/inner", inner)
    browser = visit(app)
    reply = browser.get("/inner/count")
    assert (reply.status, reply.set_cookies, len(storage.inner)) == (500, [], 0)
    assert browser.get("/count").text == "1"


def test_a_session_that_is_first_asked_for_after_the_handler_is_released(store: SessionStore, visit: Visit) -> None:
    kept: list[web.Request] = []
    met: list[type[Exception]] = []

    async def keep(request: web.Request) -> web.Response:
        kept.append(request)
        return web.Response(text="kept")

    async def later(_: web.Request) -> web.Response:
        try:
            (await get_session(kept[0]))["n"] = 1
        except SessionReleased as exc:
            met.append(type(exc))
        return web.Response()

    app = web.Application()
    setup(app, store)
    app.router.add_get("/keep", keep)
    app.router.add_get("/later", later)
    browser = visit(app)
    browser.get("/keep")
    browser.get("/later")
    assert met == [SessionReleased]


def test_a_stream_that_asks_for_its_session_late_can_start_none(store: SessionStore, visit: Visit) -> None:
    met: list[type[Exception]] = []

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        session = await get_session(request)
        try:
            session["n"] = 1
        except ResponseStarted as exc:
            met.append(type(exc))
        await response.write(b"x")
        return response

    app = web.Application()
    setup(app, store)
    app.router.add_get("/", stream)
    reply = visit(app).get("/")
    assert (reply.body, reply.set_cookies, met) == (b"x", [], [ResponseStarted])


def test_the_storage_opens_and_closes_with_the_application(store: SessionStore, storage: SpyStorage, tls: Tls) -> None:
    app = web.Application()
    setup(app, store)
    app.router.add_get("/count", count)
    with serve(serve_aiohttp, app, tls) as server:
        assert Browser(server.address).get("/count").text == "1"
    assert storage.calls == ["open", "create", "aclose"]


def test_a_storage_that_cannot_open_keeps_the_application_from_starting(
    store: SessionStore, storage: SpyStorage
) -> None:
    storage.fail("open")
    app = web.Application()
    setup(app, store)
    with pytest.raises(AssertionError, match="StorageUnavailable"), serve(serve_aiohttp, app):
        pass


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

    app = web.Application()
    setup(app, store)
    app.router.add_get("/", slow)

    async def run(app: web.Application, sock: socket.socket, tls: ssl.SSLContext | None, over: asyncio.Event) -> None:
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=2)
        await runner.setup()
        await web.SockSite(runner, sock, ssl_context=tls).start()
        await over.wait()
        await runner.cleanup()

    async def make() -> str:
        return (await store.create({"a": 1, "b": 1})).id

    with serve(run, app, tls) as server:
        for number, (operation, when) in enumerate(
            itertools.product(("load", "move"), (storage.before, storage.after))
        ):
            sid = server.run(make)
            when[operation] = hang
            reached.clear()
            with server.address.connect() as sock:
                sock.sendall(compose("GET", "/", [("Cookie", f"__Host-session_id={sid}")]))
                reached.wait(PATIENCE)
            _calm(server)
            assert len(storage.inner) == number + 1  # neither lost nor doubled
        assert (
            ask(server.address, compose("GET", "/", [("Cookie", f"__Host-session_id={server.run(make)}")])).status
            == 200
        )


def _calm(server: Server) -> None:
    """Wait until no request is running."""

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    until(lambda: server.run(tasks) <= 2)
