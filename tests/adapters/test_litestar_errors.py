"""Litestar: a storage that is down on every kind of handler, and which handler answers an error."""

from typing import Any

import pytest
from litestar import Litestar, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.exceptions import NotAuthorizedException, NotFoundException
from litestar.handlers import BaseRouteHandler
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.testing import TestClient
from litestar.types import Scope
from tests.adapters.litestar_kit import AnyConnection, AnyRequest, Open, SessionDep, Watch, read, write
from tests.stores import SpyStorage

from sessioncore import (
    ConfigError,
    Extractor,
    Session,
    SessionConfig,
    SessionError,
    SessionNotLoaded,
    SessionStore,
    Source,
)
from sessioncore_litestar import SessionPlugin, get_session


class Teapot(Exception):
    pass


def count(session: Any) -> int:
    session["n"] = session.get("n", 0) + 1
    return int(session["n"])


@post("/asynchronous")
async def asynchronous(session: SessionDep) -> int:
    return count(session)


@post("/named")
async def named(session: Session) -> int:
    return count(session)


@post("/synchronous", sync_to_thread=False)
def synchronous(session: SessionDep) -> int:
    return count(session)


@post("/threaded", sync_to_thread=True)
def threaded(session: SessionDep) -> int:
    return count(session)


async def visits(session: SessionDep) -> int:
    return count(session)


@post("/depends", dependencies={"visits": visits})
async def depends(visits: NamedDependency[int]) -> int:
    return visits


def seen(session: SessionDep) -> int:
    return count(session)


@post("/depends-in-thread", dependencies={"seen": Provide(seen, sync_to_thread=True)})
async def depends_in_thread(seen: NamedDependency[int]) -> int:
    return seen


async def members(connection: AnyConnection, _: BaseRouteHandler) -> None:
    if count(await get_session(connection)) == 1:
        raise NotAuthorizedException


@post("/guarded", guards=[members])
async def guarded() -> None: ...


@post("/brewed")
async def brewed() -> None:
    raise Teapot


def pour(request: AnyRequest, error: Teapot) -> Response[int]:
    return Response(count(request.session), status_code=418)


async def before(request: AnyRequest) -> None:
    count(request.session)


@post("/before", before_request=before)
async def hooked_before() -> None: ...


@post("/behind", middleware=[Watch()])
async def behind() -> None: ...


HANDLERS: list[Any] = [
    asynchronous, named, synchronous, threaded, depends, depends_in_thread, guarded, brewed, hooked_before, behind
]  # fmt: skip


@pytest.mark.proves("P7")
@pytest.mark.parametrize(("anyio_backend", "debug"), [("asyncio", True), ("trio", False)])  # some run in threads
@pytest.mark.filterwarnings("ignore:.*Inferred dependency")
def test_every_kind_of_handler_has_the_session_and_is_503_when_the_storage_is_down(
    enter: Open, storage: SpyStorage, debug: bool
) -> None:
    client = enter(*HANDLERS, read, exception_handlers={Teapot: pour}, debug=debug)
    assert client.post("/guarded").status_code == 401
    paths = [next(iter(handler.paths)) for handler in HANDLERS]
    assert [client.post(path).status_code for path in paths] == [418 if path == "/brewed" else 201 for path in paths]
    assert client.get("/read").json() == {"n": len(HANDLERS), "seen": 1}  # n: guarded twice, behind not
    storage.fail("load")
    for path in paths:
        reply = client.post(path)
        assert (reply.status_code, reply.text) == (503, "Service Unavailable"), path
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"
        assert not {"set-cookie", "vary"} & set(reply.headers)


def test_an_applications_own_handler_for_our_errors_comes_first(enter: Open) -> None:
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

    client = enter(write, read, exception_handlers={Exception: oops, 500: oops}, middleware=[Watch()])
    client.post("/write")
    storage.fail()
    reply = client.get("/read")
    storage.restore()
    assert (reply.status_code, reply.text) == (503, "Service Unavailable")


def test_a_page_for_a_404_has_a_session_if_a_route_raises_it(enter: Open) -> None:
    hints: list[str] = []

    def nothing(request: AnyRequest, error: Exception) -> Response[Any]:
        return Response(request.session["n"] if "session" in request.scope else None, status_code=404)

    async def note(error: Exception, scope: Scope) -> None:
        try:
            await get_session(scope)
        except SessionNotLoaded as exc:
            hints.append(str(exc))

    @get("/{rest:path}")
    async def any_other() -> None:
        raise NotFoundException

    for routes, n in ((), None), ((any_other,), 1):
        client = enter(*routes, read, write, exception_handlers={404: nothing}, after_exception=[note])
        client.post("/write")
        reply = client.get("/of/nothing")
        assert (reply.status_code, reply.json()) == (404, n)
    [hint] = hints
    assert "without a route (404, 405), Litestar runs no middleware" in hint


class Guard(AbstractAuthenticationMiddleware):
    async def authenticate_request(self, connection: AnyConnection) -> AuthenticationResult:
        count(await get_session(connection))
        if connection.scope["path"] == "/out":
            connection.clear_session()
        raise Teapot if connection.scope["path"] == "/spilled" else NotAuthorizedException


def test_what_a_middleware_raises_is_answered_with_the_sessions_headers(enter: Open, storage: SpyStorage) -> None:
    """Litestar's authentication raises in a middleware; the response is made outside of all middlewares."""
    reported: list[Exception] = []

    async def report(error: Exception, scope: Scope) -> None:
        reported.append(error)

    @get(["/in", "/spilled", "/out"], middleware=[Guard])
    async def locked() -> None: ...

    client = enter(locked, read, after_exception=[report])
    replies = [client.get(path) for path in ("/in", "/in", "/spilled", "/read", "/out")]
    assert [reply.status_code for reply in replies] == [401, 401, 500, 200, 401]
    assert ["set-cookie" in reply.headers for reply in replies] == [True, False, False, False, True]
    assert {reply.headers["vary"] for reply in replies} == {"Cookie"}
    assert (replies[3].json(), client.cookies.get("__Host-session_id"), len(reported)) == ({"n": 2}, None, 4)


def test_a_logout_by_clear_session_holds_when_the_page_for_an_error_fails(enter: Open) -> None:
    def broken(request: AnyRequest, error: Teapot) -> Response[None]:
        raise ZeroDivisionError

    @post("/leave")
    async def leave(request: AnyRequest) -> None:
        request.clear_session()
        raise Teapot if "spill" in request.query_params else SessionError("refused")

    client = enter(write, read, leave, exception_handlers={Teapot: broken})
    for path in ("/leave", "/leave?spill=1"):
        client.post("/write")
        assert (client.post(path).status_code, client.get("/read").json()) == (500, {})


def test_a_fault_of_the_setup_reaches_the_server_which_logs_it() -> None:
    def number(_: object) -> Any:
        return 3

    store = SessionStore(SessionConfig.development(extractor=Extractor(number, Source.OTHER, "mine")))
    with (
        TestClient(Litestar([read], plugins=[SessionPlugin(store)])) as client,
        pytest.raises(ConfigError, match="must return str or None"),
    ):
        client.get("/read")
