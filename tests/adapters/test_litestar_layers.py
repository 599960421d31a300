"""Litestar's layers, hooks and exceptions: who has a session, and what is stored."""

from collections.abc import AsyncGenerator
from typing import Any

from litestar import Controller, Response, get, post
from litestar.background_tasks import BackgroundTask
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import ASGIMiddleware
from litestar.response import ServerSentEvent, Stream
from litestar.types import ASGIApp, Receive, Scope, Send
from tests.adapters.litestar_kit import COOKIE, AnyRequest, Open, SessionDep, put, read, write
from tests.stores import SpyStorage

from sessioncore import (
    Session,
    SessionConfig,
    SessionError,
    SessionStore,
    chain,
    from_cookie,
    from_param,
)
from sessioncore_litestar import SessionBackendConfig, SessionPlugin, get_session

# -- layers


def test_excluded_routes_have_no_session(enter: Open, store: SessionStore, storage: SpyStorage) -> None:
    @get("/static/logo")
    async def by_path(request: AnyRequest) -> bool:
        return "session" in request.scope

    @get("/health", skip_session=True)
    async def by_opt(request: AnyRequest) -> bool:
        return "session" in request.scope

    @get("/asks", skip_session=True)
    async def asks(session: SessionDep) -> None: ...

    class Quiet(Controller):
        path = "/quiet"
        opt = {"skip_session": True}

        @get("/one")
        async def one(self, request: AnyRequest) -> bool:
            return "session" in request.scope

    client = enter(by_path, by_opt, asks, Quiet, write, plugin=SessionPlugin(store, exclude=["^/static/"]))
    client.post("/write")
    storage.calls.clear()
    for path in ("/static/logo", "/health", "/quiet/one"):
        assert client.get(path).json() is False
    assert client.get("/asks").status_code == 500
    assert storage.calls == []


def test_the_opt_key_has_the_name_that_one_chooses(enter: Open, store: SessionStore) -> None:
    @get("/health", no_session=True)
    async def health(request: AnyRequest) -> bool:
        return "session" in request.scope

    client = enter(health, plugin=SessionPlugin(store, exclude_opt_key="no_session"))
    assert client.get("/health").json() is False


def test_a_path_that_is_not_routed_costs_nothing(enter: Open, storage: SpyStorage) -> None:
    client = enter(write)
    client.post("/write")
    storage.calls.clear()
    assert client.get("/nowhere").status_code == 404
    assert client.get("/write").status_code == 405
    assert storage.calls == []


def test_one_layer_alone_can_have_sessions(enter: Open, store: SessionStore) -> None:
    class Shop(Controller):
        path = "/shop"
        middleware = [SessionBackendConfig(store).middleware]

        @post("/count")
        async def count(self, request: AnyRequest) -> int:
            session = await get_session(request)
            session["n"] = session.get("n", 0) + 1
            return int(session["n"])

        @post("/fail")
        async def fail(self, request: AnyRequest) -> None:
            (await get_session(request)).set_idle_timeout("soon")  # type: ignore[arg-type]  # what is refused

    @get("/outside")
    async def outside(request: AnyRequest) -> bool:
        return "session" in request.scope

    client = enter(Shop, outside, plugins=[])
    assert client.post("/shop/count").json() == 1
    assert client.post("/shop/count").json() == 2
    assert client.post("/shop/fail").text == "Internal Server Error"
    assert client.get("/outside").json() is False


def test_one_handler_alone_can_have_sessions(enter: Open, store: SessionStore) -> None:
    class Shop(Controller):  # its handlers are deep copies, their middleware too
        path = "/shop"

        @post("/count", middleware=[SessionBackendConfig(store).middleware])
        async def count(self, request: AnyRequest) -> int:
            session = await get_session(request)
            session["n"] = session.get("n", 0) + 1
            return int(session["n"])

    client = enter(Shop, plugins=[])
    assert [client.post("/shop/count").json() for _ in range(2)] == [1, 2]
    assert client.blocking_portal.call(store.reset) == 1


def test_middleware_of_the_application_may_use_the_session(enter: Open) -> None:
    class Count(ASGIMiddleware):
        async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
            session = await get_session(scope)
            session["seen"] = session.get("seen", 0) + 1
            await next_app(scope, receive, send)

    client = enter(read, middleware=[Count()])
    assert [client.get("/read").json() for _ in range(2)] == [{"seen": 1}, {"seen": 2}]


