"""SessionAuth, FlashPlugin and TestClient on our sessions: none of them adopts an ID or writes without need."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, TypeAlias

import pytest
from jinja2 import DictLoader, Environment
from litestar import Litestar, Request, get, post
from litestar.connection import ASGIConnection
from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.handlers import BaseRouteHandler
from litestar.plugins.flash import FlashConfig, FlashPlugin, flash
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Template
from litestar.security.session_auth import SessionAuth
from litestar.template import TemplateConfig
from litestar.testing import AsyncTestClient, TestClient
from msgspec import Struct
from tests.stores import SpyStorage

from sessioncore import SessionConfig, SessionStore, from_cookie, from_header
from sessioncore_litestar import SessionBackendConfig, SessionPlugin, get_session

AnyRequest: TypeAlias = Request[Any, Any, Any]
Connection: TypeAlias = ASGIConnection[Any, Any, Any, Any]
COOKIE = "__Host-session_id"
HTTPS = "https://testserver.local"
INVENTED = "invented-by-a-client-0123456789-0123456789-"


class User(Struct):
    name: str


@pytest.fixture
def storage() -> SpyStorage:
    return SpyStorage()


@pytest.fixture
def store(storage: SpyStorage) -> SessionStore:
    return SessionStore(SessionConfig(storage=storage))


@get("/read")
async def read(request: AnyRequest) -> dict[str, Any]:
    return dict(request.session)


@post("/write")
async def write(request: AnyRequest) -> None:
    request.session["n"] = request.session.get("n", 0) + 1


@get("/quiet")
async def quiet() -> None: ...


# -- SessionAuth


@post("/login", exclude_from_auth=True)
async def login(request: AnyRequest) -> None:
    session = await get_session(request)
    await session.login("ada")
    session["user"] = "ada"


@post("/logout")
async def logout(request: AnyRequest) -> None:
    request.clear_session()


@get("/me")
async def me(request: AnyRequest) -> dict[str, Any]:
    return {"name": request.user.name, "auth": dict(request.auth)}


@get("/public")
async def public(request: AnyRequest) -> str:
    return "public"


async def find(session: dict[str, Any], _: Connection) -> User | None:
    name = session.get("user")
    return User(name) if name else None


async def only_ada(connection: Connection, _: BaseRouteHandler) -> None:
    if "user" in connection.scope and connection.user.name != "ada":
        raise NotAuthorizedException


@pytest.fixture(params=["with the plugin", "alone"])
def members(request: pytest.FixtureRequest, store: SessionStore) -> Iterator[TestClient[Litestar]]:
    """SessionAuth, installed as Litestar's documentation does, with and without our plugin."""
    auth: SessionAuth[User, Any] = SessionAuth(
        retrieve_user_handler=find,
        session_backend_config=SessionBackendConfig(store),
        exclude=["^/public", "^/schema"],
        guards=[only_ada],
    )
    app = Litestar(
        [login, logout, me, public, read, write],
        on_app_init=[auth.on_app_init],
        plugins=[SessionPlugin(store)] if request.param == "with the plugin" else [],
    )
    with TestClient(app, HTTPS, raise_server_exceptions=False) as client:
        yield client


def test_session_auth_lets_in_who_is_logged_in(members: TestClient[Litestar], storage: SpyStorage) -> None:
    assert members.get("/me").status_code == 401
    assert members.get("/public").text == "public"
    members.post("/login")
    assert members.get("/me").json() == {"name": "ada", "auth": {"user": "ada"}}
    reply = members.post("/logout")
    assert "Max-Age=0" in reply.headers["set-cookie"]
    assert members.get("/me").status_code == 401
    assert len(storage.inner) == 0


def test_session_auth_stores_nothing_for_strangers(members: TestClient[Litestar], storage: SpyStorage) -> None:
    for headers in ({}, {"Cookie": f"{COOKIE}={INVENTED}"}):
        reply = members.get("/me", headers=headers)
        assert reply.status_code == 401
        assert COOKIE not in members.cookies
    assert {call for call in storage.calls if call != "open"} <= {"load"}
    assert len(storage.inner) == 0


