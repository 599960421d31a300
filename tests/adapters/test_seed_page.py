"""The examples of Fiber's session page, translated, on a real server over TLS with a browser that obeys cookies."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import anyio
import pytest
from msgspec import json
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from tests.adapters.browser import Browser, Reply
from tests.adapters.conftest import Tls
from tests.adapters.servers import serve, serve_asgi

from sessioncore import (
    ConfigError,
    Extractor,
    MemoryStorage,
    RequestView,
    SessionConfig,
    SessionError,
    SessionNotFound,
    SessionStore,
    Source,
    SQLiteStorage,
    chain,
    from_cookie,
    from_form,
    from_header,
    from_lookup,
    from_param,
    from_query,
)
from sessioncore.http._extractors import flatten
from sessioncore.testing import ManualClock
from sessioncore_asgi import SessionMiddleware, get_session

Handler = Callable[[Request], Awaitable[Response]]
Open = Callable[..., Browser]


@pytest.fixture
def open_(tls: Tls) -> Iterator[Open]:
    """Serve handlers, each at its name, with a store; return a browser in front of them."""
    with ExitStack() as stack:

        def serve_and_visit(store: SessionStore, *handlers: Handler) -> Browser:
            routes = [Route(f"/{call.__name__}", call, methods=["GET", "POST"]) for call in handlers]
            app = SessionMiddleware(Starlette(routes=routes), store)
            return Browser(stack.enter_context(serve(serve_asgi, app, tls)).address)

        yield serve_and_visit


def post(browser: Browser, path: str, **fields: str) -> Reply:
    return browser.post(path, urlencode(fields).encode())


async def read(request: Request) -> Response:
    session = await get_session(request)
    return JSONResponse({key: value for key, value in session.items() if isinstance(value, (str, int, list))})


async def visits(request: Request) -> Response:
    """Count; and show the ID, as no application should, where the client would not learn it."""
    session = await get_session(request)
    session["visits"] = session.get("visits", 0) + 1
    return PlainTextResponse(f"Visits: {session['visits']}", headers={"x-shown": session.id})


# -- Quick Start, and the page's production settings: nothing of them is different from our defaults

PRODUCTION: dict[str, Any] = {
    "cookie_secure": True, "cookie_http_only": True, "cookie_same_site": "lax", "cookie_path": "/",
    "idle_timeout": timedelta(minutes=30), "absolute_timeout": timedelta(hours=24),
}  # fmt: skip


def test_quick_start_and_the_production_configuration_count_visits_alike(open_: Open, tmp_path: Path) -> None:
    quick, storage = SessionConfig(), SQLiteStorage(tmp_path / "sessions.sqlite3")
    production = SessionConfig(storage=storage, extractor=from_cookie("__Host-session_id"), **PRODUCTION)
    assert {name: getattr(quick, name) for name in PRODUCTION} == PRODUCTION
    for config in (quick, production):
        browser = open_(SessionStore(config), visits)
        sid, max_age, *attributes = browser.get("/visits").set_cookies[0].split("; ")
        assert sid.startswith("__Host-session_id=")
        assert max_age in [f"Max-Age={seconds}" for seconds in range(86390, 86401)]
        assert attributes == ["Path=/", "HttpOnly", "Secure", "SameSite=Lax"]
        assert [browser.get("/visits").text for _ in range(2)] == ["Visits: 2", "Visits: 3"]
        assert browser.another().get("/visits").text == "Visits: 1"


def test_production_security_settings(open_: Open, caplog: pytest.LogCaptureFixture) -> None:
    def on_error(view: RequestView, error: SessionError) -> tuple[int, str]:
        logging.getLogger("shop").error("Session error: %s", error)
        return 500, "Session error"

    settings: dict[str, Any] = {**PRODUCTION, "id_generator": lambda: str(uuid4()), "on_error": on_error}
    with pytest.raises(ConfigError, match="no cookie_domain"):  # as the page has it: browsers drop such a cookie
        SessionConfig(extractor=from_cookie("__Host-session_id"), cookie_domain="example.com", **settings)

    async def broken(request: Request) -> Response:
        (await get_session(request))["x"] = object()
        return PlainTextResponse("never sent")

    with_domain = SessionConfig(extractor=from_cookie("__Secure-id"), cookie_domain="example.com", **settings)
    browser = open_(SessionStore(with_domain), visits, broken)
    line = browser.get("/visits").set_cookies[0]
    assert "; Domain=example.com; " in line
    assert len(line.partition("=")[2].partition(";")[0]) == 36
    reply = browser.get("/broken")
    assert (reply.status, reply.text) == (500, "Session error")
    assert "Session error: session key 'x'" in caplog.text


# -- Usage Patterns


def test_store_pattern_in_a_background_task(open_: Open) -> None:
    store = SessionStore()
    done: list[datetime] = []

    async def background_task(session_id: str) -> None:
        try:
            session = await store.get_by_id(session_id)
        except SessionNotFound:
            return
        try:
            done.append(datetime.now(UTC))
            session["last_task"] = done[-1]
            await session.save()
        finally:
            session.release()

    async def start(request: Request) -> Response:
        session = await get_session(request)
        session["started"] = True
        return PlainTextResponse("started", background=BackgroundTask(background_task, session.id))

    async def look(request: Request) -> Response:
        return PlainTextResponse(repr((await get_session(request)).get("last_task")))

    browser = open_(store, start, look)
    browser.get("/start")
    assert browser.get("/look").text == repr(done[0])
    anyio.run(background_task, "u" * 43)  # of a session that is gone: no error, nothing stored
    assert len(done) == 1


# -- Session Security, and the shop whose cart is kept


async def login(request: Request) -> Response:
    session = await get_session(request)
    async with request.form() as form:
        allowed = (form.get("email"), form.get("password")) == ("admin@example.com", "secret")
    if not allowed:
        return PlainTextResponse("Invalid credentials", 401)
    await session.regenerate()
    session["user_id"] = 1
    session["authenticated"] = True
    return RedirectResponse("/dashboard", 303)


async def logout(request: Request) -> Response:
    await (await get_session(request)).reset()
    return RedirectResponse("/", 303)


async def dashboard(request: Request) -> Response:
    if (await get_session(request)).get("authenticated") is not True:
        return RedirectResponse("/login", 303)
    return await read(request)


async def add_to_cart(request: Request) -> Response:
    session = await get_session(request)
    async with request.form() as form:
        session["cart"] = [*session.get("cart", []), form.get("item_id")]
    return JSONResponse({"items": len(session["cart"])})


def test_a_login_changes_the_id_and_keeps_the_cart_and_a_logout_clears_everything(open_: Open) -> None:
    name = "__Host-cart_session"
    config = SessionConfig(extractor=from_cookie(name), **PRODUCTION)
    browser = open_(SessionStore(config), add_to_cart, login, logout, dashboard, read)
    turned_away = browser.get("/dashboard")
    assert (turned_away.status, turned_away.one("location"), browser.cookies) == (303, "/login", {})
    for number in (1, 2):
        assert post(browser, "/add_to_cart", item_id=str(number)).text == f'{{"items":{number}}}'
    before = browser.cookies[name]
    assert post(browser, "/login", email="admin@example.com", password="wrong").status == 401
    assert browser.cookies[name] == before
    assert post(browser, "/login", email="admin@example.com", password="secret").one("location") == "/dashboard"
    after = browser.cookies[name]
    assert after != before
    assert json.decode(browser.get("/dashboard").body) == {"cart": ["1", "2"], "user_id": 1, "authenticated": True}
    assert (browser.post("/logout", b"").status, browser.cookies) == (303, {})
    assert browser.get("/dashboard").status == 303
    for sid in (before, after):
        assert browser.another().get("/read", [("Cookie", f"{name}={sid}")]).text == "{}"


@pytest.mark.parametrize(
    ("method", "id_changes", "kept"), [("regenerate", True, {"visits": 1}), ("reset", True, {}), ("destroy", False, {})]
)
def test_the_table_of_security_methods(open_: Open, method: str, id_changes: bool, kept: dict[str, int]) -> None:
    async def change(request: Request) -> Response:
        session = await get_session(request)
        before = session.id
        await getattr(session, method)()
        return JSONResponse({"changed": session.id != before, "data": dict(session)})

    browser = open_(SessionStore(), visits, change, read)
    browser.get("/visits")
    assert json.decode(browser.get("/change").body) == {"changed": id_changes, "data": kept}
    assert json.decode(browser.get("/read").body) == kept


def test_automatic_expiration(open_: Open) -> None:
    clock = ManualClock()
    config = SessionConfig(storage=MemoryStorage(clock=clock), clock=clock, **PRODUCTION)
    browser = open_(SessionStore(config), visits, read)
    browser.get("/visits")
    for _ in range(49):  # any route resets the idle timer
        clock.advance(29 * 60)
        assert browser.get("/read").text == '{"visits":1}'
    clock.advance(29 * 60)  # and nothing resets the other
    assert browser.get("/read").text == "{}"
    browser.get("/visits")
    clock.advance(31 * 60)
    assert browser.get("/read").text == "{}"


# -- Session ID Extractors, and the lookups of the Migration Guide

PLACES: list[tuple[str, Extractor, set[str]]] = [
    ("cookie:session_id", from_cookie("session_id"), {"set-cookie"}),
    ("header:X-Session-ID", from_header("X-Session-ID"), {"x-session-id"}),
    ("query:session_id", from_query("session_id"), set()),
    ("form:session_id", from_form("session_id"), set()),
    ("cookie:sid,header:X-Sid", chain(from_cookie("sid"), from_header("X-Sid")), {"set-cookie", "x-sid"}),
    ("cookie:sid,query:sid", chain(from_cookie("sid"), from_query("sid")), {"set-cookie"}),
    ("header:X-Sid,form:sid", chain(from_header("X-Sid"), from_form("sid")), {"x-sid"}),
    ("query:sid,param:id", chain(from_query("sid"), from_param("id")), set()),
]


@pytest.mark.parametrize(("lookup", "extractor", "answers"), PLACES)
def test_each_place_of_a_lookup_is_read_and_cookies_and_headers_are_answered(
    open_: Open, lookup: str, extractor: Extractor, answers: set[str]
) -> None:
    made, meant = ([(part.source, part.key) for part in flatten(one)] for one in (from_lookup(lookup), extractor))
    assert made == meant
    browser = open_(SessionStore(SessionConfig(extractor=from_lookup(lookup))), visits)
    first = browser.get("/visits")
    sent = {name.lower() for name, _ in first.headers} & {"set-cookie", "x-session-id", "x-sid"}
    assert (first.text, sent) == ("Visits: 1", answers)
    sid, count = first.one("x-shown") or "", 1
    for source, _, name in (part.partition(":") for part in lookup.split(",") if not part.startswith("param")):
        count += 1
        match source:
            case "query":
                found = browser.another().get(f"/visits?{name}={sid}")
            case "form":
                found = post(browser.another(), "/visits", **{name: sid})
            case "header":
                found = browser.another().get("/visits", [(name, sid)])
            case _:
                found = browser.another().get("/visits", [("Cookie", f"{name}={sid}")])
        assert (found.text, found.set_cookies, found.one("x-sid")) == (f"Visits: {count}", [], None)


def test_custom_extractors_of_a_bearer_token_and_of_a_read_only_header(open_: Open) -> None:
    def bearer(request: RequestView) -> str | None:
        values = request.header("Authorization")
        return values[0].removeprefix("Bearer ") if values and values[0].startswith("Bearer ") else None

    def custom(request: RequestView) -> str | None:
        return next(iter(request.header("X-Custom-Session")), None)

    browser = open_(SessionStore(SessionConfig(extractor=Extractor(bearer, Source.HEADER, "Authorization"))), visits)
    sid = browser.get("/visits").one("authorization")
    reply = browser.get("/visits", [("Authorization", f"Bearer {sid}")])
    assert (reply.text, reply.one("authorization"), reply.one("vary")) == ("Visits: 2", None, "Authorization")
    assert browser.get("/visits", [("Authorization", f"Basic {sid}")]).text == "Visits: 1"

    browser = open_(SessionStore(SessionConfig(extractor=Extractor(custom, Source.OTHER, "X-Custom-Session"))), visits)
    first = browser.get("/visits")
    assert (first.one("x-custom-session"), first.set_cookies) == (None, [])
    assert browser.get("/visits", [("X-Custom-Session", first.one("x-shown") or "")]).text == "Visits: 2"
