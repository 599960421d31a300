"""Errors on their way from the application through the middleware to the server, and a store that is given twice."""

from contextlib import suppress
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from tests.adapters.asgi import CONNECT, START, AsgiSite, Channel, ask, run, socket_scope
from tests.stores import SpyStorage

from sessioncore import OwnerLimitReached, Session, SessionError, SessionStore, StorageUnavailable
from sessioncore_asgi import SessionMiddleware, get_session
from sessioncore_asgi.fastapi import SessionDep

pytestmark = pytest.mark.anyio
PLACES = pytest.mark.parametrize("place", ["around", "added"])


def wrap(app: Starlette, store: SessionStore, place: str) -> Any:
    if place == "around":
        return SessionMiddleware(app, store)
    app.add_middleware(SessionMiddleware, store=store)
    return app


# -- one store, two names


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
        return await revoke(request)
    except StorageUnavailable as error:
        raise RuntimeError("the application's own") from error


async def used_first(request: Request) -> Response:
    (await get_session(request))["n"] = 1
    return await revoke(request)


def sync(request: Request) -> Response:
    raise StorageUnavailable("as from a method of the store")


async def limited(request: Request) -> Response:
    raise OwnerLimitReached("as from a method of the store")


async def depends(session: SessionDep) -> int:
    return len(await session.store.sessions_of("ada"))


async def oops(request: Request, error: Exception) -> Response:
    return PlainTextResponse("oops", 500)


async def sorry(request: Request, error: Exception) -> Response:
    return PlainTextResponse("come back later", 507)


@PLACES
async def test_an_error_of_the_store_has_its_status_wherever_the_middleware_stands(
    store: SessionStore, storage: SpyStorage, place: str
) -> None:
    storage.fail()
    apps = [
        Starlette(routes=[Route("/", handler)], exception_handlers=page)
        for handler in (revoke, wrapped, used_first, sync)
        for page in ({}, {500: oops})
    ]
    fast = FastAPI()
    fast.add_api_route("/", depends)
    for app in (*apps, fast):
        wire = await ask_in_spite(wrap(app, store, place))
        assert (wire.status, wire.body) == (503, b"Service Unavailable")
        assert (len(wire.sent), wire.all("set-cookie")) == (2, [])
    wire = await ask_in_spite(wrap(Starlette(routes=[Route("/", limited)]), store, place))
    assert (wire.status, wire.body) == (409, b"Conflict")
    own = Starlette(routes=[Route("/", revoke)], exception_handlers={SessionError: sorry})
    assert (await ask(wrap(own, store, place))).status == 507  # the application has the last word


async def ask_in_spite(app: Any, path: str = "/") -> Any:
    """Ask an application that may raise after it has answered, as Starlette's catch-all does."""
    sent: list[Any] = []

    async def remember(scope: Any, receive: Any, send: Any) -> None:
        async def send_and_remember(message: Any) -> None:
            sent.append(message)
            await send(message)

        with suppress(SessionError, ArithmeticError, RuntimeError):
            await app(scope, receive, send_and_remember)
        assert sent

    return await ask(remember, path)


@PLACES
async def test_every_other_500_is_the_applications(store: SessionStore, storage: SpyStorage, place: str) -> None:
    async def fail(request: Request) -> Response:
        raise ArithmeticError

    async def refuse(request: Request) -> Response:
        raise HTTPException(500, "mine")

    async def recover(request: Request) -> Response:
        with suppress(StorageUnavailable):
            await revoke(request)
        return PlainTextResponse("mine", 500)

    storage.fail()
    app = wrap(Starlette(routes=[Route(f"/{f.__name__}", f) for f in (fail, refuse, recover)]), store, place)
    assert (await ask_in_spite(app, "/fail")).body == b"Internal Server Error"
    assert [(await ask(app, path)).body for path in ("/refuse", "/recover")] == [b"mine", b"mine"]


# -- an ID that was stored, and an application that fails before it could send it


@PLACES
@pytest.mark.parametrize("framework", [Starlette, FastAPI])
async def test_an_id_that_was_stored_is_sent_with_the_500_of_a_framework(
    store: SessionStore, storage: SpyStorage, place: str, framework: Any
) -> None:
    async def regenerate(request: Request) -> Response:
        session = await get_session(request)
        await session.regenerate()
        await session.save()
        session["lost"] = True
        raise ValueError

    app = wrap(framework(routes=[Route("/", regenerate)]), store, place)
    sid = (await store.create({"n": 1})).id
    wire = await ask(app, sid=sid, raises=ValueError)  # for the server's log
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


async def test_without_a_framework_a_stored_id_is_sent_also_in_a_handshake_if_possible(store: SessionStore) -> None:
    app = SessionMiddleware(raw, store)
    wire = await ask(app, "/saved", raises=ValueError)
    assert dict(await store.get_by_id(wire.sid or "")) == {"n": 1}
    assert (await ask(app, "/other", raises=ValueError)).sent == []
    wire = await run(app, socket_scope("/saved"), CONNECT, raises=ValueError)
    assert wire.sent == []
    extensions: dict[str, Any] = {"websocket.http.response": {}}
    wire = await run(app, socket_scope("/saved", extensions=extensions), CONNECT, raises=ValueError)
    assert wire.kinds == ["websocket.http.response.start", "websocket.http.response.body"]
    assert (wire.status, bool(wire.sid)) == (500, True)


@pytest.mark.parametrize("sent", [False, True])
async def test_an_id_that_a_middleware_outside_has_lost_is_sent_with_the_500(store: SessionStore, sent: bool) -> None:
    async def move(scope: Any, receive: Any, send: Any) -> None:
        await (await get_session(scope)).regenerate()
        await send(START)
        raise ValueError

    async def lose(scope: Any, receive: Any, send: Any) -> None:
        async def send_or_fail(message: Any) -> None:
            seen.append(message)
            if seen[sent:] == [message]:  # the headers, or what would be the headers of a second response
                raise ValueError
            await send(message)

        seen: list[Any] = []
        await SessionMiddleware(move, chosen)(scope, receive, send_or_fail)

    for chosen in (store, SessionStore()):  # one of them commits without waiting
        wire = await ask(lose, sid=(await chosen.create({"n": 1})).id, raises=ValueError)
        assert (wire.status, len(wire.sent)) == ((200, 1) if sent else (500, 2))
        assert dict(await chosen.get_by_id(wire.sid or "")) == {"n": 1}


async def test_after_the_start_nothing_is_sent_for_it() -> None:
    async def late(session: Session, channel: Channel) -> None:
        session["n"] = 1
        await channel.send(START)
        session["n"] = 2
        await session.save()
        raise ValueError

    wire = await AsgiSite(late).ask(raises=ValueError)
    assert len(wire.sent) == 1
    assert wire.sid