def test_session_auth_adopts_no_id(members: TestClient[Litestar]) -> None:
    reply = members.post("/login", headers={"Cookie": f"{COOKIE}={INVENTED}"})
    assert INVENTED not in reply.headers["set-cookie"]
    members.cookies.clear()
    assert members.get("/me", headers={"Cookie": f"{COOKIE}={INVENTED}"}).status_code == 401


def test_session_auth_of_a_login_changes_the_id(members: TestClient[Litestar], store: SessionStore) -> None:
    planted = members.blocking_portal.call(store.create, {"cart": ["tea"]})
    members.cookies.set(COOKIE, planted.id)
    members.post("/login")
    members.cookies.clear()
    assert members.get("/me", headers={"Cookie": f"{COOKIE}={planted.id}"}).status_code == 401


def test_session_auth_ends_a_session_without_a_user(
    members: TestClient[Litestar], store: SessionStore, storage: SpyStorage
) -> None:
    made = members.blocking_portal.call(store.create, {"user": ""})
    reply = members.get("/me", headers={"Cookie": f"{COOKIE}={made.id}"})
    assert reply.status_code == 401
    assert "Max-Age=0" in reply.headers["set-cookie"]
    assert len(storage.inner) == 0


def test_session_auth_writes_only_what_changes(members: TestClient[Litestar], storage: SpyStorage) -> None:
    members.post("/login")
    storage.calls.clear()
    for _ in range(3):
        reply = members.get("/me")
        assert "set-cookie" not in reply.headers
        assert reply.headers["vary"] == "Cookie"
    assert storage.calls == ["load"] * 3


def test_session_auth_is_no_login_page_when_storage_is_down(members: TestClient[Litestar], storage: SpyStorage) -> None:
    members.post("/login")
    before = dict(members.cookies)
    storage.fail("load")
    reply = members.get("/me")
    assert (reply.status_code, reply.text) == (503, "Service Unavailable")
    assert "set-cookie" not in reply.headers
    assert dict(members.cookies) == before
    assert members.get("/public").status_code == 200
    storage.restore()
    assert members.get("/me").status_code == 200


def test_session_auth_describes_the_cookie(members: TestClient[Litestar]) -> None:
    client: Any = members
    schema = client.app.openapi_schema.to_schema()
    scheme = schema["components"]["securitySchemes"]["sessionCookie"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "cookie", COOKIE)
    assert schema["security"] == [{"sessionCookie": []}]


def test_the_configuration_has_the_stores_settings() -> None:
    config = SessionConfig(extractor=from_cookie("__Secure-id"), cookie_same_site="strict", cookie_path="/app")
    backend = SessionBackendConfig(SessionStore(config), exclude="^/static")
    assert (backend.key, backend.samesite, backend.path) == ("__Secure-id", "strict", "/app")
    assert (backend.max_age, backend.secure, backend.httponly, backend.domain) == (86400, True, True, None)
    assert (backend.exclude, backend.exclude_opt_key) == ("^/static", "skip_session")
    header = SessionBackendConfig(SessionStore(SessionConfig(extractor=from_header("X-Session"))))
    assert header.key == "X-Session"


# -- FlashPlugin


@post("/say")
async def say(request: AnyRequest) -> None:
    flash(request, "saved", "info")
    flash(request, "twice", "warning")


@get("/page")
async def page() -> Template:
    return Template(template_name="page.html")


PAGE = "{% for m in get_flashes() %}{{ m.category }}:{{ m.message }} {% endfor %}"


def _templates() -> TemplateConfig[JinjaTemplateEngine]:
    environment = Environment(loader=DictLoader({"page.html": PAGE}), autoescape=True)
    return TemplateConfig(instance=JinjaTemplateEngine.from_environment(environment))


def test_flashes_are_shown_once(store: SessionStore, storage: SpyStorage) -> None:
    templates = _templates()
    plugins = [SessionPlugin(store), FlashPlugin(FlashConfig(templates))]
    with TestClient(Litestar([say, page, read], plugins=plugins, template_config=templates), HTTPS) as client:
        assert client.get("/page").text == ""
        assert storage.calls == ["open"]
        client.post("/say")
        client.post("/say")  # the list is there already, and changes in place
        assert client.get("/page").text == "info:saved warning:twice " * 2
        assert client.get("/page").text == ""
        assert client.get("/read").json() == {}


