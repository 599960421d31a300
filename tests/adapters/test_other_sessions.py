"""Two stores, or another library's sessions, where one store is expected: refused where possible, else logged once."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from litestar import Litestar, get
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.security.session_auth import SessionAuth
from litestar.testing import TestClient
from starlette.applications import Starlette
from starlette.middleware import Middleware, sessions
from starlette.middleware.sessions import SessionMiddleware as StarletteSessions
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from tests.adapters.aiohttp_kit import application, count, route
from tests.adapters.asgi import ask, http_scope, run, socket_scope
from tests.adapters.conftest import Visit
from tests.adapters.litestar_kit import HTTPS, AnyRequest, Open
from tests.stores import SpyStorage

from sessioncore import ConfigError, SessionConfig, SessionStore, chain, from_cookie, from_header
from sessioncore_aiohttp import session_middleware, setup
from sessioncore_asgi import SessionMiddleware, get_session
from sessioncore_litestar import SessionBackendConfig, SessionPlugin

pytestmark = pytest.mark.anyio

STARLETTES = Middleware(StarletteSessions, secret_key="a secret")


def make(**config: Any) -> SessionStore:
    return SessionStore(SessionConfig(**config))


# -- two stores with one cookie or header, and one store with two names

SID = from_cookie("sid")
CHAINS = [{"extractor": chain(first, SID)} for first in (from_header("X-Sid"), from_cookie("other"))]
HEADERS = [{"extractor": from_header(name)} for name in ("X-Sid", "x-sid")]
ELSEWHERE = {"extractor": SID, "cookie_path": "/admin", "cookie_domain": "example.com"}
CLASHES = [
    pytest.param({}, {}, "cookie '__Host-session_id'.*from_cookie", id="both by default"),
    pytest.param({}, None, r"scope_key='second'.*its own cookie name and key_prefix", id="one store"),
    pytest.param({"extractor": SID}, ELSEWHERE, "cookie 'sid'", id="another path and domain"),
    pytest.param(*CHAINS, "cookie 'sid'", id="in a chain"),
    pytest.param(*HEADERS, "header 'x-sid'", id="a header"),
]


def asgi_app(first: SessionStore, second: SessionStore) -> Any:
    async def page(request: Request) -> JSONResponse:
        return JSONResponse(None)

    inner = SessionMiddleware(Starlette(routes=[Route("/inner", page)]), second, scope_key="second")
    between = make(extractor=from_cookie("between"))
    return SessionMiddleware(SessionMiddleware(inner, between, scope_key="between"), first)


@pytest.mark.proves("AT-102")
@pytest.mark.parametrize(("one", "other", "text"), CLASHES)
async def test_two_stores_around_one_request_need_two_names(
    one: dict[str, Any], other: dict[str, Any] | None, text: str, visit: Visit, caplog: pytest.LogCaptureFixture
) -> None:
    first = make(**one)
    second = first if other is None else make(**other)
    for _ in range(2):
        assert (await ask(asgi_app(first, second), "/inner")).status == 500
    with pytest.raises(ConfigError, match=text):
        Litestar([], plugins=[SessionPlugin(first), SessionPlugin(second, scope_key="second")])
    app = application(first, count)
    with pytest.raises(ConfigError, match=text):
        setup(app, second, scope_key="second")
    assert len(app.middlewares) == 1
    caplog.clear()
    app.middlewares.append(session_middleware(second, scope_key="second"))
    assert visit(app).get("/count").status == 500
    assert re.search(text, caplog.text)
    for setting_up in (
        lambda: setup(app, make(extractor=from_cookie("another"))),
        lambda: Litestar([], plugins=[SessionPlugin(first), SessionPlugin(make(extractor=from_cookie("another")))]),
    ):
        with pytest.raises(ConfigError, match=r"scope_key='session' already; give the second one another scope_key"):
            setting_up()


async def test_two_stores_are_seen_in_sub_applications_and_layers_too(
    enter: Open, store: SessionStore, storage: SpyStorage, visit: Visit
) -> None:
    second = make(storage=storage)
    app, inner = application(store, count), route(web.Application(), count)
    setup(inner, second)
    app.add_subapp("/inner", inner)
    reply = visit(app).get("/inner/count")
    assert (reply.status, reply.set_cookies, len(storage.inner)) == (500, [], 0)

    @get("/layer", middleware=[SessionBackendConfig(second).middleware])
    async def layer(request: AnyRequest) -> None: ...

    assert enter(layer).get("/layer").status_code == 500


async def test_stores_that_share_nothing_stand_side_by_side() -> None:
    names = make(extractor=from_cookie("one")), make(extractor=chain(from_cookie("One"), from_header("X-Sid")))
    assert (await ask(asgi_app(*names), "/inner")).status == 200
    assert (await ask(asgi_app(names[0], make(extractor=from_header("X-Sid"))), "/inner")).status == 200


async def test_two_mounted_applications_with_one_cookie_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async def warnings_of(*stores: SessionStore) -> int:
        """How many warnings are logged when a browser visits the first store, the second, and the first again."""
        mounts = [Mount(f"/{i}", SessionMiddleware(Starlette(routes=ROUTES), s)) for i, s in enumerate(stores)]
        jar: dict[str, str] = {}
        caplog.clear()
        for path in ("/0/", "/1/", "/0/"):
            cookie = "; ".join(f"{name}={value}" for name, value in jar.items())
            wire = await ask(Starlette(routes=mounts), path, headers=[(b"cookie", cookie.encode())])
            jar |= dict(line.partition(";")[0].split("=", 1) for line in wire.all("set-cookie"))
        return caplog.text.count("another SessionStore of this process")

    assert await warnings_of(make(), make()) == 2  # once for each store
    assert await warnings_of(*[make()] * 2) == await warnings_of(make(), make(extractor=from_cookie("other"))) == 0


# -- another library's session middleware inside of our own


class Derived(StarletteSessions):
    """An application's own subclass."""


