"""Litestar: storage that is down on every kind of handler, an ID that a failing handler stored, a store given twice."""

from typing import Any

import pytest
from litestar import Litestar, Response, get, post, websocket
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.exceptions import WebSocketDisconnect
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send
from tests.adapters.browser import PATIENCE
from tests.adapters.litestar_kit import COOKIE, AnyRequest, AnySocket, Open, SessionDep, read, write
from tests.adapters.servers import serve, serve_asgi
from tests.stores import SpyStorage
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from sessioncore import ConfigError, SessionStore, StorageUnavailable
from sessioncore_litestar import SessionBackendConfig, SessionPlugin, get_session

# -- a storage that is down


class Teapot(Exception):
    pass


@post("/asynchronous")
async def asynchronous(session: SessionDep) -> None:
    session["n"] = 1


@post("/synchronous", sync_to_thread=False)
def synchronous(session: SessionDep) -> None:
    session["n"] = 1


@post("/threaded", sync_to_thread=True)
def threaded(session: SessionDep) -> None:
    session["n"] = 1


async def visits(session: SessionDep) -> int:
    return int(session.mutate("n", lambda n: n + 1, 0))


@post("/depends", dependencies={"visits": visits})
async def depends(visits: NamedDependency[int]) -> int:
    return visits


def seen(session: SessionDep) -> bool:
    return "n" in session


@post("/depends-in-thread", dependencies={"seen": Provide(seen, sync_to_thread=True)})
async def depends_in_thread(seen: NamedDependency[bool]) -> bool:
    return seen


async def members(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    (await get_session(connection)).get("n")


@post("/guarded", guards=[members])
async def guarded() -> None: ...


@post("/brewed")
async def brewed() -> None:
    raise Teapot


def pour(request: AnyRequest, error: Teapot) -> Response[int]:
    return Response(request.session.get("n", 0), status_code=418)


@post("/raises-early")
async def raises_early(request: AnyRequest) -> None:
    await (await get_session(request)).store.revoke_all("ada")


@post("/wraps")
async def wraps(request: AnyRequest) -> None:
    try:
        await (await get_session(request)).store.revoke_all("ada")
    except StorageUnavailable as error:
        raise RuntimeError("the application's own") from error


async def before(request: AnyRequest) -> None:
    request.session.get("n")


@post("/before", before_request=before)
async def hooked_before() -> None: ...


class Watch(ASGIMiddleware):
    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        (await get_session(scope)).get("n")
        await next_app(scope, receive, send)


@post("/behind", middleware=[Watch()])
async def behind() -> None: ...


HANDLERS: list[Any] = [
    asynchronous, synchronous, threaded, depends, depends_in_thread, guarded, brewed, wraps, hooked_before, behind,
    raises_early,
]  # fmt: skip


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: next(iter(handler.paths))[1:])
def test_a_storage_that_is_down_is_503_on_every_kind_of_handler(
    enter: Open, storage: SpyStorage, handler: Any, debug: bool
) -> None:
    client = enter(handler, write, exception_handlers={Teapot: pour}, debug=debug)
    client.post("/write")
    storage.fail("load", "owned_keys")
    reply = client.post(next(iter(handler.paths)))
    assert (reply.status_code, reply.text) == (503, "Service Unavailable")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert not {"set-cookie", "vary"} & set(reply.headers)


@pytest.mark.parametrize("operation", ["load", "owned_keys"])
def test_a_websocket_is_refused_with_503_before_it_is_accepted(
    store: SessionStore, storage: SpyStorage, operation: str
) -> None:
    @websocket("/ws")
    async def talk(socket: AnySocket, session: SessionDep) -> None:
        session.get("n")
        await session.store.revoke_all("ada")

    app = Litestar([talk], plugins=[SessionPlugin(store)])
    storage.fail(operation)
    headers = {"Cookie": f"{COOKIE}={'a' * 43}"}
    with serve(serve_asgi, app) as server, pytest.raises(InvalidStatus) as caught:
        connect(f"ws://localhost:{server.address.port}/ws", open_timeout=PATIENCE, additional_headers=headers)
    response = caught.value.response
    assert (response.status_code, response.body) == (503, b"Service Unavailable")


def test_a_websocket_of_a_server_that_knows_no_denial_is_closed_with_an_error(enter: Open, storage: SpyStorage) -> None:
    @websocket("/ws")
    async def talk(socket: AnySocket, session: SessionDep) -> None:
        session.get("n")

    client = enter(talk, write)
    client.post("/write")
    cookie = {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}
    storage.fail("load")
    with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/ws", headers=cookie):
        pass
    assert caught.value.code == 4500


# -- an ID that was stored, and a handler that fails


def test_an_id_that_was_stored_is_told_with_the_500(enter: Open, storage: SpyStorage) -> None:
    @post("/renew")
    async def renew(session: SessionDep) -> None:
        await session.regenerate()
        await session.save()
        session["lost"] = True
        raise ValueError

    client = enter(renew, write, read)
    client.post("/write")
    old = client.cookies[COOKIE]
    assert client.post("/renew").status_code == 500
    assert client.cookies[COOKIE] != old
    assert client.get("/read").json() == {"n": 1}
    assert len(storage.inner) == 1


# -- one store, two names


def test_one_store_has_one_name(store: SessionStore) -> None:
    with pytest.raises(ConfigError, match=r"scope_key='admin'.*its own cookie name and key_prefix"):
        Litestar([], plugins=[SessionPlugin(store), SessionPlugin(store, scope_key="admin")])


def test_two_stores_have_two_names(store: SessionStore) -> None:
    with pytest.raises(ConfigError, match=r"scope_key='session'.*give the second one another scope_key"):
        Litestar([], plugins=[SessionPlugin(store), SessionPlugin(SessionStore())])


def test_one_store_has_one_name_in_the_layers_too(enter: Open, store: SessionStore, storage: SpyStorage) -> None:
    @get("/inner", middleware=[SessionBackendConfig(store).middleware])
    async def inner(request: AnyRequest) -> None:
        (await get_session(request))["n"] = 1

    reply = enter(inner, plugin=SessionPlugin(store, scope_key="admin")).get("/inner")
    assert (reply.status_code, "set-cookie" in reply.headers, len(storage.inner)) == (500, False, 0)


def test_the_same_plugin_twice_is_one_session(enter: Open, store: SessionStore) -> None:
    client = enter(write, plugins=[SessionPlugin(store), SessionPlugin(store)])
    assert len(client.post("/write").headers.get_list("set-cookie")) == 1
