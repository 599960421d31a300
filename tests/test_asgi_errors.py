"""What becomes of errors between the application, the middleware and the server, and of a store that is given twice."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from tests.asgi import Message, Wire, ask, http_scope, socket_scope
from tests.stores import SpyStorage

from sessioncore import OwnerLimitReached, SessionConfig, SessionError, SessionStore, StorageUnavailable
from sessioncore_asgi import SessionMiddleware, get_session
from sessioncore_asgi.fastapi import SessionDep

pytestmark = pytest.mark.anyio

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
BODY: Message = {"type": "http.response.body", "body": b"ok"}


@pytest.fixture
def storage() -> SpyStorage:
    return SpyStorage()


@pytest.fixture
def store(storage: SpyStorage) -> SessionStore:
    return SessionStore(SessionConfig(storage=storage))


async def ask_in_spite(app: Any, path: str = "/", sid: str | None = None) -> Wire:
    """Ask an application that may raise after it has answered, as Starlette's catch-all does."""
    wire = Wire([{"type": "http.request"}])
    try:
        await app(http_scope(path, sid), wire.receive, wire.send)
    except (SessionError, ArithmeticError, RuntimeError):
        assert wire.sent
    return wire


def wrap(app: Starlette, store: SessionStore, place: str) -> Any:
    if place == "around":
        return SessionMiddleware(app, store)
    app.add_middleware(SessionMiddleware, store=store)
    return app


# -- one store, two names


async def both(scope: Any, receive: Any, send: Any) -> None:
    for scope_key in ("session", "admin"):
        (await get_session(scope, scope_key=scope_key))["n"] = 1
    await send(START)
    await send(BODY)


async def test_one_store_under_two_names_is_refused(
    store: SessionStore, storage: SpyStorage, caplog: pytest.LogCaptureFixture
) -> None:
    app = SessionMiddleware(SessionMiddleware(both, store, scope_key="admin"), store)
    wire = await ask(app)
    assert (wire.status, wire.all("set-cookie"), storage.calls) == (500, [], [])
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "scope_key='session' and scope_key='admin'" in record.getMessage()
    assert "its own cookie name and key_prefix" in record.getMessage()


async def test_one_store_under_two_names_is_refused_also_with_another_between(store: SessionStore) -> None:
    inner = SessionMiddleware(both, store, scope_key="admin")
    app = SessionMiddleware(SessionMiddleware(inner, SessionStore(), scope_key="shop"), store)
    assert (await ask(app)).status == 500


async def test_applications_beside_each_other_may_name_one_store_as_they_like(store: SessionStore) -> None:
    async def page(request: Request) -> Response:
        session = await get_session(request, scope_key=request.url.path[1:6])
        session["n"] = session.get("n", 0) + 1
        return PlainTextResponse(str(session["n"]))

    def part(name: str) -> Mount:
        return Mount(f"/{name}", SessionMiddleware(Starlette(routes=[Route("/", page)]), store, scope_key=name))

    app = Starlette(routes=[part("first"), part("other")])
    wire = await ask(app, "/first/")
    assert (await ask(app, "/other/", wire.sid)).body == b"2"


# -- errors of the store, out of a handler


async def revoke(request: Request) -> Response:
    await (await get_session(request)).store.revoke_all("ada")
    return PlainTextResponse("done")


async def wrapped(request: Request) -> Response:
    try:
        await (await get_session(request)).store.revoke_all("ada")
    except StorageUnavailable as error:
        raise RuntimeError("the application's own") from error
    return PlainTextResponse("done")


async def used_first(request: Request) -> Response:
    (await get_session(request))["n"] = 1
    return await revoke(request)


def sync(request: Request) -> Response:
    raise StorageUnavailable("as from a method of the store")


async def limited(request: Request) -> Response:
    raise OwnerLimitReached("as from a method of the store")


HANDLERS: list[Callable[[Request], Any]] = [revoke, wrapped, used_first, sync, limited]


@pytest.mark.parametrize("place", ["around", "added"])
@pytest.mark.parametrize("handler", HANDLERS)
async def test_an_error_of_the_store_has_its_status_wherever_the_middleware_stands(
    store: SessionStore, storage: SpyStorage, place: str, handler: Any
) -> None:
    storage.fail()
    pages: list[dict[Any, Any]] = [{}, {500: oops}]
    for page in pages:
        app = wrap(Starlette(routes=[Route("/", handler)], exception_handlers=page), store, place)
        wire = await ask_in_spite(app)
        assert wire.status == (409 if handler is limited else 503)
        assert wire.body == (b"Conflict" if handler is limited else b"Service Unavailable")
        assert len(wire.sent) == 2
        assert wire.all("set-cookie") == []


async def oops(request: Request, error: Exception) -> Response:
    return PlainTextResponse("oops", 500)


