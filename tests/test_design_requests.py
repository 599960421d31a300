"""One request as a user sees it, in every way to install the middleware: stated once, true in all of them."""

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from anyio.lowlevel import checkpoint
from fastapi import BackgroundTasks, Depends, FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.websockets import WebSocket
from tests.installs import INSTALLS, NAME, call, install
from tests.stores import SpyStorage

from sessioncore import (
    Extractor,
    RequestView,
    SessionConfig,
    SessionError,
    SessionStore,
    Source,
    StorageUnavailable,
    chain,
    from_cookie,
    from_form,
    from_header,
    from_param,
    from_query,
)
from sessioncore_asgi import SessionMiddleware, get_session
from sessioncore_asgi.fastapi import SessionDep

pytestmark = pytest.mark.anyio


@pytest.fixture(params=INSTALLS)
def how(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def storage() -> SpyStorage:
    return SpyStorage()


def _store(storage: SpyStorage, **changes: object) -> SessionStore:
    return SessionStore(SessionConfig(storage=storage, **changes))  # type: ignore[arg-type]  # any field


async def _stored(store: SessionStore, **data: object) -> str:
    session = await store.create(data)
    return session.id


async def _peek(request: Request) -> Response:
    return PlainTextResponse("peek")


async def _read(request: Request) -> Response:
    return JSONResponse(dict(await get_session(request)))


@pytest.mark.parametrize("lazy", [False, True])
async def test_a_storage_that_is_down_fails_the_use_of_the_session_only(
    how: str, storage: SpyStorage, lazy: bool
) -> None:
    store = _store(storage)
    sid = await _stored(store, n=1)
    storage.fail("load")
    reply = await call(install(how, store, _peek, lazy=lazy), sid=sid)
    assert (reply.status, reply.text, reply.cookies) == (200, "peek", {})
    reply = await call(install(how, store, _read, lazy=lazy), sid=sid)
    assert (reply.status, reply.text, reply.cookies) == (503, "Service Unavailable", {})
    storage.restore()
    assert (await call(install(how, store, _read, lazy=lazy), sid=sid)).text == '{"n":1}'


@pytest.mark.parametrize(
    ("given", "status", "text"),
    [(None, 503, "Service Unavailable"), ((418, "later, please"), 418, "later, please"), ((502, b"raw"), 502, "raw")],
)
async def test_on_error_writes_the_answer_or_leaves_it(
    how: str, storage: SpyStorage, given: object, status: int, text: str
) -> None:
    seen: list[object] = []

    def on_error(view: object, error: object) -> object:
        seen.append((view.path, type(error)))  # type: ignore[attr-defined]  # a RequestView
        return given

    store = _store(storage, on_error=on_error)
    sid = await _stored(store, n=1)
    storage.fail("load")
    reply = await call(install(how, store, _read), "/a/b", sid=sid)
    assert (reply.status, reply.text) == (status, text)
    assert seen == [("/a/b", StorageUnavailable)]


@pytest.mark.parametrize("first", ["session", "body"])
@pytest.mark.parametrize("lazy", [False, True])
async def test_an_id_in_a_form_is_found_before_and_after_the_handler_reads_the_body(
    how: str, storage: SpyStorage, lazy: bool, first: str
) -> None:
    store = _store(storage, extractor=from_form("sid"))
    sid = await _stored(store, n=1)

    async def page(request: Request) -> Response:
        body = await request.body() if first == "body" else b""
        session = await get_session(request)
        return PlainTextResponse(f"{session.get('n')} {(body or await request.body()).decode()}")

    headers = [("content-type", "application/x-www-form-urlencoded")]
    pieces = [b"a=1&sid=", sid[:20].encode(), sid[20:].encode()]
    reply = await call(install(how, store, page, lazy=lazy), method="POST", headers=headers, body=pieces)
    assert reply.text == f"1 a=1&sid={sid}"


async def _refused_login(request: Request) -> Response:
    session = await get_session(request)
    await session.login("ada")
    if "save" in request.query_params:
        await session.save()
    return PlainTextResponse("welcome")


@pytest.mark.parametrize("query", ["", "save"])
async def test_a_login_over_the_limit_is_answered_409_with_no_cookie(how: str, storage: SpyStorage, query: str) -> None:
    store = _store(storage, max_sessions_per_owner=1, on_owner_limit="refuse")
    await store.create({}, owner="ada")
    reply = await call(install(how, store, _refused_login), query=query)
    assert (reply.status, reply.text, reply.cookies) == (409, "Conflict", {})
    assert len(await store.sessions_of("ada")) == 1


@pytest.mark.parametrize("skipped", [False, True])
async def test_an_error_of_the_application_reaches_the_server_also_after_one_of_ours_was_caught(
    how: str, storage: SpyStorage, skipped: bool
) -> None:
    def skip(view: RequestView) -> bool:
        return skipped

    store = _store(storage, skip=skip)
    sid = await _stored(store, n=1)
    storage.fail("load")

    async def page(request: Request) -> Response:
        with contextlib.suppress(SessionError):
            (await get_session(request)).get("n")
        raise ZeroDivisionError

    reply = await call(install(how, store, page), sid=sid)
    assert isinstance(reply.error, ZeroDivisionError)
    assert reply.status == (500 if skipped else 503)


async def test_an_error_of_ours_that_was_caught_is_the_handlers_own_affair(how: str, storage: SpyStorage) -> None:
    store = _store(storage)
    sid = await _stored(store, n=1)
    storage.fail("load")

    async def page(request: Request) -> Response:
        try:
            return PlainTextResponse(str((await get_session(request)).get("n")))
        except StorageUnavailable:
            return PlainTextResponse("degraded")

    reply = await call(install(how, store, page), sid=sid)
    assert (reply.status, reply.text, reply.error) == (200, "degraded", None)


async def test_an_id_from_a_url_is_used_and_not_promoted(how: str, storage: SpyStorage) -> None:
    store = _store(
        storage,
        extractor=chain(
            from_cookie("sid"), chain(from_header("X-Sid"), from_query("q")), from_param("id", path="/share/{id}")
        ),
    )
    sid = await _stored(store, n=1)

    async def page(request: Request) -> Response:
        session = await get_session(request)
        if request.query_params.get("do") == "write":
            session["n"] += 1
        elif request.query_params.get("do") == "login":
            await session.login("ada")
        elif request.query_params.get("do") == "destroy":
            await session.destroy()
        return PlainTextResponse(str(session.get("n")))

    app = install(how, store, page)
    stale = [("cookie", f"sid={'A' * 43}")]
    for path, query in [("/", f"q={sid}"), (f"/share/{sid}", ""), ("/", f"q={sid}&do=write")]:
        reply = await call(app, path, query=query, headers=stale)
        assert reply.text == ("2" if "write" in query else "1")
        assert (reply.cookies, reply.all("x-sid")) == ({}, [])
        assert reply.all("vary") == ["Cookie, X-Sid"]
    reply = await call(app, query=f"q={sid}&do=login", headers=stale)
    (minted,) = reply.all("x-sid")
    assert minted != sid
    assert reply.cookies == {"sid": minted}
    assert (await call(app, query=f"q={minted}&do=destroy", headers=stale)).cookies == {}
    assert len(storage.inner) == 0


async def test_every_place_of_a_chain_is_tried_until_an_id_is_alive(how: str, storage: SpyStorage) -> None:
    store = _store(storage, extractor=chain(from_cookie("a"), from_cookie("b"), from_header("X-Sid")))
    sid = await _stored(store, n=1)
    storage.calls.clear()
    headers = [("cookie", f"a={'A' * 43}; b=malformed"), ("x-sid", sid)]
    reply = await call(install(how, store, _read), headers=headers)
    assert (reply.text, reply.cookies, reply.all("x-sid")) == ('{"n":1}', {}, [])
    assert storage.calls == ["load", "load"]


@pytest.mark.parametrize("waits", [False, True])
async def test_an_extractor_of_ones_own_reads_and_the_core_answers_in_its_place(
    how: str, storage: SpyStorage, waits: bool
) -> None:
    def at_once(view: RequestView) -> str | None:
        return next((value.removeprefix("sid:") for value in view.header("Authorization")), None)

    async def later(view: RequestView) -> str | None:
        await checkpoint()
        return at_once(view)

    store = _store(storage, extractor=Extractor(later if waits else at_once, Source.HEADER, "Authorization"))
    sid = await _stored(store, n=1)

    async def page(request: Request) -> Response:
        session = await get_session(request)
        await session.regenerate()
        return PlainTextResponse(str(session["n"]))

    reply = await call(install(how, store, page), headers=[("authorization", f"sid:{sid}")])
    assert reply.text == "1"
    assert reply.all("vary") == ["Authorization"]
    (minted,) = reply.all("authorization")
    assert minted != sid
    async with store.open(minted) as session:
        assert session["n"] == 1


@pytest.mark.parametrize("saves", [False, True])
@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("verb", ["write", "regenerate", "login", "destroy", "reset"])
async def test_a_server_error_keeps_what_was_ended_and_the_rest_only_if_configured(
    how: str, storage: SpyStorage, verb: str, raises: bool, saves: bool
) -> None:
    store = _store(storage, save_on_server_error=saves)
    sid = await _stored(store, n=1)

    async def page(request: Request) -> Response:
        session = await get_session(request)
        if verb == "write":
            session["n"] = 2
        elif verb == "login":
            await session.login("ada")
        else:
            await {"regenerate": session.regenerate, "destroy": session.destroy, "reset": session.reset}[verb]()
        if raises:
            raise ZeroDivisionError
        return PlainTextResponse("sorry", 502)

    reply = await call(install(how, store, page), sid=sid)
    assert isinstance(reply.error, ZeroDivisionError) is raises
    now = await call(install(how, store, _read), sid=sid)
    if verb in {"destroy", "reset"}:
        assert now.text == "{}"
        assert len(storage.inner) == 0
    elif not saves:
        assert (now.text, reply.cookies) == ('{"n":1}', {})
        assert await store.sessions_of("ada") == []
    elif verb == "write":
        assert now.text == '{"n":2}'
    elif not raises:
        assert now.text == "{}"
        assert (await call(install(how, store, _read), sid=reply.cookies[NAME])).text == '{"n":1}'


@pytest.mark.parametrize(("code", "kept"), [(1000, True), (1008, True), (1011, False)])
async def test_what_a_websocket_changed_is_stored_before_it_is_closed(
    storage: SpyStorage, code: int, kept: bool
) -> None:
    store = _store(storage)
    sid = await _stored(store, n=1)
    seen: list[object] = []

    async def talk(scope: Any, receive: Any, send: Any) -> None:
        socket = WebSocket(scope, receive, send)
        session = await get_session(socket)
        await socket.accept()
        session["n"] = 2
        await socket.close(code)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        if message["type"] == "websocket.close":
            async with store.open(sid) as session:
                seen.append(session["n"])

    cookie = (b"cookie", f"{NAME}={sid}".encode())
    scope = {"type": "websocket", "scheme": "wss", "path": "/", "query_string": b"", "headers": [cookie]}
    await SessionMiddleware(talk, store)(scope, receive, send)
    assert seen == [2 if kept else 1]


async def test_a_websocket_whose_changes_cannot_be_stored_is_not_closed_as_if_they_were(storage: SpyStorage) -> None:
    store = _store(storage)
    sid = await _stored(store, n=1)
    storage.fail("replace")
    sent: list[str] = []

    async def talk(scope: Any, receive: Any, send: Any) -> None:
        socket = WebSocket(scope, receive, send)
        await socket.accept()
        (await get_session(socket))["n"] = 2
        await socket.close()

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    cookie = (b"cookie", f"{NAME}={sid}".encode())
    scope = {"type": "websocket", "scheme": "wss", "path": "/", "query_string": b"", "headers": [cookie]}
    with pytest.raises(StorageUnavailable):
        await SessionMiddleware(talk, store)(scope, receive, send)
    assert sent == ["websocket.accept"]


@pytest.mark.parametrize("around", [False, True])
@pytest.mark.parametrize("lazy", [False, True])
async def test_a_session_in_fastapi_lives_through_dependencies_and_background_tasks(
    storage: SpyStorage, around: bool, lazy: bool
) -> None:
    store = _store(storage)
    app = FastAPI()

    async def trail(session: SessionDep) -> AsyncGenerator[None]:
        session["trail"] = ["before"]
        yield
        session["trail"].append("after")

    @app.get("/", dependencies=[Depends(trail)])
    def page(session: SessionDep, tasks: BackgroundTasks) -> str:
        tasks.add_task(session.set, "late", True)
        session["n"] = 1
        return "done"

    assert page.__name__ == "page"
    assert "parameters" not in app.openapi()["paths"]["/"]["get"]
    served: Any = app
    if around:
        served = SessionMiddleware(app, store, lazy=lazy)
    else:
        app.add_middleware(SessionMiddleware, store=store, lazy=lazy)
    reply = await call(served)
    async with store.open(reply.cookies[NAME]) as session:
        assert dict(session) == {"trail": ["before", "after"], "n": 1, "late": True}