class Endless:
    """A middleware of another kind, with an attribute that refers to itself."""

    def __init__(self, app: Any) -> None:
        self.wrapped, self.app = app, self

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.wrapped(scope, receive, send)


class Quiet:
    """A middleware that cannot be recognised, and has a session of its own, as in FastHTML's applications."""

    def __init__(self, app: Any) -> None:
        self.wrapped = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            scope["session"] = {"theirs": True}
        await self.wrapped(scope, receive, send)


async def _add(request: Request) -> JSONResponse:
    request.session["n"] = 1
    return JSONResponse(type(request.session).__name__)


async def _login(request: Request) -> JSONResponse:
    await (await get_session(request)).login("ada")
    return JSONResponse(None)


async def _peek(request: Request) -> JSONResponse:
    return JSONResponse(None)


ROUTES = [Route("/", _add), Route("/login", _login), Route("/peek", _peek)]


async def test_starlettes_own_sessions_inside_of_ours_are_refused(store: SessionStore) -> None:
    app = Starlette(routes=ROUTES, middleware=[Middleware(SessionMiddleware, store=store), STARLETTES])
    for scope in (http_scope(), socket_scope(), {"type": "lifespan"}):
        with pytest.raises(ConfigError, match=r"starlette.middleware.sessions.SessionMiddleware.*scope_key='account'"):
            await run(app, scope)
    twice = [Middleware(SessionMiddleware, store=store)] * 2
    own = Middleware(Derived, secret_key="a secret")
    with pytest.raises(ConfigError, match=r"test_other_sessions\.Derived"):
        await run(Starlette(middleware=[*twice, own]), http_scope())
    namesake: Any = type("SessionMiddleware", (Endless,), {})  # such as one for database sessions
    assert (await ask(Starlette(routes=ROUTES, middleware=[*twice, Middleware(namesake)]))).status == 200


async def test_under_a_name_of_its_own_a_store_stands_beside_starlettes_sessions(store: SessionStore) -> None:
    async def both(request: Request) -> JSONResponse:
        request.session["n"] = 1
        (await get_session(request, scope_key="account"))["n"] = 2
        return JSONResponse(None)

    ours = Middleware(SessionMiddleware, store=store, scope_key="account")
    for middleware in ([ours, STARLETTES], [STARLETTES, ours]):
        wire = await ask(Starlette(routes=[Route("/", both)], middleware=middleware))
        names = sorted(line.partition("=")[0] for line in wire.all("set-cookie"))
        assert names == ["__Host-session_id", "session"]
    same = Middleware(StarletteSessions, secret_key="a secret", session_cookie="__Host-session_id")
    with pytest.raises(ConfigError, match=r"starlette\..* has the cookie '__Host-session_id', too"):
        await ask(Starlette(middleware=[ours, same]))


