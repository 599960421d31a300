"""A storage failure is an error for the client, whoever catches it on the way (P7); attack list H."""

import gc
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from tests.stores import SpyStorage
from tests.views import PlainView

from sessioncore import Exchange, OwnerLimitReached, Session, SessionConfig, SessionStore, StorageUnavailable
from sessioncore_asgi import SessionMiddleware
from sessioncore_asgi._types import Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio


async def write(request: Request) -> Response:
    request.session["n"] = 1
    return PlainTextResponse("written")


async def read(request: Request) -> Response:
    return PlainTextResponse(str(request.session.get("n")))


async def logout(request: Request) -> Response:
    await request.session.destroy()  # type: ignore[attr-defined]
    return PlainTextResponse("bye")


async def save(request: Request) -> Response:
    request.session["n"] = 2
    await request.session.save()  # type: ignore[attr-defined]
    return PlainTextResponse("saved")


async def login(request: Request) -> Response:
    await request.session.login("ada")  # type: ignore[attr-defined]
    return PlainTextResponse("hello")


async def plain(request: Request) -> Response:
    return PlainTextResponse("plain")


async def careful(request: Request) -> Response:
    try:
        return PlainTextResponse(str(request.session.get("n")))
    except StorageUnavailable:
        return PlainTextResponse("please come back", status_code=503)


HANDLERS: list[Callable[[Request], Awaitable[Response]]] = [write, read, logout, save, login, plain, careful]


def inside(store: SessionStore) -> Any:
    app = Starlette(routes=[Route(f"/{handler.__name__}", handler) for handler in HANDLERS])
    app.add_middleware(SessionMiddleware, store=store)
    return app


def around(store: SessionStore) -> Any:
    """Starlette's outermost middleware turns every exception into a 500 of its own before ours sees it."""
    return SessionMiddleware(Starlette(routes=[Route(f"/{handler.__name__}", handler) for handler in HANDLERS]), store)


@pytest.fixture(params=[inside, around])
def install(request: pytest.FixtureRequest) -> Callable[[SessionStore], Any]:
    chosen: Callable[[SessionStore], Any] = request.param
    return chosen


@pytest.mark.parametrize(
    ("broken", "path", "status"),
    [
        ("load", "/read", 503),
        ("load", "/write", 503),
        ("load", "/logout", 503),
        ("load", "/plain", 200),
        ("load", "/careful", 503),
        ("replace", "/write", 503),
        ("replace", "/save", 503),
        ("delete", "/logout", 503),
        ("move", "/login", 503),
        ("replace", "/read", 200),
    ],
)
async def test_a_failure_is_a_503_where_the_session_was_needed(
    install: Callable[[SessionStore], Any], broken: str, path: str, status: int
) -> None:
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    session = await store.create({"n": 0})
    cookie = {"cookie": f"__Host-session_id={session.id}"}
    transport = httpx.ASGITransport(install(store), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://shop.example") as client:
        storage.fail(broken)
        response = await client.get(path, headers=cookie)
        assert response.status_code == status
        assert "set-cookie" not in response.headers
        if status == 503 and path != "/careful":
            assert response.text == "Service Unavailable"
            assert response.headers["cache-control"] == "no-store"
        if path == "/careful":
            assert response.text == "please come back"
        storage.restore()
        assert (await client.get("/read", headers=cookie)).text == "0"


async def test_a_refused_login_is_a_409(install: Callable[[SessionStore], Any]) -> None:
    store = SessionStore(SessionConfig(storage=SpyStorage(), max_sessions_per_owner=1, on_owner_limit="refuse"))
    await store.create({}, owner="ada")
    transport = httpx.ASGITransport(install(store), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://shop.example") as client:
        response = await client.get("/login")
    assert (response.status_code, response.text) == (409, "Conflict")
    assert "set-cookie" not in response.headers


async def test_on_error_answers_instead(install: Callable[[SessionStore], Any]) -> None:
    seen: list[type[Exception]] = []

    def on_error(view: Any, error: Exception) -> tuple[int, str] | None:
        seen.append(type(error))
        return (599, "our own words") if view.path == "/write" else None

    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage, on_error=on_error))
    storage.fail("create")
    transport = httpx.ASGITransport(install(store), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="https://shop.example") as client:
        response = await client.get("/write")
        assert (response.status_code, response.text) == (599, "our own words")
        assert (await client.get("/login")).status_code == 503
    assert seen == [StorageUnavailable, StorageUnavailable]
    assert OwnerLimitReached not in seen


@pytest.mark.anyio
async def test_failures_leave_nothing_that_the_garbage_collector_cannot_take(caplog: pytest.LogCaptureFixture) -> None:
    # An error holds the frames that it went through, and these the session: cycles that nobody but the
    # collector cuts. It cannot, if a link of one is a Struct that was taken from it by gc=False.
    caplog.set_level(logging.CRITICAL, "sessioncore")  # pytest keeps what is logged, and with it the tracebacks
    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))

    async def fail() -> None:
        try:
            raise OSError("the disk is full")
        except OSError as exc:
            raise StorageUnavailable("written by halves") from exc

    async def use(session: Session) -> None:
        session.mutate("n", lambda value: value + len(session), default=0)  # the change holds the session
        storage.before["create"] = fail
        with pytest.raises(StorageUnavailable):
            await session.save()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await use(scope["session"])
        raise ValueError("of the application")

    async def receive() -> Message:
        raise AssertionError

    async def send(_: Message) -> None:
        pass

    gc.collect()
    before = sum(type(thing) in {Session, Exchange} for thing in gc.get_objects())
    for _ in range(5):
        with pytest.raises(ValueError, match="of the application"):
            await SessionMiddleware(app, store)({"type": "http", "path": "/", "headers": []}, receive, send)
        await use(await store.get(PlainView()))  # and nobody releases it
    gc.collect()
    assert sum(type(thing) in {Session, Exchange} for thing in gc.get_objects()) == before
