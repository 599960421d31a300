"""What is peculiar to Litestar: its request methods, its layers, its exceptions, its injection of dependencies."""

import gc
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import attrs
import pytest
from litestar import Controller, Litestar, Request, Response, WebSocket, asgi, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.exceptions import NotAuthorizedException, WebSocketDisconnect
from litestar.handlers import BaseRouteHandler
from litestar.params import FromQuery
from litestar.response import ServerSentEvent
from litestar.testing import TestClient
from litestar.types import Empty
from msgspec import Struct
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware as StarletteSessions
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route
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

AnyRequest: TypeAlias = Request[Any, Any, Any]
SessionDep: TypeAlias = NamedDependency[Session]
AnySocket: TypeAlias = WebSocket[Any, Any, Any]
Open = Callable[..., TestClient[Litestar]]
COOKIE = "__Host-session_id"


@pytest.fixture
def storage() -> SpyStorage:
    return SpyStorage()


@pytest.fixture
def store(storage: SpyStorage) -> SessionStore:
    return SessionStore(SessionConfig(storage=storage))


@pytest.fixture(params=["asyncio", "trio"])
def visit(request: pytest.FixtureRequest, store: SessionStore) -> Iterator[Open]:
    """Serve handlers with the plugin, and return a client over https."""
    with ExitStack() as stack:

        def open_(*handlers: Any, plugin: SessionPlugin | None = None, **options: Any) -> TestClient[Litestar]:
            options.setdefault("plugins", [plugin or SessionPlugin(store)])
            app = Litestar([*handlers], **options)
            client = TestClient(
                app, "https://testserver.local", backend=request.param, raise_server_exceptions=False, timeout=10
            )
            return stack.enter_context(client)

        yield open_


def _set(connection: Any, value: object) -> None:
    connection.set_session(value)  # its type is half unknown to pyright


@post("/write")
async def write(request: AnyRequest) -> None:
    request.session["n"] = request.session.get("n", 0) + 1


@get("/read")
async def read(request: AnyRequest) -> dict[str, Any]:
    return dict(request.session)


# -- the request's own methods


class AsStruct(Struct):
    tags: list[str]
    user: str = "ada"


@dataclass
class AsDataclass:
    user: str = "ada"
    tags: tuple[str, ...] = ("a",)


@attrs.define
class AsAttrs:
    user: str = "ada"
    tags: frozenset[str] = frozenset("a")


class AsModel(BaseModel):
    user: str = "ada"
    tags: list[str] = ["a"]


@pytest.mark.parametrize(
    ("given", "tags"),
    [
        ({"user": "ada", "tags": ["a"]}, ["a"]),
        (AsStruct(["a"]), ["a"]),
        (AsDataclass(), ["a"]),
        (AsAttrs(), ["a"]),
        (AsModel(), ["a"]),
    ],
    ids=["dict", "Struct", "dataclass", "attrs", "pydantic"],
)
def test_set_session_replaces_the_data(visit: Open, storage: SpyStorage, given: Any, tags: object) -> None:
    @post("/replace")
    async def replace(request: AnyRequest) -> None:
        _set(request, given)

    client = visit(write, read, replace)
    client.post("/write")
    before = client.cookies[COOKIE]
    assert client.post("/replace").headers.get("set-cookie") is None
    assert client.get("/read").json() == {"user": "ada", "tags": tags}
    assert client.cookies[COOKIE] == before
    assert storage.calls == ["open", "create", "load", "replace", "load"]


def test_set_session_begins_a_session(visit: Open, storage: SpyStorage) -> None:
    @post("/begin")
    async def begin(request: AnyRequest) -> str | None:
        _set(request, {"n": 41})
        request.session["n"] += 1
        return request.get_session_id()

    client = visit(begin, read)
    assert client.post("/begin").text == client.cookies[COOKIE]
    assert client.get("/read").json() == {"n": 42}


def test_set_session_with_nothing_new_writes_nothing(visit: Open, storage: SpyStorage) -> None:
    @post("/same")
    async def same(request: AnyRequest) -> None:
        _set(request, dict(request.session))

    client = visit(write, same)
    client.post("/write")
    assert "set-cookie" not in client.post("/same").headers
    assert storage.calls == ["open", "create", "load"]