@pytest.mark.parametrize("place", ["around", "added"])
async def test_fastapi_tells_it_too(store: SessionStore, storage: SpyStorage, place: str) -> None:
    api = FastAPI()

    @api.get("/")
    async def index(session: SessionDep) -> int:
        return len(await session.store.sessions_of("ada"))

    storage.fail()
    assert (await ask_in_spite(wrap(api, store, place))).status == 503


@pytest.mark.parametrize("place", ["around", "added"])
async def test_every_other_500_is_the_applications(store: SessionStore, storage: SpyStorage, place: str) -> None:
    async def fail(request: Request) -> Response:
        raise ArithmeticError

    async def refuse(request: Request) -> Response:
        raise HTTPException(500, "mine")

    async def recover(request: Request) -> Response:
        with suppress(StorageUnavailable):
            await (await get_session(request)).store.revoke_all("ada")
        return PlainTextResponse("mine", 500)

    storage.fail()
    app = wrap(Starlette(routes=[Route(f"/{f.__name__}", f) for f in (fail, refuse, recover)]), store, place)
    assert (await ask_in_spite(app, "/fail")).body == b"Internal Server Error"
    assert [(await ask(app, path)).body for path in ("/refuse", "/recover")] == [b"mine", b"mine"]


@pytest.mark.parametrize("place", ["around", "added"])
async def test_the_applications_handler_for_our_errors_has_the_last_word(
    store: SessionStore, storage: SpyStorage, place: str
) -> None:
    async def gone(request: Request, error: Exception) -> Response:
        return PlainTextResponse("come back later", 507)

    storage.fail()
    app = wrap(Starlette(routes=[Route("/", revoke)], exception_handlers={SessionError: gone}), store, place)
    assert (await ask(app)).status == 507


# -- an ID that was stored, and an application that fails before it could tell


async def renew(request: Request) -> Response:
    session = await get_session(request)
    await session.regenerate()
    await session.save()
    session["lost"] = True
    raise ValueError


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
@pytest.mark.parametrize("place", ["around", "added"])
async def test_an_id_that_was_stored_is_told_with_the_500(
    store: SessionStore, storage: SpyStorage, place: str, framework: Any
) -> None:
    app = wrap(framework(routes=[Route("/", renew)]), store, place)
    sid = (await store.create({"n": 1})).id
    wire = Wire([{"type": "http.request"}])
    with pytest.raises(ValueError, match=r"^$"):  # for the server's log
        await app(http_scope(sid=sid), wire.receive, wire.send)
    assert (wire.status, wire.body, len(wire.sent)) == (500, b"Internal Server Error", 2)
    assert wire.sid not in {None, "", sid}
    assert dict(await store.get_by_id(wire.sid or "")) == {"n": 1}
    assert len(storage.inner) == 1


async def raw(scope: Any, receive: Any, send: Any) -> None:
    session = await get_session(scope)
    session["n"] = 1
    if scope["path"] == "/saved":
        await session.save()
    raise ValueError


async def test_an_application_without_a_framework_that_fails_tells_the_id_only_if_one_was_stored(
    store: SessionStore, storage: SpyStorage
) -> None:
    app = SessionMiddleware(raw, store)
    for path, sent in (("/saved", 2), ("/other", 0)):
        wire = Wire([{"type": "http.request"}])
        with pytest.raises(ValueError, match=r"^$"):
            await app(http_scope(path), wire.receive, wire.send)
        assert len(wire.sent) == sent
        if sent:
            assert dict(await store.get_by_id(wire.sid or "")) == {"n": 1}


async def test_a_handshake_that_fails_tells_it_where_the_server_can(store: SessionStore) -> None:
    extensions: dict[str, Any] = {"websocket.http.response": {}}
    for given, kinds in (
        (extensions, ["websocket.http.response.start", "websocket.http.response.body"]),
        ({}, []),
    ):
        wire = Wire([{"type": "websocket.connect"}])
        with pytest.raises(ValueError, match=r"^$"):
            await SessionMiddleware(raw, store)(socket_scope("/saved", extensions=given), wire.receive, wire.send)
        assert [message["type"] for message in wire.sent] == kinds
        if kinds:
            assert wire.sent[0]["status"] == 500
            assert any(name == b"set-cookie" for name, _ in wire.sent[0]["headers"])


Send = Callable[[Message], Awaitable[None]]


async def test_after_the_start_nothing_is_sent_for_it(store: SessionStore) -> None:
    async def late(scope: Any, receive: Any, send: Send) -> None:
        session = await get_session(scope)
        session["n"] = 1
        await send(START)
        session["n"] = 2
        await session.save()
        raise ValueError

    wire = Wire([{"type": "http.request"}])
    with pytest.raises(ValueError, match=r"^$"):
        await SessionMiddleware(late, store)(http_scope(), wire.receive, wire.send)
    assert len(wire.sent) == 1
    assert wire.sid
