"""SessionAuth, FlashPlugin and TestClient on our sessions: none of them adopts an ID or writes without need."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from jinja2 import DictLoader, Environment
from litestar import Litestar, get, post
from litestar.app import DEFAULT_OPENAPI_CONFIG
from litestar.exceptions import ImproperlyConfiguredException, NotAuthorizedException
from litestar.handlers import BaseRouteHandler
from litestar.plugins.flash import FlashConfig, FlashPlugin, flash
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.response import Template
from litestar.security.session_auth import SessionAuth
from litestar.template import TemplateConfig
from litestar.testing import AsyncTestClient
from msgspec import Struct
from tests.adapters.litestar_kit import COOKIE, HTTPS, AnyConnection, AnyRequest, Client, Open, clients, read, write
from tests.stores import SpyStorage, without_checks

from sessioncore import SessionConfig, SessionStore, from_cookie, from_header
from sessioncore_litestar import SessionBackendConfig, SessionPlugin, get_session

INVENTED = "invented-by-a-client-0123456789-0123456789-"


class User(Struct):
    name: str


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


async def find(session: dict[str, Any], _: AnyConnection) -> User | None:
    name = session.get("user")
    return User(name) if name else None


async def only_ada(connection: AnyConnection, _: BaseRouteHandler) -> None:
    if "user" in connection.scope and connection.user.name != "ada":
        raise NotAuthorizedException


@pytest.fixture(params=["with the plugin", "alone"])
def members(request: pytest.FixtureRequest, enter: Open, store: SessionStore) -> Client:
    """SessionAuth, installed as in Litestar's documentation, with and without our plugin."""
    auth: SessionAuth[User, Any] = SessionAuth(
        retrieve_user_handler=find,
        session_backend_config=SessionBackendConfig(store),
        exclude=["^/public", "^/schema"],
        guards=[only_ada],
    )
    plugins = [SessionPlugin(store)] if request.param == "with the plugin" else []
    return enter(
        login, logout, me, public, read, write, on_app_init=[auth.on_app_init], plugins=plugins,
        openapi_config=DEFAULT_OPENAPI_CONFIG,
    )  # fmt: skip


def test_session_auth_lets_in_who_is_logged_in(members: Client, store: SessionStore, storage: SpyStorage) -> None:
    assert members.get("/me").status_code == 401
    assert members.get("/public").text == "public"
    members.post("/login")
    storage.calls.clear()
    for _ in range(2):  # which writes nothing
        reply = members.get("/me")
        assert reply.json() == {"name": "ada", "auth": {"user": "ada"}}
        assert (reply.headers.get("set-cookie"), reply.headers["vary"]) == (None, "Cookie")
    assert storage.calls == ["load"] * 2
    assert "Max-Age=0" in members.post("/logout").headers["set-cookie"]
    made = members.blocking_portal.call(store.create, {"user": ""})
    reply = members.get("/me", headers={"Cookie": f"{COOKIE}={made.id}"})
    assert (reply.status_code, "Max-Age=0" in reply.headers["set-cookie"]) == (401, True)  # a session without a user
    assert len(storage.inner) == 0
    schema = cast("Any", members).app.openapi_schema.to_schema()
    scheme = schema["components"]["securitySchemes"]["sessionCookie"]
    assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "cookie", COOKIE)
    assert schema["security"] == [{"sessionCookie": []}]


@pytest.mark.proves("P1")
def test_session_auth_stores_nothing_for_strangers_and_adopts_no_id(
    members: Client, store: SessionStore, storage: SpyStorage
) -> None:
    for headers in ({}, {"Cookie": f"{COOKIE}={INVENTED}"}):
        assert members.get("/me", headers=headers).status_code == 401
        assert COOKIE not in members.cookies
    assert {call for call in without_checks(storage.calls) if call != "open"} <= {"load"}
    assert len(storage.inner) == 0
    planted = members.blocking_portal.call(store.create, {"cart": ["tea"]}).id
    for sid in (INVENTED, planted):
        assert sid not in members.post("/login", headers={"Cookie": f"{COOKIE}={sid}"}).headers["set-cookie"]
        members.cookies.clear()
        assert members.get("/me", headers={"Cookie": f"{COOKIE}={sid}"}).status_code == 401


