"""WebSockets, mounted applications and the life of an application in Litestar."""

import gc
from typing import Any

import pytest
from litestar import Litestar, asgi, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.testing import TestClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as StarletteSessions
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.adapters.browser import PATIENCE
from tests.adapters.litestar_kit import COOKIE, AnySocket, Open, SessionDep, put, read, write
from tests.adapters.servers import serve, serve_asgi
from tests.stores import SpyStorage
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from sessioncore import (
    Session,
    SessionConfig,
    SessionStore,
)
from sessioncore_litestar import SessionPlugin, get_session

# -- WebSockets


def _cookie(client: TestClient[Litestar]) -> dict[str, str]:
    """The client sends no Secure cookie to ws://, which is all it can do."""
    return {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}


@websocket("/ws")
async def talk(socket: AnySocket, session: SessionDep) -> None:
    session["n"] = session.get("n", 0) + 1
    await socket.accept()
    assert socket.get_session_id() == session.id
    while (word := await socket.receive_text()) != "end":
        if word == "replace":
            put(socket, {"replaced": True})
        elif word == "clear":
            socket.clear_session()
        elif word == "fail":
            session["lost"] = True
            raise RuntimeError
    await socket.close()


@pytest.mark.parametrize(
    ("word", "left"), [("stay", {"n": 2}), ("replace", {"replaced": True}), ("clear", {}), ("fail", {"n": 2})]
)
def test_a_websocket_ends_as_a_request_does(enter: Open, word: str, left: object) -> None:
    client = enter(talk, write, read)
    client.post("/write")
    with client.websocket_connect("/ws", headers=_cookie(client)) as socket:
        socket.send_text(word)
        socket.send_text("end")
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_text()
        assert caught.value.code == (4500 if word == "fail" else 1000)
    assert client.get("/read").json() == left


def test_a_failure_before_the_handshake_stores_nothing(enter: Open, storage: SpyStorage) -> None:
    @websocket("/broken")
    async def broken(socket: AnySocket, session: SessionDep) -> None:
        session["lost"] = True
        raise RuntimeError

    client = enter(broken, write, read)
    client.post("/write")
    with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/broken", headers=_cookie(client)):
        pass
    assert caught.value.code == 4500
    assert client.get("/read").json() == {"n": 1}


def test_an_error_of_ours_before_the_handshake_is_answered_as_elsewhere(store: SessionStore) -> None:
    @websocket("/refused")
    async def refused(socket: AnySocket, session: SessionDep) -> None:
        await session.login("")

    app = Litestar([refused], plugins=[SessionPlugin(store)])
    with serve(serve_asgi, app) as server, pytest.raises(InvalidStatus) as caught:
        connect(f"ws://localhost:{server.address.port}/refused", open_timeout=PATIENCE)
    response = caught.value.response
    assert (response.status_code, response.body) == (500, b"Internal Server Error")


# -- mounted applications


def test_a_mounted_application_shares_the_session(enter: Open) -> None:
    async def count(request: StarletteRequest) -> JSONResponse:
        request.session["n"] += 1
        return JSONResponse(request.session["n"])

    mounted = asgi("/mounted", is_mount=True, copy_scope=True)(Starlette(routes=[Route("/count/", count)]))
    client = enter(mounted, write, read)
    client.post("/write")
    assert client.get("/mounted/count").json() == 2
    assert client.get("/read").json() == {"n": 2}


def test_a_mounted_application_with_sessions_of_its_own_leaves_ours_alone(enter: Open, storage: SpyStorage) -> None:
    async def count(request: StarletteRequest) -> JSONResponse:
        request.session["own"] = request.session.get("own", 0) + 1
        scope: Any = request.scope
        assert (await get_session(scope))["n"] == 1
        return JSONResponse(request.session["own"])

    sessions = Middleware(StarletteSessions, secret_key="a secret")
    admin = Starlette(routes=[Route("/count/", count)], middleware=[sessions])
    mounted = asgi("/admin", is_mount=True, copy_scope=False)(admin)
    client = enter(mounted, write, read)
    client.post("/write")
    before = client.cookies[COOKIE]
    assert [client.get("/admin/count").json() for _ in range(2)] == [1, 2]
    assert client.cookies[COOKIE] == before
    assert client.get("/read").json() == {"n": 1}


def test_a_mounted_application_that_never_asks_costs_nothing(enter: Open, storage: SpyStorage) -> None:
    async def count(request: StarletteRequest) -> JSONResponse:
        return JSONResponse(request.session.get("own", 0))

    sessions = Middleware(StarletteSessions, secret_key="a secret")
    admin = Starlette(routes=[Route("/count/", count)], middleware=[sessions])
    mounted = asgi("/admin", is_mount=True, copy_scope=False)(admin)
    store = SessionStore(SessionConfig(storage=storage))
    client = enter(mounted, write, plugin=SessionPlugin(store, lazy=True))
    client.cookies.set(COOKIE, client.blocking_portal.call(store.create).id)
    storage.calls.clear()
    assert client.get("/admin/count").json() == 0
    assert storage.calls == []


# -- lifespan and garbage


def test_the_storage_lives_as_long_as_the_application(enter: Open, store: SessionStore, storage: SpyStorage) -> None:
    seen: list[list[str]] = []

    def look() -> None:
        seen.append(list(storage.calls))

    with TestClient(Litestar([], plugins=[SessionPlugin(store)], on_startup=[look], on_shutdown=[look])):
        pass
    assert seen == [["open"], ["open"]]
    assert storage.calls == ["open", "aclose"]


def test_a_storage_that_does_not_open_stops_the_application(store: SessionStore, storage: SpyStorage) -> None:
    storage.fail("open")
    with pytest.raises(ExceptionGroup), TestClient(Litestar([], plugins=[SessionPlugin(store)])):
        raise AssertionError("it started")


@pytest.mark.anyio
async def test_a_request_leaves_no_cyclic_garbage(store: SessionStore) -> None:
    found: list[Any] = []
    app = Litestar([write, read], plugins=[SessionPlugin(store)], openapi_config=None)

    async def body() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def keep(message: Any) -> None:
        found.extend(value for name, value in message.get("headers", ()) if name == b"set-cookie")

    async def ask(method: str, path: str) -> None:
        cookie = found[-1].split(b";")[0] if found else b"a=1"
        scope: Any = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
            "raw_path": path.encode(), "root_path": "", "scheme": "https", "query_string": b"",
            "headers": [(b"host", b"x.example"), (b"cookie", cookie)], "client": None, "server": None,
        }  # fmt: skip
        await app(scope, body, keep)

    def mine() -> list[Any]:
        gc.collect()
        here, gc.garbage[:] = [thing for thing in gc.garbage if isinstance(thing, Session)], []
        return here

    for _ in range(3):  # caches fill
        await ask("POST", "/write")
        await ask("GET", "/read")
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(3):
            await ask("POST", "/write")
            await ask("GET", "/read")
        assert mine() == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