@pytest.mark.parametrize("value", ["clear", None, Empty], ids=["clear_session", "None", "Empty"])
def test_clear_session_ends_the_session(visit: Open, storage: SpyStorage, value: Any) -> None:
    @post("/clear")
    async def clear(request: AnyRequest) -> str | None:
        if value == "clear":
            request.clear_session()
        else:
            _set(request, value)
        return request.get_session_id() if value is not None else None

    client = visit(write, clear, read)
    client.post("/write")
    reply = client.post("/clear")
    assert "Max-Age=0" in reply.headers["set-cookie"]
    assert reply.text in {"", "null"}
    assert len(storage.inner) == 0
    assert COOKIE not in client.cookies
    assert client.get("/read").json() == {}


def test_clear_session_of_a_stranger_does_nothing(visit: Open, storage: SpyStorage) -> None:
    @post("/clear")
    async def clear(request: AnyRequest) -> None:
        request.clear_session()

    assert "set-cookie" not in visit(clear).post("/clear").headers
    assert storage.calls == ["open"]


def test_clear_session_holds_when_the_handler_fails_afterwards(visit: Open, storage: SpyStorage) -> None:
    @post("/clear")
    async def clear(request: AnyRequest) -> None:
        request.clear_session()
        raise RuntimeError

    @post("/replace")
    async def replace(request: AnyRequest) -> None:
        _set(request, {"lost": True})
        raise RuntimeError

    client = visit(write, clear, replace, read)
    client.post("/write")
    assert client.post("/replace").status_code == 500
    assert client.get("/read").json() == {"n": 1}
    assert client.post("/clear").status_code == 500
    assert len(storage.inner) == 0


def test_clear_session_that_fails_is_an_error(visit: Open, storage: SpyStorage) -> None:
    @post("/clear")
    async def clear(request: AnyRequest) -> None:
        request.clear_session()

    client = visit(write, clear, read)
    client.post("/write")
    storage.down.add("delete")
    reply = client.post("/clear")
    assert (reply.status_code, reply.text) == (503, "Service Unavailable")
    assert "set-cookie" not in reply.headers
    storage.down.clear()
    assert client.get("/read").json() == {"n": 1}


@pytest.mark.parametrize("value", [42, "text", ["list"], {1: 2}], ids=repr)
def test_set_session_refuses_what_has_no_keys(visit: Open, storage: SpyStorage, value: Any) -> None:
    @post("/replace")
    async def replace(request: AnyRequest) -> None:
        _set(request, value)

    client = visit(write, replace, read)
    client.post("/write")
    reply = client.post("/replace")
    assert (reply.status_code, reply.text) == (500, "Internal Server Error")
    assert client.get("/read").json() == {"n": 1}


def test_get_session_acts_on_what_set_session_was_given(visit: Open) -> None:
    @post("/replace")
    async def replace(request: AnyRequest) -> None:
        _set(request, {"a": 1})
        session = await get_session(request)
        session["b"] = 2
        await session.save()
        assert request.session is session

    client = visit(replace, read)
    client.post("/replace")
    assert client.get("/read").json() == {"a": 1, "b": 2}


def test_the_id_is_told_when_asked_for_and_else_nothing_is_touched(visit: Open, storage: SpyStorage) -> None:
    @get("/id")
    async def tell(request: AnyRequest) -> str:
        return request.get_session_id() or "none"

    @post("/renew")
    async def renew(request: AnyRequest, session: SessionDep) -> str:
        await session.regenerate()
        return request.get_session_id() or "none"

    @get("/quiet")
    async def quiet() -> None: ...

    client = visit(tell, renew, quiet, write)
    assert len(client.get("/id").text) == 43
    assert storage.calls == ["open"]
    client.post("/write")
    assert client.get("/id").text == client.cookies[COOKIE]
    assert client.post("/renew").text == client.cookies[COOKIE]
    assert not {"vary", "set-cookie", "cache-control"} & set(client.get("/quiet").headers)


# -- by dependency injection


