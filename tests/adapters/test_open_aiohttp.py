"""WebSockets and event streams of aiohttp: closed when their session ends, and freed when they have ended."""

import asyncio
import contextlib
import gc
import logging
from weakref import ref

import pytest
from aiohttp import ClientConnectionResetError, ClientResponseError, ClientTimeout, web
from aiohttp.test_utils import TestClient, TestServer
from tests.adapters.aiohttp_kit import application, count
from tests.adapters.browser import Browser, compose, until
from tests.adapters.open_kit import ReportingStorage
from tests.adapters.servers import serve, serve_aiohttp
from tests.turns import comes_true

from sessioncore import SessionConfig, SessionStore, StorageUnavailable
from sessioncore_aiohttp import _open, get_session


@pytest.mark.anyio
async def test_a_closed_connection_leaves_nothing_behind(store: SessionStore, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[ref[web.Request]] = []
    for logger in ("", "sessioncore"):  # the log record of an error would keep the request alive
        caplog.set_level(logging.CRITICAL, logger)

    async def socket(request: web.Request) -> web.WebSocketResponse:
        seen.append(ref(request))
        (await get_session(request))["n"] = 1
        response = web.WebSocketResponse()
        await response.prepare(request)
        async for _ in response:
            pass
        return response

    async def stream(request: web.Request) -> web.StreamResponse:
        seen.append(ref(request))
        session = await get_session(request)
        if "late" not in request.query:
            session["n"] = 1
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        session["n"] = 2  # nothing is awaited after this, so the watch would begin after the handler
        return response

    async def fail(request: web.Request, response: web.StreamResponse) -> None:
        if "fail" in request.query and not isinstance(response, web.Response):
            raise {"down": StorageUnavailable, "boom": ZeroDivisionError}[request.query["fail"]]

    known = {"Cookie": f"__Host-session_id={(await store.create()).id}"}
    app = application(store, socket, stream)
    app.on_response_prepare.append(fail)
    async with TestClient(TestServer(app)) as client:
        await (await client.ws_connect("/socket")).close()
        await (await client.get("/stream")).read()
        await (await client.get("/stream?late", headers=known)).read()
        with pytest.raises(ClientResponseError):  # aiohttp's 500 is broken
            await client.get("/stream?fail=boom", headers=known)
        assert (await client.get("/stream?fail=down", headers=known)).status == 503

        def all_gone() -> bool:
            gc.collect()
            return [each() for each in seen] == [None] * 5

        await comes_true(all_gone)  # the client may have its reply before the handler has ended
        # The store has not been closed yet: that would end what it watches.


@pytest.mark.anyio
@pytest.mark.parametrize("when", ["while its headers are prepared", "before its handler waits", "by its first use"])
async def test_a_connection_whose_session_ends_at_its_handshake_is_closed(when: str) -> None:
    async def begin(request: web.Request, response: web.StreamResponse) -> None:
        session = await get_session(request)
        assert when == "by its first use" or session.owner == "ada"
        await response.prepare(request)
        await session.destroy()

    async def socket(request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await begin(request, response)
        async for _ in response:
            pass
        return response

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await begin(request, response)
        await asyncio.sleep(60)
        return response

    async def revoke(*_: object) -> None:
        if when == "while its headers are prepared":
            await store.revoke_all("ada")
            await asyncio.sleep(0.05)  # time to notice the end before the headers are sent

    store = SessionStore(SessionConfig.development())
    app = application(store, socket, stream)
    app.on_response_prepare.append(revoke)
    async with TestClient(TestServer(app)) as client:
        cookie = {"Cookie": f"session_id={(await store.create(owner='ada')).id}"}
        async with client.ws_connect("/socket", headers=cookie) as connection:
            message = await connection.receive(timeout=10)
            assert (message.data, message.extra) == (1008, "session ended")
        cookie = {"Cookie": f"session_id={(await store.create(owner='ada')).id}"}
        async with client.get("/stream", headers=cookie, timeout=ClientTimeout(10)) as answer:
            assert (answer.status, await answer.read()) == (200, b"")


def test_an_event_stream_of_an_ended_session_is_closed_also_when_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[type[BaseException]] = []

    async def stream(request: web.Request) -> web.StreamResponse:
        (await get_session(request)).get("n")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * int(request.query["size"]))
                await asyncio.sleep(0.01)
        except BaseException as error:
            raised.append(type(error))
            raise

    monkeypatch.setattr(_open, "_TIMEOUT", 0.2)  # seconds for the last bytes to a client that reads nothing
    store, large = SessionStore(SessionConfig.development(storage=ReportingStorage())), 40_000_000
    with serve(serve_aiohttp, application(store, stream, count)) as server:
        for number, size in enumerate((1, large), start=1):
            browser = Browser(server.address)
            browser.get("/count")
            with browser.address.connect() as sock:
                sock.sendall(compose("GET", f"/stream?size={size}", [("Cookie", browser.cookie_header())]))
                received = len(sock.recv(10))
                server.run(store.reset)
                until(lambda: len(raised) == number)  # noqa: B023 - called at once
                with contextlib.suppress(ConnectionResetError):
                    while part := sock.recv(1_000_000):
                        received += len(part)
                assert received < large
    assert raised == [ClientConnectionResetError, asyncio.CancelledError]  # by a write, by the wait for the client