Make = Callable[[SessionStore], Any]


def around_all(store: SessionStore) -> Any:
    return SessionMiddleware(Quiet(Starlette(routes=ROUTES)), store)


def in_a_mount(store: SessionStore) -> Any:
    routes = [*ROUTES, Mount("/admin", Starlette(routes=ROUTES, middleware=[STARLETTES]))]
    return Starlette(routes=routes, middleware=[Middleware(SessionMiddleware, store=store)])


STARLETTES_KIND = (
    "starlette.middleware.sessions.Session" if hasattr(sessions, "Session") else "builtins.dict"
)  # the latter before 0.47


@pytest.mark.parametrize(
    ("make_app", "path", "kind"),
    [
        pytest.param(around_all, "/", "builtins.dict", id="the first request"),
        pytest.param(around_all, "/peek", "builtins.dict", id="the first request, without a session"),
        pytest.param(in_a_mount, "/admin/login", STARLETTES_KIND, id="a use of ours"),
    ],
)
async def test_a_session_that_another_library_replaces_is_logged_once(
    make_app: Make, path: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(make())
    if make_app is in_a_mount:
        await ask(app, "/")
        assert caplog.records == []
    for _ in range(3):
        assert (await ask(app, path)).status == 200
    [record] = caplog.records
    assert (record.name, record.levelname) == ("sessioncore", "WARNING")
    assert f"'session' of a request was replaced by another library's ({kind})" in record.getMessage()
    assert "scope_key='account'" in record.getMessage()


async def test_a_second_store_is_no_other_library(store: SessionStore, caplog: pytest.LogCaptureFixture) -> None:
    second = make(extractor=from_cookie("__Host-second"))
    for scope_key in ("session", "second"):
        inner = SessionMiddleware(Starlette(routes=ROUTES), second, scope_key=scope_key)
        app = SessionMiddleware(inner, store)
        for path in ("/", "/login", "/"):
            await ask(app, path)
    assert caplog.records == []


# -- and outside of our own


async def test_another_librarys_sessions_outside_of_ours_are_refused_on_each_request(store: SessionStore) -> None:
    app = Starlette(routes=ROUTES, middleware=[STARLETTES, Middleware(SessionMiddleware, store=store)])
    quiet = Quiet(SessionMiddleware(Starlette(routes=ROUTES), store))
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: ask(app), lambda: ask(app), lambda: run(app, socket_scope()), lambda: ask(quiet)
    ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(ConfigError, match=r"outside of this one .*'session'.*scope_key='account'"):
            await attempt()


# -- Litestar


def test_litestars_own_sessions_are_refused_in_layers_and_in_session_auth(enter: Open, store: SessionStore) -> None:
    theirs = ServerSideSessionConfig(secure=True)

    @get("/layer", middleware=[theirs.middleware])
    async def layer(request: AnyRequest) -> None:
        request.session["n"] = 1

    with pytest.raises(ConfigError, match=r"litestar.middleware.session.*scope_key='account'"):
        Litestar([layer], plugins=[SessionPlugin(store)])
    auth = SessionAuth[str, Any](retrieve_user_handler=_nobody, session_backend_config=theirs)
    with pytest.raises(ConfigError, match=r"session_backend_config=SessionBackendConfig\(store\)"):
        Litestar([], on_app_init=[auth.on_app_init], plugins=[SessionPlugin(store)])
    same = ServerSideSessionConfig(key="__Host-session_id", secure=True)
    with pytest.raises(ConfigError, match="cookie '__Host-session_id', too"):
        Litestar([], middleware=[same.middleware], plugins=[SessionPlugin(store, scope_key="account")])
    both = SessionStore(SessionConfig(extractor=chain(from_cookie("__Host-session_id"), from_cookie("session"))))
    with pytest.raises(ConfigError, match="cookie 'session', too"):
        Litestar([layer], plugins=[SessionPlugin(both, scope_key="account")])
    with TestClient(Litestar([layer], plugins=[SessionPlugin(store, scope_key="account")]), HTTPS) as client:
        assert client.get("/layer").status_code == 200


async def _nobody(*_: Any) -> None: ...