def test_an_id_may_stand_in_the_path(enter: Open) -> None:
    place = chain(from_cookie(COOKIE), from_param("sid"))
    store = SessionStore(SessionConfig(extractor=place))

    @get("/share/{sid:str}")
    async def share(session: SessionDep) -> dict[str, Any]:
        return dict(session)

    client = enter(share, plugin=SessionPlugin(store))
    made = client.blocking_portal.call(store.create, {"n": 1})
    reply = client.get(f"/share/{made.id}")
    assert reply.json() == {"n": 1}
    assert "set-cookie" not in reply.headers


def test_guards_see_the_session(enter: Open) -> None:
    async def members(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        if (await get_session(connection)).owner is None:
            raise NotAuthorizedException

    @get("/secret", guards=[members])
    async def secret() -> str:
        return "secret"

    @post("/login")
    async def login(session: SessionDep) -> None:
        await session.login("ada")

    client = enter(secret, login)
    assert client.get("/secret").status_code == 401
    client.post("/login")
    assert client.get("/secret").text == "secret"


def test_hooks_of_litestar_may_use_the_session(enter: Open) -> None:
    async def before(request: AnyRequest) -> None:
        request.session["before"] = True

    async def after(response: Response[Any]) -> Response[Any]:
        return response

    client = enter(write, read, before_request=before, after_request=after)
    client.post("/write")
    assert client.get("/read").json() == {"before": True, "n": 1}


# -- exceptions that Litestar turns into responses


def test_an_applications_own_handler_for_our_errors_comes_first(enter: Open, storage: SpyStorage) -> None:
    def sorry(request: AnyRequest, error: SessionError) -> Response[str]:
        return Response("sorry", status_code=507, media_type="text/plain")

    @post("/fail")
    async def fail(session: SessionDep) -> None:
        await session.login("")

    assert enter(fail).post("/fail").text == "Internal Server Error"
    reply = enter(fail, exception_handlers={SessionError: sorry}).post("/fail")
    assert (reply.status_code, reply.text) == (507, "sorry")


def test_a_handler_for_every_exception_does_not_hide_that_storage_is_down(enter: Open, storage: SpyStorage) -> None:
    def oops(request: AnyRequest, error: Exception) -> Response[str]:
        return Response("oops", status_code=500)

    client = enter(write, read, exception_handlers={Exception: oops, 500: oops})
    client.post("/write")
    storage.fail()
    reply = client.get("/read")
    storage.restore()
    assert (reply.status_code, reply.text) == (503, "Service Unavailable")


def test_an_exception_with_a_page_of_its_own_keeps_what_was_written(enter: Open) -> None:
    class Teapot(Exception):
        pass

    @post("/brew")
    async def brew(session: SessionDep) -> None:
        session["brewed"] = True
        raise Teapot

    def pour(request: AnyRequest, error: Teapot) -> Response[str]:
        return Response("short and stout", status_code=418)

    client = enter(brew, read, exception_handlers={Teapot: pour})
    assert client.post("/brew").status_code == 418
    assert client.get("/read").json() == {"brewed": True}


def test_background_tasks_write_late(enter: Open, storage: SpyStorage) -> None:
    async def later(session: Session) -> None:
        session["later"] = True

    @post("/begin")
    async def begin(session: SessionDep) -> Response[None]:
        session["now"] = True
        return Response(None, background=BackgroundTask(later, session))

    client = enter(begin, read)
    client.post("/begin")
    assert client.get("/read").json() == {"now": True, "later": True}


def test_server_sent_events_write_late(enter: Open) -> None:
    @get("/events")
    async def events(session: SessionDep) -> ServerSentEvent:
        session["sent"] = 0

        async def numbers() -> AsyncGenerator[str, None]:
            for number in range(3):
                session["sent"] += 1
                yield str(number)

        return ServerSentEvent(numbers())

    client = enter(events, read)
    assert client.get("/events").text.count("data: ") == 3
    assert client.get("/read").json() == {"sent": 3}


def test_set_session_works_in_a_stream(enter: Open) -> None:
    @get("/stream")
    async def stream(request: AnyRequest) -> Stream:
        async def chunks() -> AsyncGenerator[bytes, None]:
            yield b"started"
            put(request, {"streamed": True})

        return Stream(chunks())

    client = enter(write, stream, read)
    client.post("/write")
    assert client.get("/stream").text == "started"
    assert client.get("/read").json() == {"streamed": True}
