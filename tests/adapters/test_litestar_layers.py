"""Litestar's layers, hooks and mounted applications: who has a session, and what is stored."""

from typing import Any

import pytest
from litestar import Controller, asgi, get, post
from litestar.security.session_auth import SessionAuth
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as StarletteSessions
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.adapters.litestar_kit import COOKIE, AnyRequest, Open, OwnRequest, SessionDep, read, write
from tests.stores import SpyStorage

from sessioncore import SessionNotLoaded, SessionStore
from sessioncore_litestar import SessionBackendConfig, SessionPlugin, get_session


async def count_up(request: AnyRequest) -> int:
    session = await get_session(request)
    session["n"] = session.get("n", 0) + 1
    return int(session["n"])


@pytest.mark.parametrize("request_class", [None, OwnRequest])
def test_excluded_routes_have_no_session(
    request_class: Any, enter: Open, store: SessionStore, storage: SpyStorage
) -> None:
    @get(["/static/logo", "/elsewhere"])
    async def by_path(request: AnyRequest) -> bool:
        return "session" in request.scope

    @get("/health", no_session=True)
    async def by_opt(request: AnyRequest) -> bool:
        return "session" in request.scope

    @get("/asks", no_session=True)
    async def asks(session: SessionDep) -> None: ...

    @get("/uses", no_session=True)
    async def uses(request: AnyRequest) -> str:
        with pytest.raises(SessionNotLoaded) as told:
            request.session["n"] = 1
        return str(told.value)

    class Quiet(Controller):
        path = "/quiet"
        opt = {"no_session": True}

        @get("/one")
        async def one(self, request: AnyRequest) -> bool:
            return "session" in request.scope

    plugin = SessionPlugin(store, exclude=["^/static/"], exclude_opt_key="no_session")
    client = enter(by_path, by_opt, asks, uses, Quiet, write, plugin=plugin, request_class=request_class)
    client.post("/write")
    storage.calls.clear()
    for path in ("/static/logo", "/health", "/quiet/one"):
        assert client.get(path).json() is False
    assert client.get("/asks").status_code == 500
    assert "excluded" in client.get("/uses").text
    assert storage.calls == []
    assert client.get("/elsewhere").json() is True

    @get("/by-default", skip_session=True)
    async def by_default(request: AnyRequest) -> bool:
        return "session" in request.scope

    client = enter(by_default, by_path, plugin=SessionPlugin(store, exclude=[]))
    assert client.get("/by-default").json() is False
    assert client.get("/elsewhere").json() is True


async def _anybody(*_: Any) -> str:
    return "anybody"


def test_one_layer_alone_can_have_sessions(enter: Open, store: SessionStore) -> None:
    class Shop(Controller):
        path = "/shop"
        middleware = [SessionBackendConfig(store).middleware]

        @post("/count")
        async def count(self, request: AnyRequest) -> int:
            return await count_up(request)

        @post("/fail")
        async def fail(self, request: AnyRequest) -> None:
            (await get_session(request)).set_idle_timeout("soon")  # type: ignore[arg-type]  # what is refused

    backend = SessionBackendConfig(store)
    auth = SessionAuth[str, Any](retrieve_user_handler=_anybody, session_backend_config=backend)

    class Bakery(Controller):  # its handlers are deep copies, their middleware too
        path = "/bakery"

        @post("/count", middleware=[backend.middleware, auth.middleware])
        async def count(self, request: AnyRequest) -> int:
            return await count_up(request)

    @get("/outside")
    async def outside(request: AnyRequest) -> bool:
        return "session" in request.scope

    client = enter(Shop, Bakery, outside, plugins=[])
    assert [client.post(path).json() for path in ("/shop/count", "/bakery/count", "/shop/count")] == [1, 2, 3]
    assert client.post("/shop/fail").text == "Internal Server Error"
    assert client.get("/outside").json() is False
    assert client.blocking_portal.call(store.reset) == 1


def test_a_mounted_application_shares_the_session(enter: Open) -> None:
    async def count(request: StarletteRequest) -> JSONResponse:
        request.session["n"] += 1
        return JSONResponse(request.session["n"])

    mounted = asgi("/mounted", is_mount=True, copy_scope=True)(Starlette(routes=[Route("/count/", count)]))
    client = enter(mounted, write, read)
    client.post("/write")
    assert client.get("/mounted/count").json() == 2
    assert client.get("/read").json() == {"n": 2}


def test_a_mounted_application_with_sessions_of_its_own_leaves_ours_alone(
    enter: Open, store: SessionStore, storage: SpyStorage
) -> None:
    async def count(request: StarletteRequest) -> JSONResponse:
        request.session["own"] = request.session.get("own", 0) + 1
        scope: Any = request.scope
        assert (await get_session(scope))["n"] == 1
        return JSONResponse(request.session["own"])

    async def look(request: StarletteRequest) -> JSONResponse:
        return JSONResponse(request.session.get("own", 0))

    sessions = Middleware(StarletteSessions, secret_key="a secret")
    admin = Starlette(routes=[Route("/count/", count), Route("/look/", look)], middleware=[sessions])
    mounted = asgi("/admin", is_mount=True, copy_scope=False)(admin)
    client = enter(mounted, plugin=SessionPlugin(store, lazy=True))
    client.cookies.set(COOKIE, client.blocking_portal.call(store.create, {"n": 1}).id)
    before = client.cookies[COOKIE]
    storage.calls.clear()
    assert client.get("/admin/look").json() == 0
    assert storage.calls == []
    assert [client.get("/admin/count").json() for _ in range(2)] == [1, 2]
    assert client.cookies[COOKIE] == before
    assert storage.calls == ["load", "load"]