def test_the_session_is_a_parameter(visit: Open) -> None:
    @post("/count")
    async def count(session: SessionDep) -> int:
        return int(session.mutate("n", lambda n: n + 1, 0))

    @post("/sync", sync_to_thread=False)
    def sync(session: SessionDep) -> int:
        session["n"] += 1
        return int(session["n"])

    @post("/thread", sync_to_thread=True)
    def thread(session: SessionDep) -> int:
        session["n"] += 1
        return int(session["n"])

    client = visit(count, sync, thread)
    assert [client.post(path).json() for path in ("/count", "/sync", "/thread")] == [1, 2, 3]


@pytest.mark.filterwarnings("ignore:.*Inferred dependency")
def test_the_session_is_a_parameter_by_its_name_alone(visit: Open) -> None:
    @post("/count")
    async def count(session: Session) -> int:
        return int(session.mutate("n", lambda n: n + 1, 0))

    client = visit(count)
    assert [client.post("/count").json() for _ in range(2)] == [1, 2]


def test_a_dependency_may_depend_on_the_session(visit: Open) -> None:
    async def user(session: SessionDep) -> str:
        return session.owner or "nobody"

    @get("/whoami", dependencies={"user": user})
    async def whoami(user: NamedDependency[str]) -> str:
        return user

    @post("/login")
    async def login(session: SessionDep) -> None:
        await session.login("ada")

    client = visit(whoami, login)
    assert client.get("/whoami").text == "nobody"
    client.post("/login")
    assert client.get("/whoami").text == "ada"


