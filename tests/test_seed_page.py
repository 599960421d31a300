"""Every example of Fiber's session page, translated, on a real server over TLS with a browser that obeys cookies."""

import logging
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import anyio
import pytest
import trustme
from msgspec import Struct, json
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from tests.adapters.browser import Browser, Reply
from tests.adapters.servers import serve, serve_asgi
from tests.views import PlainView

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
from sessioncore.testing import ManualClock
from sessioncore_asgi import SessionMiddleware, get_session

Handler = Callable[[Request], Awaitable[Response]]
Open = Callable[..., Browser]

FORM = "application/x-www-form-urlencoded"


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A certificate for localhost, and a client that trusts it."""
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)  # pyright: ignore[reportUnknownMemberType]  # pyOpenSSL's type
    authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]  # pyOpenSSL's type
    return server, client


@pytest.fixture
def open_(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Open]:
    """Serve handlers with a store, and return a browser in front of them."""
    with ExitStack() as stack:

        def serve_and_visit(store: SessionStore, **handlers: Handler) -> Browser:
            routes = [Route(_path(name), call, methods=["GET", "POST"]) for name, call in handlers.items()]
            app = SessionMiddleware(Starlette(routes=routes), store)
            return Browser(stack.enter_context(serve(serve_asgi, app, tls)).address)

        yield serve_and_visit


def _path(name: str) -> str:
    return "/" + name.removeprefix("index").replace("_", "/")


def post(browser: Browser, path: str, **fields: str) -> Reply:
    return browser.post(path, urlencode(fields).encode(), FORM)


def other(browser: Browser) -> Browser:
    """Somebody else in front of the same server."""
    return Browser(browser.address)


def holds(browser: Browser, name: str = "__Host-session_id") -> str | None:
    return browser.cookies.get(name)


async def form_value(request: Request, name: str) -> str:
    async with request.form() as form:
        return str(form.get(name, ""))


async def read(request: Request) -> Response:
    session = await get_session(request)
    return JSONResponse({key: value for key, value in session.items() if isinstance(value, (str, int, list))})


# -- Quick Start


async def visits(request: Request) -> Response:
    session = await get_session(request)
    count = session.get("visits", 0) + 1
    session["visits"] = count
    return PlainTextResponse(f"Visits: {count}")


async def named(request: Request) -> Response:
    """Show the ID, as no application should, where the client would not learn it."""
    response = await visits(request)
    response.headers["x-shown"] = (await get_session(request)).id
    return response


def test_quick_start_counts_visits_with_the_defaults(open_: Open) -> None:
    browser = open_(SessionStore(), index=visits)
    assert [browser.get("/").text for _ in range(3)] == ["Visits: 1", "Visits: 2", "Visits: 3"]
    assert other(browser).get("/").text == "Visits: 1"


# The page's production settings; nothing of them is different from our defaults.
PRODUCTION: dict[str, Any] = {
    "cookie_secure": True,
    "cookie_http_only": True,
    "cookie_same_site": "lax",
    "idle_timeout": timedelta(minutes=30),
    "absolute_timeout": timedelta(hours=24),
    "cookie_path": "/",
}


def test_production_configuration(open_: Open, tmp_path: Path) -> None:
    storage = SQLiteStorage(tmp_path / "sessions.sqlite3")
    config = SessionConfig(storage=storage, extractor=from_cookie("__Host-session_id"), **PRODUCTION)
    browser = open_(SessionStore(config), index=visits)
    sid, max_age, *attributes = browser.get("/").set_cookies[0].split("; ")
    assert sid.startswith("__Host-session_id=")
    assert max_age in [f"Max-Age={seconds}" for seconds in range(86390, 86401)]
    assert attributes == ["Path=/", "HttpOnly", "Secure", "SameSite=Lax"]
    assert browser.get("/").text == "Visits: 2"
    defaults = SessionConfig()
    assert {name: getattr(defaults, name) for name in PRODUCTION} == PRODUCTION
    assert defaults.extractor.key == config.extractor.key


# -- Usage Patterns


def test_middleware_pattern_saves_by_itself(open_: Open) -> None:
    async def login(request: Request) -> Response:
        session = await get_session(request)
        session["user_id"] = 123
        session["authenticated"] = True
        return RedirectResponse("/dashboard", 303)

    browser = open_(SessionStore(), login=login, dashboard=read)
    reply = browser.post("/login", b"")
    assert (reply.status, reply.one("location")) == (303, "/dashboard")
    assert browser.get("/dashboard").text == '{"user_id":123,"authenticated":true}'


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

    browser = open_(store, start=start, look=look)
    browser.get("/start")
    assert browser.get("/look").text == repr(done[0])
    anyio.run(background_task, "u" * 43)  # of a session that is gone: no error, nothing stored
    assert len(done) == 1


def test_store_pattern_as_a_context_manager_saves_and_releases() -> None:
    async def main() -> None:
        store = SessionStore()
        session = await store.create({"n": 1})
        async with store.open(session.id) as held:
            held["last_task"] = datetime.now(UTC)
        assert isinstance((await store.get_by_id(session.id))["last_task"], datetime)

    anyio.run(main)


# -- Session Security


async def login(request: Request) -> Response:
    session = await get_session(request)
    email, password = await form_value(request, "email"), await form_value(request, "password")
    if (email, password) != ("admin@example.com", "secret"):
        return PlainTextResponse("Invalid credentials", 401)
    await session.regenerate()
    session["user_id"] = 1
    session["authenticated"] = True
    session["login_time"] = datetime.now(UTC)
    return RedirectResponse("/dashboard", 303)


async def logout(request: Request) -> Response:
    await (await get_session(request)).reset()
    return RedirectResponse("/", 303)


async def add_to_cart(request: Request) -> Response:
    session = await get_session(request)
    cart = session.get("cart", [])
    cart.append(await form_value(request, "item_id"))
    session["cart"] = cart
    return JSONResponse({"items": len(cart)})


GOOD = {"email": "admin@example.com", "password": "secret"}


def test_login_changes_the_id_and_logout_clears_everything(open_: Open) -> None:
    browser = open_(SessionStore(), index=visits, login=login, logout=logout, dashboard=read)
    browser.get("/")
    before = holds(browser)
    assert post(browser, "/login", email="admin@example.com", password="wrong").status == 401
    assert holds(browser) == before
    assert post(browser, "/login", **GOOD).status == 303
    after = holds(browser)
    assert after not in {None, before}
    assert json.decode(browser.get("/dashboard").body) == {"visits": 1, "user_id": 1, "authenticated": True}
    assert browser.post("/logout", b"").status == 303
    assert holds(browser) is None
    for sid in (before, after):
        replay = other(browser).get("/dashboard", [("Cookie", f"__Host-session_id={sid}")])
        assert replay.text == "{}"


@pytest.mark.parametrize(
    ("method", "id_changes", "data_kept"),
    [("regenerate", True, True), ("reset", True, False), ("destroy", False, False)],
)
def test_the_table_of_security_methods(open_: Open, method: str, id_changes: bool, data_kept: bool) -> None:
    async def change(request: Request) -> Response:
        session = await get_session(request)
        before = session.id
        await getattr(session, method)()
        return JSONResponse({"changed": session.id != before, "data": dict(session)})

    browser = open_(SessionStore(), index=visits, change=change, read=read)
    browser.get("/")
    assert json.decode(browser.get("/change").body) == {
        "changed": id_changes,
        "data": {"visits": 1} if data_kept else {},
    }
    assert json.decode(browser.get("/read").body) == ({"visits": 1} if data_kept else {})


def test_a_planted_session_is_of_no_use_to_the_attacker_after_login(open_: Open) -> None:
    attacker = open_(SessionStore(), index=visits, login=login, dashboard=read)
    attacker.get("/")
    planted = [("Cookie", f"__Host-session_id={holds(attacker)}"), ("Content-Type", FORM)]
    victim = other(attacker)
    reply = victim.request("POST", "/login", planted, urlencode(GOOD).encode())
    assert reply.status == 303
    assert json.decode(victim.get("/dashboard").body)["authenticated"] is True
    assert attacker.get("/dashboard").text == "{}"


def test_authentication_guard(open_: Open) -> None:
    def require_auth(handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            session = await get_session(request)
            if session.get("authenticated") is not True:
                return RedirectResponse("/login", 303)
            return await handler(request)

        return guarded

    browser = open_(SessionStore(), login=login, logout=logout, dashboard=require_auth(read), admin=require_auth(read))
    for path in ("/dashboard", "/admin"):
        reply = browser.get(path)
        assert (reply.status, reply.one("location")) == (303, "/login")
    assert holds(browser) is None  # turning strangers away stores nothing
    post(browser, "/login", **GOOD)
    assert browser.get("/dashboard").status == browser.get("/admin").status == 200
    browser.post("/logout", b"")
    assert browser.get("/dashboard").status == 303


def test_automatic_expiration(open_: Open) -> None:
    clock = ManualClock()
    store = SessionStore(SessionConfig(storage=MemoryStorage(clock=clock), clock=clock, **PRODUCTION))
    browser = open_(store, index=visits, peek=read)
    browser.get("/")
    for _ in range(49):  # any route resets the idle timer
        clock.advance(29 * 60)
        assert browser.get("/peek").text == '{"visits":1}'
    clock.advance(29 * 60)  # and nothing resets the other
    assert browser.get("/peek").text == "{}"
    browser.get("/")
    clock.advance(31 * 60)
    assert browser.get("/peek").text == "{}"


# -- Session ID Extractors


@pytest.mark.parametrize(
    ("extractor", "answers"),
    [
        (chain(from_cookie("session_id"), from_header("X-Session-ID")), {"set-cookie", "x-session-id"}),
        (chain(from_cookie("session_id"), from_query("session_id")), {"set-cookie"}),
        (chain(from_header("X-Session-ID"), from_form("session_id")), {"x-session-id"}),
        (chain(from_query("session_id"), from_form("session_id")), set[str]()),
        (from_cookie("session_id"), {"set-cookie"}),
        (from_header("X-Session-ID"), {"x-session-id"}),
        (from_query("session_id"), set[str]()),
        (from_form("session_id"), set[str]()),
        (from_param("id"), set[str]()),
    ],
)
def test_response_behaviour_of_extractors(open_: Open, extractor: Extractor, answers: set[str]) -> None:
    browser = open_(SessionStore(SessionConfig(extractor=extractor)), index=visits)
    names = {name.lower() for name, _ in browser.get("/").headers}
    assert names & {"set-cookie", "x-session-id"} == answers


def test_multiple_sources_with_fallback(open_: Open) -> None:
    async def index(request: Request) -> Response:
        session = await get_session(request)
        session["visits"] = session.get("visits", 0) + 1
        return JSONResponse({"session_id": session.id, "source": "multi-source", "visits": session["visits"]})

    places = chain(from_cookie("session_id"), from_header("X-Session-ID"), from_query("session_id"))
    browser = open_(SessionStore(SessionConfig(extractor=places)), index=index)
    first = browser.get("/")
    sid = json.decode(first.body)["session_id"]
    assert (holds(browser, "session_id"), first.one("x-session-id")) == (sid, sid)
    asked: list[Reply] = [
        browser.get("/"),
        other(browser).get("/", [("X-Session-ID", sid)]),
        other(browser).get(f"/?session_id={sid}"),
        other(browser).get(f"/?session_id={sid}", [("Cookie", "session_id=" + "u" * 43)]),
    ]
    assert [json.decode(reply.body)["visits"] for reply in asked] == [2, 3, 4, 5]
    assert all(json.decode(reply.body)["session_id"] == sid for reply in asked)


def test_custom_extractor_for_bearer_tokens(open_: Open) -> None:
    def extract(request: RequestView) -> str | None:
        values = request.header("Authorization")
        token = values[0].removeprefix("Bearer ") if values and values[0].startswith("Bearer ") else ""
        return token or None

    extractor = Extractor(extract, Source.HEADER, "Authorization")
    browser = open_(SessionStore(SessionConfig(extractor=extractor)), index=visits)
    sid = browser.get("/").one("authorization")
    assert sid is not None
    reply = browser.get("/", [("Authorization", f"Bearer {sid}")])
    assert (reply.text, reply.one("authorization"), reply.one("vary")) == ("Visits: 2", None, "Authorization")
    assert browser.get("/", [("Authorization", f"Basic {sid}")]).text == "Visits: 1"


def test_custom_read_only_extractor(open_: Open) -> None:
    def extract(request: RequestView) -> str | None:
        return next(iter(request.header("X-Custom-Session")), None)

    extractor = Extractor(extract, Source.OTHER, "X-Custom-Session")
    browser = open_(SessionStore(SessionConfig(extractor=extractor)), index=named)
    reply = browser.get("/")
    assert (reply.one("x-custom-session"), reply.set_cookies) == (None, [])
    assert browser.get("/", [("X-Custom-Session", reply.one("x-shown") or "")]).text == "Visits: 2"


# -- Configuration


def test_production_security_settings(open_: Open, caplog: pytest.LogCaptureFixture) -> None:
    def on_error(view: RequestView, error: SessionError) -> tuple[int, str]:
        logging.getLogger("shop").error("Session error: %s", error)
        return 500, "Session error"

    settings: dict[str, Any] = {**PRODUCTION, "id_generator": lambda: str(uuid4()), "on_error": on_error}
    with pytest.raises(ConfigError, match="no cookie_domain"):  # as the page has it: browsers drop such a cookie
        SessionConfig(extractor=from_cookie("__Host-session_id"), cookie_domain="example.com", **settings)
    with_domain = SessionConfig(extractor=from_cookie("__Secure-id"), cookie_domain="example.com", **settings)
    line = open_(SessionStore(with_domain), index=visits).get("/").set_cookies[0]
    assert "; Domain=example.com; " in line
    assert len(line.partition("=")[2].partition(";")[0]) == 36

    async def broken(request: Request) -> Response:
        (await get_session(request))["x"] = object()
        return PlainTextResponse("never sent")

    browser = open_(SessionStore(SessionConfig(**settings)), index=broken)
    reply = browser.get("/")
    assert (reply.status, reply.text) == (500, "Session error")
    assert "Session error: session key 'x'" in caplog.text


class User(Struct):
    id: int
    name: str
    role: str


@pytest.mark.parametrize("method", ["call", "decorator"])
def test_custom_types(open_: Open, method: str) -> None:
    store = SessionStore()
    if method == "call":
        store.register_type(User)
    else:
        store.register_type(name="shop.User")(User)

    async def remember(request: Request) -> Response:
        session = await get_session(request)
        session["user"] = User(123, "John", "admin")
        return PlainTextResponse("ok")

    async def show(request: Request) -> Response:
        user = (await get_session(request)).get("user")
        if isinstance(user, User):
            return PlainTextResponse(f"User: {user.name} (Role: {user.role})")
        return PlainTextResponse("No user found")

    browser = open_(store, remember=remember, show=show)
    assert browser.get("/show").text == "No user found"
    browser.get("/remember")
    assert browser.get("/show").text == "User: John (Role: admin)"


def test_basic_types_come_back_as_they_were() -> None:
    values = {
        "text": "ä", "int": -(2**63), "big": 2**64 - 1, "bool": True, "float": 0.1, "bytes": b"\0\xff",
        "complex": 1 + 2j, "interface": [None, {"a": (1, 2)}],
    }  # fmt: skip

    async def main() -> None:
        store = SessionStore()
        session = await store.create(values)
        found = dict(await store.get_by_id(session.id))
        assert found == values
        assert [type(value) for value in found.values()] == [type(value) for value in values.values()]

    anyio.run(main)


# -- Migration Guide


LOOKUPS: list[tuple[str, Extractor]] = [
    ("cookie:session_id", from_cookie("session_id")),
    ("header:X-Session-ID", from_header("X-Session-ID")),
    ("query:session_id", from_query("session_id")),
    ("form:session_id", from_form("session_id")),
    ("cookie:sid,header:X-Sid", chain(from_cookie("sid"), from_header("X-Sid"))),
]


@pytest.mark.parametrize(("lookup", "extractor"), LOOKUPS)
def test_the_table_of_key_lookups(open_: Open, lookup: str, extractor: Extractor) -> None:
    def shape(given: Extractor) -> list[tuple[Source, str]]:
        return [(part.source, part.key) for part in given.parts or (given,)]

    assert shape(from_lookup(lookup)) == shape(extractor)
    browser = open_(SessionStore(SessionConfig(extractor=from_lookup(lookup))), index=named)
    first = browser.get("/")
    assert first.text == "Visits: 1"
    sid, name = first.one("x-shown") or "", lookup.rpartition(":")[2]
    match lookup.partition(":")[0]:
        case "query":
            found = other(browser).get(f"/?{name}={sid}")
        case "form":
            found = post(other(browser), "/", **{name: sid})
        case _ if name.startswith("X-"):
            found = other(browser).get("/", [(name, sid)])
        case _:
            found = other(browser).get("/", [("Cookie", f"{name}={sid}")])
    assert found.text == "Visits: 2"


def test_the_v3_store_pattern(open_: Open) -> None:
    store = SessionStore(SessionConfig(extractor=from_cookie("session_id")))

    async def main() -> None:
        session = await store.get(PlainView())
        try:
            session["key"] = "value"
            await session.save()
            sid = session.id
        finally:
            session.release()
        again = await store.get(PlainView([f"session_id={sid}".encode()]))
        assert again["key"] == "value"
        again.set_idle_timeout(timedelta(hours=1))
        await again.save()
        assert await store.delete(sid)
        assert await store.reset() == 0

    anyio.run(main)


# -- Examples


def test_e_commerce_with_cart_persistence(open_: Open) -> None:
    config = SessionConfig(extractor=from_cookie("__Host-cart_session"), **PRODUCTION)
    browser = open_(SessionStore(config), cart_add=add_to_cart, login=login, logout=logout, read=read)
    assert post(browser, "/cart/add", item_id="1").text == '{"items":1}'
    assert post(browser, "/cart/add", item_id="2").text == '{"items":2}'
    anonymous = holds(browser, "__Host-cart_session")
    assert post(browser, "/login", email="admin@example.com", password="no").status == 401
    assert post(browser, "/login", **GOOD).status == 303
    assert holds(browser, "__Host-cart_session") not in {None, anonymous}
    assert json.decode(browser.get("/read").body) == {"cart": ["1", "2"], "user_id": 1, "authenticated": True}
    assert post(browser, "/cart/add", item_id="3").text == '{"items":3}'
    assert browser.post("/logout", b"").status == 303
    assert holds(browser, "__Host-cart_session") is None
    assert browser.get("/read").text == "{}"


def test_api_with_header_based_sessions(open_: Open) -> None:
    async def data(request: Request) -> Response:
        session = await get_session(request)
        calls = session.get("api_calls", 0) + 1
        session["api_calls"] = calls
        session["last_call"] = datetime.now(UTC)
        return JSONResponse({"data": "some data", "calls": calls})

    config = SessionConfig(extractor=from_header("X-Session-Token"), idle_timeout=timedelta(hours=1))
    browser = open_(SessionStore(config), api_data=data)
    first = browser.post("/api/data", b"")
    token = first.one("x-session-token")
    assert token is not None
    assert first.set_cookies == []
    second = browser.request("POST", "/api/data", [("X-Session-Token", token)])
    assert json.decode(second.body) == {"data": "some data", "calls": 2}
    assert second.one("x-session-token") is None
    assert second.one("vary") == "X-Session-Token"
