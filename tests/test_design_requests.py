"""One request as a user sees it, in every way to install the middleware: stated once, true in all of them."""

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from tests.installs import INSTALLS, call, install
from tests.stores import SpyStorage

from sessioncore import SessionConfig, SessionStore, StorageUnavailable, from_form
from sessioncore_asgi import get_session

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
    storage.down.add("load")
    reply = await call(install(how, store, _peek, lazy=lazy), sid=sid)
    assert (reply.status, reply.text, reply.cookies) == (200, "peek", {})
    reply = await call(install(how, store, _read, lazy=lazy), sid=sid)
    assert (reply.status, reply.text, reply.cookies) == (503, "Service Unavailable", {})
    storage.down.clear()
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
    storage.down.add("load")
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