def test_openapi_does_not_list_the_session(visit: Open) -> None:
    @get("/count")
    async def count(session: SessionDep, page: FromQuery[int] = 1) -> int:
        return page

    client: Any = visit(count)
    schema = client.app.openapi_schema.to_schema()
    operation = schema["paths"]["/count"]["get"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["page"]
    assert "Session" not in str(schema.get("components"))


def test_lazy_loads_for_those_who_ask(visit: Open, store: SessionStore, storage: SpyStorage) -> None:
    @get("/quiet")
    async def quiet() -> None: ...

    @get("/asks")
    async def asks(session: SessionDep) -> dict[str, Any]:
        return dict(session)

    @get("/awaits")
    async def awaits(request: AnyRequest) -> dict[str, Any]:
        return dict(await get_session(request))

    @get("/takes")
    async def takes(request: AnyRequest) -> dict[str, Any]:
        return dict(request.session)

    client = visit(quiet, asks, awaits, takes, plugin=SessionPlugin(store, lazy=True))
    made = client.blocking_portal.call(store.create, {"n": 1})
    client.cookies.set(COOKIE, made.id)
    storage.calls.clear()
    assert client.get("/quiet").status_code == 200
    assert storage.calls == []
    assert client.get("/asks").json() == client.get("/awaits").json() == {"n": 1}
    assert storage.calls == ["load", "load"]
    assert client.get("/takes").status_code == 500


def test_two_stores_have_two_parameters(visit: Open, store: SessionStore) -> None:
    admin = SessionStore(SessionConfig(extractor=from_cookie("__Host-admin")))

    @post("/both")
    async def both(session: SessionDep, admin_session: SessionDep) -> None:
        session["n"], admin_session["n"] = 1, 2

    @get("/both")
    async def show(session: SessionDep, admin_session: SessionDep) -> list[int]:
        return [session["n"], admin_session["n"]]

    client = visit(both, show, plugins=[SessionPlugin(store), SessionPlugin(admin, scope_key="admin_session")])
    client.post("/both")
    assert set(client.cookies) == {COOKIE, "__Host-admin"}
    assert client.get("/both").json() == [1, 2]


# -- layers


def test_excluded_routes_have_no_session(visit: Open, store: SessionStore, storage: SpyStorage) -> None:
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

    client = visit(by_path, by_opt, asks, Quiet, write, plugin=SessionPlugin(store, exclude=["^/static/"]))
    client.post("/write")
    storage.calls.clear()
    for path in ("/static/logo", "/health", "/quiet/one"):
        assert client.get(path).json() is False
    assert client.get("/asks").status_code == 500
    assert storage.calls == []


def test_the_opt_key_has_the_name_that_one_chooses(visit: Open, store: SessionStore) -> None:
    @get("/health", no_session=True)
    async def health(request: AnyRequest) -> bool:
        return "session" in request.scope

    client = visit(health, plugin=SessionPlugin(store, exclude_opt_key="no_session"))
    assert client.get("/health").json() is False


def test_a_path_that_is_not_routed_costs_nothing(visit: Open, storage: SpyStorage) -> None:
    client = visit(write)
    client.post("/write")
    storage.calls.clear()
    assert client.get("/nowhere").status_code == 404
    assert client.get("/write").status_code == 405
    assert storage.calls == []


def test_one_layer_alone_can_have_sessions(visit: Open, store: SessionStore) -> None:
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

    client = visit(Shop, outside, plugins=[])
    assert client.post("/shop/count").json() == 1
    assert client.post("/shop/count").json() == 2
    assert client.post("/shop/fail").text == "Internal Server Error"
    assert client.get("/outside").json() is False


def test_an_id_may_stand_in_the_path(visit: Open) -> None:
    place = chain(from_cookie(COOKIE), from_param("sid"))
    store = SessionStore(SessionConfig(extractor=place))

    @get("/share/{sid:str}")
    async def share(session: SessionDep) -> dict[str, Any]:
        return dict(session)

    client = visit(share, plugin=SessionPlugin(store))
    made = client.blocking_portal.call(store.create, {"n": 1})
    reply = client.get(f"/share/{made.id}")
    assert reply.json() == {"n": 1}
    assert "set-cookie" not in reply.headers


def test_guards_see_the_session(visit: Open) -> None:
    async def members(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        if (await get_session(connection)).owner is None:
            raise NotAuthorizedException

    @get("/secret", guards=[members])
    async def secret() -> str:
        return "secret"

    @post("/login")
    async def login(session: SessionDep) -> None:
        await session.login("ada")

    client = visit(secret, login)
    assert client.get("/secret").status_code == 401
    client.post("/login")
    assert client.get("/secret").text == "secret"


def test_hooks_of_litestar_may_use_the_session(visit: Open) -> None:
    async def before(request: AnyRequest) -> None:
        request.session["before"] = True

    async def after(response: Response[Any]) -> Response[Any]:
        return response

    client = visit(write, read, before_request=before, after_request=after)
    client.post("/write")
    assert client.get("/read").json() == {"before": True, "n": 1}


# -- exceptions that Litestar turns into responses


def test_an_applications_own_handler_for_our_errors_comes_first(visit: Open, storage: SpyStorage) -> None:
    def sorry(request: AnyRequest, error: SessionError) -> Response[str]:
        return Response("sorry", status_code=507, media_type="text/plain")

    @post("/fail")
    async def fail(session: SessionDep) -> None:
        await session.login("")

    assert visit(fail).post("/fail").text == "Internal Server Error"
    reply = visit(fail, exception_handlers={SessionError: sorry}).post("/fail")
    assert (reply.status_code, reply.text) == (507, "sorry")


def test_a_handler_for_every_exception_does_not_hide_that_storage_is_down(visit: Open, storage: SpyStorage) -> None:
    def oops(request: AnyRequest, error: Exception) -> Response[str]:
        return Response("oops", status_code=500)

    client = visit(write, read, exception_handlers={Exception: oops, 500: oops})
    client.post("/write")
    storage.down.add("all")
    reply = client.get("/read")
    storage.down.clear()
    assert (reply.status_code, reply.text) == (503, "Service Unavailable")


def test_an_exception_with_a_page_of_its_own_keeps_what_was_written(visit: Open) -> None:
    class Teapot(Exception):
        pass

    @post("/brew")
    async def brew(session: SessionDep) -> None:
        session["brewed"] = True
        raise Teapot

    def pour(request: AnyRequest, error: Teapot) -> Response[str]:
        return Response("short and stout", status_code=418)

    client = visit(brew, read, exception_handlers={Teapot: pour})
    assert client.post("/brew").status_code == 418
    assert client.get("/read").json() == {"brewed": True}


def test_background_tasks_write_late(visit: Open, storage: SpyStorage) -> None:
    async def later(session: Session) -> None:
        session["later"] = True

    @post("/begin")
    async def begin(session: SessionDep) -> Response[None]:
        session["now"] = True
        return Response(None, background=BackgroundTask(later, session))

    client = visit(begin, read)
    client.post("/begin")
    assert client.get("/read").json() == {"now": True, "later": True}


def test_server_sent_events_write_late(visit: Open) -> None:
    @get("/events")
    async def events(session: SessionDep) -> ServerSentEvent:
        session["sent"] = 0

        async def numbers() -> AsyncGenerator[str, None]:
            for number in range(3):
                session["sent"] += 1
                yield str(number)

        return ServerSentEvent(numbers())

    client = visit(events, read)
    assert client.get("/events").text.count("data: ") == 3
    assert client.get("/read").json() == {"sent": 3}


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
            _set(socket, {"replaced": True})
        elif word == "clear":
            socket.clear_session()
        elif word == "fail":
            session["lost"] = True
            raise RuntimeError
    await socket.close()


@pytest.mark.parametrize(
    ("word", "left"), [("stay", {"n": 2}), ("replace", {"replaced": True}), ("clear", {}), ("fail", {"n": 2})]
)
def test_a_websocket_ends_as_a_request_does(visit: Open, word: str, left: object) -> None:
    client = visit(talk, write, read)
    client.post("/write")
    with client.websocket_connect("/ws", headers=_cookie(client)) as socket:
        socket.send_text(word)
        socket.send_text("end")
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_text()
        assert caught.value.code == (4500 if word == "fail" else 1000)
    assert client.get("/read").json() == left


def test_a_failure_before_the_handshake_stores_nothing(visit: Open, storage: SpyStorage) -> None:
    @websocket("/broken")
    async def broken(socket: AnySocket, session: SessionDep) -> None:
        session["lost"] = True
        raise RuntimeError

    client = visit(broken, write, read)
    client.post("/write")
    with pytest.raises(WebSocketDisconnect) as caught, client.websocket_connect("/broken", headers=_cookie(client)):
        pass
    assert caught.value.code == 4500
    assert client.get("/read").json() == {"n": 1}


# -- mounted applications


def test_a_mounted_application_shares_the_session(visit: Open) -> None:
    async def count(request: StarletteRequest) -> JSONResponse:
        request.session["n"] += 1
        return JSONResponse(request.session["n"])

    mounted = asgi("/mounted", is_mount=True, copy_scope=True)(Starlette(routes=[Route("/count/", count)]))
    client = visit(mounted, write, read)
    client.post("/write")
    assert client.get("/mounted/count").json() == 2
    assert client.get("/read").json() == {"n": 2}


def test_a_mounted_application_with_sessions_of_its_own_leaves_ours_alone(visit: Open, storage: SpyStorage) -> None:
    async def count(request: StarletteRequest) -> JSONResponse:
        request.session["own"] = request.session.get("own", 0) + 1
        scope: Any = request.scope
        assert (await get_session(scope))["n"] == 1
        return JSONResponse(request.session["own"])

    sessions = Middleware(StarletteSessions, secret_key="a secret")
    admin = Starlette(routes=[Route("/count/", count)], middleware=[sessions])
    mounted = asgi("/admin", is_mount=True, copy_scope=False)(admin)
    client = visit(mounted, write, read)
    client.post("/write")
    before = client.cookies[COOKIE]
    assert [client.get("/admin/count").json() for _ in range(2)] == [1, 2]
    assert client.cookies[COOKIE] == before
    assert client.get("/read").json() == {"n": 1}


# -- lifespan and garbage


def test_the_storage_lives_as_long_as_the_application(visit: Open, store: SessionStore, storage: SpyStorage) -> None:
    seen: list[list[str]] = []

    def look() -> None:
        seen.append(list(storage.calls))

    with TestClient(Litestar([], plugins=[SessionPlugin(store)], on_startup=[look], on_shutdown=[look])):
        pass
    assert seen == [["open"], ["open"]]
    assert storage.calls == ["open", "aclose"]


def test_a_storage_that_does_not_open_stops_the_application(store: SessionStore, storage: SpyStorage) -> None:
    storage.down.add("open")
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