@pytest.mark.proves("P7")
def test_session_auth_is_no_login_page_when_storage_is_down(members: Client, storage: SpyStorage) -> None:
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


def test_the_configuration_has_the_stores_settings() -> None:
    config = SessionConfig(extractor=from_cookie("__Secure-id"), cookie_same_site="strict", cookie_path="/app")
    backend = SessionBackendConfig(SessionStore(config), exclude="^/static")
    assert (backend.key, backend.samesite, backend.path) == ("__Secure-id", "strict", "/app")
    assert (backend.max_age, backend.secure, backend.httponly, backend.domain) == (86400, True, True, None)
    assert (backend.exclude, backend.exclude_opt_key) == ("^/static", "skip_session")
    header = SessionBackendConfig(SessionStore(SessionConfig(extractor=from_header("X-Session"))), exclude=[])
    assert (header.key, header.exclude) == ("X-Session", None)  # Litestar joins patterns; none would match every path


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


def test_flashes_are_shown_once(enter: Open, store: SessionStore, storage: SpyStorage) -> None:
    templates = _templates()
    plugins = [SessionPlugin(store), FlashPlugin(FlashConfig(templates))]
    client = enter(say, page, read, plugins=plugins, template_config=templates)
    assert client.get("/page").text == ""
    assert without_checks(storage.calls) == ["open"]
    client.post("/say")
    client.post("/say")  # the stored list changes in place
    assert client.get("/page").text == "info:saved warning:twice " * 2
    assert client.get("/page").text == ""
    assert client.get("/read").json() == {}


def test_flash_messages_need_the_plugin_first(store: SessionStore) -> None:
    templates = _templates()
    with pytest.raises(ImproperlyConfiguredException):
        Litestar([], plugins=[FlashPlugin(FlashConfig(templates)), SessionPlugin(store)], template_config=templates)


@pytest.fixture(params=["asyncio", "trio"])  # TestClient runs the storage's calls in a loop of its own
def client(request: pytest.FixtureRequest, store: SessionStore) -> Iterator[Client]:
    with clients(store, request.param) as open_:
        yield open_(read, write, session_config=SessionBackendConfig(store))


def test_a_test_can_set_and_get_the_data(client: Client, storage: SpyStorage) -> None:
    client.set_session_data({"n": 41})
    assert client.get("/read").json() == {"n": 41}
    client.post("/write")
    assert client.get_session_data() == {"n": 42}
    before = dict(client.cookies)
    client.set_session_data({"other": 1})
    assert client.get("/read").json() == {"other": 1}
    assert dict(client.cookies) == before
    assert len(storage.inner) == 1


def test_a_test_can_end_the_session_and_without_one_stores_nothing(client: Client, storage: SpyStorage) -> None:
    assert client.get_session_data() == {}
    client.set_session_data({})
    assert (without_checks(storage.calls), dict(client.cookies)) == (["open"], {})
    client.set_session_data({"tags": {"a", "b"}, "pair": (1, 2)})
    assert client.get_session_data() == {"tags": {"a", "b"}, "pair": (1, 2)}
    nothing: Any = None
    client.set_session_data(nothing)
    assert len(storage.inner) == 0
    assert client.get_session_data() == {}


def test_the_test_client_adopts_no_id(client: Client, store: SessionStore) -> None:
    client.cookies.set(COOKIE, INVENTED, domain="testserver.local", path="/")
    assert client.get_session_data() == {}
    client.set_session_data({"n": 1})
    assert client.cookies.get(COOKIE) not in {INVENTED, None}
    assert client.get_session_data() == {"n": 1}
    assert client.get("/read", headers={"Cookie": f"{COOKIE}={INVENTED}"}).json() == {}


@pytest.mark.anyio  # asyncio only: on trio, Litestar's client blocks the loop, with any kind of session
async def test_the_asynchronous_client_does_the_same(store: SessionStore) -> None:
    app = Litestar([read, write], plugins=[SessionPlugin(store)])
    async with AsyncTestClient(app, HTTPS, session_config=SessionBackendConfig(store)) as client:
        await client.set_session_data({"n": 41})
        assert (await client.get("/read")).json() == {"n": 41}
        await client.post("/write")
        assert await client.get_session_data() == {"n": 42}
