"""Error pages and access logs that run after a request read what is stored, on every adapter; Litestar's hooks."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from fastapi import FastAPI
from litestar import Litestar, get
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tests.adapters.aiohttp_kit import application
from tests.adapters.asgi import ask
from tests.adapters.conftest import Visit
from tests.adapters.litestar_kit import COOKIE, AnyRequest, Open, SessionDep

from sessioncore import Session, SessionReleased, SessionStore
from sessioncore_aiohttp import get_session as of_aiohttp
from sessioncore_asgi import SessionMiddleware
from sessioncore_asgi import get_session as of_asgi
from sessioncore_litestar import SessionPlugin
from sessioncore_litestar import get_session as of_litestar

pytestmark = pytest.mark.anyio
PAGES = ("/fails", "/works")


class Bug(Exception):
    """The error that matters; none about the session may take its place."""


async def handle(session: Session, path: str) -> str:
    """Change the session; what `/fails` changes is dropped."""
    session["user"] = path[1:]
    session["cart"].append("milk")
    if path == "/fails":
        raise Bug
    return "ok"


class Witness:
    """Reads the session after the end, and keeps what it has read."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    async def __call__(self, getting: Awaitable[Session]) -> None:
        session = await getting
        self.seen.append((dict(session), session.id, session.owner, session.fresh))
        with pytest.raises(SessionReleased, match=r"use store\.open\(session\.id\)"):
            session["user"] = "eve"


async def visitor(store: SessionStore) -> str:
    return (await store.create({"user": "ada", "cart": ["tea"]}, owner="ada")).id


async def check(store: SessionStore, sid: str, path: str, witness: Witness) -> None:
    stored = dict(await store.get_by_id(sid))
    assert stored == (
        {"user": "ada", "cart": ["tea"]} if path == "/fails" else {"user": "works", "cart": ["tea", "milk"]}
    )
    assert witness.seen == [(stored, sid, "ada", False)]


async def page(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await handle(await of_asgi(request), request.url.path))


def error_page(kind: type[Starlette], store: SessionStore, witness: Witness) -> Any:
    """An application of Starlette or FastAPI with a page for every exception, called outside of all middlewares."""

    async def show(request: Request, error: Exception) -> PlainTextResponse:
        await witness(of_asgi(request))
        return PlainTextResponse("an error page", 500)

    return kind(
        routes=[Route("/fails", page)],
        middleware=[Middleware(SessionMiddleware, store=store)],
        exception_handlers={Exception: show},
    )


@get(list(PAGES))
async def litestar_page(request: AnyRequest, session: SessionDep) -> str:
    return await handle(session, request.url.path)


def access_log(framework: str, store: SessionStore, witness: Witness) -> Any:
    inner: Any = SessionMiddleware(Starlette(routes=[Route(path, page) for path in PAGES]), store)
    if framework == "litestar":
        inner = Litestar([litestar_page], plugins=[SessionPlugin(store)])
    of_framework: Any = of_litestar if framework == "litestar" else of_asgi

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await inner(scope, receive, send)
        finally:
            await witness(of_framework(scope))

    return app


@pytest.mark.parametrize(
    ("build", "path"),
    [
        *((partial(error_page, kind), "/fails") for kind in (Starlette, FastAPI)),
        *((partial(access_log, framework), path) for framework in ("asgi", "litestar") for path in PAGES),
    ],
)
async def test_what_is_called_outside_reads_what_is_stored(
    build: Callable[[SessionStore, Witness], Any], path: str, store: SessionStore
) -> None:
    witness, sid = Witness(), await visitor(store)
    try:
        wire = await ask(build(store, witness), path, sid)
    except Bug:  # Litestar answers it; Starlette answers it and raises it again for the server
        assert path == "/fails"
    else:
        assert wire.status == (500 if path == "/fails" else 200)
    await check(store, sid, path, witness)


def logged(store: SessionStore, witness: Witness) -> web.Application:
    @web.middleware
    async def log(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Bug:
            return web.Response(text="an error page", status=500)
        finally:
            if request.path in PAGES:
                await witness(of_aiohttp(request))

    async def fails(request: web.Request) -> web.Response:
        return web.Response(text=await handle(await of_aiohttp(request), request.path))

    async def works(request: web.Request) -> web.Response:
        return await fails(request)

    return application(store, fails, works, outside=[log])


@pytest.mark.parametrize("path", PAGES)
def test_middleware_before_setup_of_aiohttp_reads_what_is_stored(path: str, store: SessionStore, visit: Visit) -> None:
    witness, sid = Witness(), anyio.run(visitor, store)
    reply = visit(logged(store, witness)).get(path, [("Cookie", f"{COOKIE}={sid}")])
    assert (reply.status, reply.text) == ((500, "an error page") if path == "/fails" else (200, "ok"))
    anyio.run(check, store, sid, path, witness)


@pytest.mark.parametrize(("hook", "path"), [("after_exception", "/fails"), ("after_response", "/works")])
def test_a_hook_of_litestar_reads_what_the_handler_left(hook: str, path: str, store: SessionStore, enter: Open) -> None:
    seen: list[dict[str, Any]] = []

    async def after_exception(error: Exception, scope: Any) -> None:
        seen.append(dict(await of_litestar(scope)))

    async def after_response(request: AnyRequest) -> None:
        seen.append(dict(await of_litestar(request)))

    given_hooks = {"after_exception": [after_exception], "after_response": after_response}
    client = enter(litestar_page, **{hook: given_hooks[hook]})
    sid = anyio.run(visitor, store)
    assert client.get(path, headers={"Cookie": f"{COOKIE}={sid}"}).status_code == (200 if path == "/works" else 500)
    assert seen == [{"user": path[1:], "cart": ["tea", "milk"]}]