def test_flash_messages_need_the_plugin_first(store: SessionStore) -> None:
    templates = _templates()
    with pytest.raises(ImproperlyConfiguredException):
        Litestar([], plugins=[FlashPlugin(FlashConfig(templates)), SessionPlugin(store)], template_config=templates)


# -- TestClient


@pytest.fixture(params=["asyncio", "trio"])
def client(request: pytest.FixtureRequest, store: SessionStore) -> Iterator[TestClient[Litestar]]:
    app = Litestar([read, write, quiet], plugins=[SessionPlugin(store)])
    config = SessionBackendConfig(store)
    with ExitStack() as stack:
        yield stack.enter_context(TestClient(app, HTTPS, session_config=config, backend=request.param))


def test_a_test_can_set_and_get_the_data(client: TestClient[Litestar], storage: SpyStorage) -> None:
    client.set_session_data({"n": 41})
    assert client.get("/read").json() == {"n": 41}
    client.post("/write")
    assert client.get_session_data() == {"n": 42}
    before = dict(client.cookies)
    client.set_session_data({"other": 1})
    assert client.get("/read").json() == {"other": 1}
    assert dict(client.cookies) == before
    assert len(storage.inner) == 1


def test_values_keep_their_types_in_tests(client: TestClient[Litestar]) -> None:
    client.set_session_data({"tags": {"a", "b"}, "pair": (1, 2)})
    assert client.get_session_data() == {"tags": {"a", "b"}, "pair": (1, 2)}


def test_a_test_without_a_session_reads_nothing_and_stores_nothing(
    client: TestClient[Litestar], storage: SpyStorage
) -> None:
    assert client.get_session_data() == {}
    client.set_session_data({})
    assert (storage.calls, dict(client.cookies)) == (["open"], {})


def test_a_test_can_end_the_session(client: TestClient[Litestar], storage: SpyStorage) -> None:
    client.set_session_data({"n": 1})
    nothing: Any = None
    client.set_session_data(nothing)
    assert len(storage.inner) == 0
    assert client.get_session_data() == {}


def test_the_test_clients_door_adopts_no_id(client: TestClient[Litestar], store: SessionStore) -> None:
    client.cookies.set(COOKIE, INVENTED, domain="testserver.local", path="/")
    assert client.get_session_data() == {}
    client.set_session_data({"n": 1})
    assert client.cookies.get(COOKIE) not in {INVENTED, None}
    assert client.get_session_data() == {"n": 1}
    assert client.get("/read", headers={"Cookie": f"{COOKIE}={INVENTED}"}).json() == {}


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # theirs blocks trio's loop, with any session
async def test_the_asynchronous_client_does_the_same(store: SessionStore, anyio_backend: Any) -> None:
    app = Litestar([read, write], plugins=[SessionPlugin(store)])
    config = SessionBackendConfig(store)
    async with AsyncTestClient(app, HTTPS, session_config=config, backend=anyio_backend) as client:
        await client.set_session_data({"n": 41})
        assert (await client.get("/read")).json() == {"n": 41}
        await client.post("/write")
        assert await client.get_session_data() == {"n": 42}


def test_an_invented_id_is_adopted_by_no_request(client: TestClient[Litestar], storage: SpyStorage) -> None:
    reply = client.post("/write", headers={"Cookie": f"{COOKIE}={INVENTED}"})
    assert INVENTED not in reply.headers["set-cookie"]
    client.cookies.clear()
    assert client.get("/read", headers={"Cookie": f"{COOKIE}={INVENTED}"}).json() == {}
    for cookie in ("null", "", '"', "a" * 5000):
        reply = client.get("/quiet", headers={"Cookie": f"{COOKIE}={cookie}"})
        assert (reply.status_code, reply.headers.get("set-cookie")) == (200, None)
    assert len(storage.inner) == 1
