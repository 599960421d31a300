"""What Litestar offers on the request, and by dependency injection."""

from dataclasses import make_dataclass
from typing import Any

import anyio
import attrs
import pytest
from litestar import Request, get, post
from litestar.app import DEFAULT_OPENAPI_CONFIG
from litestar.params import FromQuery
from litestar.types import Empty
from msgspec import defstruct
from pydantic import BaseModel
from tests.adapters.litestar_kit import COOKIE, AnyRequest, Open, OwnRequest, SessionDep, put, read, write
from tests.stores import SpyStorage, without_checks

from sessioncore import SessionConfig, SessionStore, from_cookie
from sessioncore_litestar import SessionBackendConfig, SessionPlugin, get_session


class AsModel(BaseModel):
    user: str
    tags: tuple[str, ...]


FIELDS = [("user", str), ("tags", tuple[str, ...])]
KINDS: list[Any] = [
    dict, defstruct("AsStruct", FIELDS), make_dataclass("AsDataclass", FIELDS),
    attrs.make_class("AsAttrs", ["user", "tags"]), AsModel,
]  # fmt: skip


def test_set_session_replaces_the_data(enter: Open, storage: SpyStorage) -> None:
    given: Any = None

    @post("/replace")
    async def replace(request: AnyRequest) -> None:
        put(request, given)

    client = enter(write, read, replace)
    for given in (kind(user="ada", tags=("a",)) for kind in KINDS):
        client.post("/write")
        before = client.cookies[COOKIE]
        storage.calls.clear()
        assert client.post("/replace").headers.get("set-cookie") is None
        assert client.get("/read").json() == {"user": "ada", "tags": ["a"]}, given
        assert client.cookies[COOKIE] == before
        assert storage.calls == ["load", "replace", "load"]
    for given in (42, "text", ["list"], {1: 2}):  # none is a mapping with texts as keys
        reply = client.post("/replace")
        assert (reply.status_code, reply.text) == (500, "Internal Server Error")
        assert client.get("/read").json() == {"user": "ada", "tags": ["a"]}, given


def test_set_session_begins_a_session_and_with_nothing_new_writes_nothing(enter: Open, storage: SpyStorage) -> None:
    @post("/begin")
    async def begin(request: AnyRequest) -> str | None:
        put(request, {"n": 41})
        request.session["n"] += 1
        return request.get_session_id()

    @post("/same")
    async def same(request: AnyRequest) -> None:
        put(request, dict(request.session))

    @post("/replace")
    async def replace(request: AnyRequest) -> bool:
        put(request, {"a": 1})
        session = await get_session(request)
        session["b"] = 2
        return request.session is session

    client = enter(begin, same, replace, read)
    assert client.post("/begin").text == client.cookies[COOKIE]
    assert client.get("/read").json() == {"n": 42}
    assert "set-cookie" not in client.post("/same").headers
    assert without_checks(storage.calls) == ["open", "create", "load", "load"]
    assert client.post("/replace").json() is True
    assert client.get("/read").json() == {"a": 1, "b": 2}


def test_clear_session_ends_the_session(enter: Open, storage: SpyStorage) -> None:
    value: Any = "clear_session"

    @post("/end")
    async def end(request: AnyRequest) -> str | None:
        if value == "clear_session":
            request.clear_session()
        else:
            put(request, value)
        return request.get_session_id() if value == "clear_session" else None

    client = enter(write, end, read)
    for each in ("clear_session", Empty, None):
        value = each
        client.post("/write")
        reply = client.post("/end")
        assert "Max-Age=0" in reply.headers["set-cookie"]
        assert reply.text in {"", "null"}
        assert len(storage.inner) == 0
        assert COOKIE not in client.cookies
        assert client.get("/read").json() == {}
    storage.calls.clear()
    assert "set-cookie" not in client.post("/end").headers  # of a visitor without a session
    assert storage.calls == []


@pytest.mark.parametrize("fails", [False, True])
def test_what_is_set_after_clear_session_begins_another_session(
    fails: bool, enter: Open, store: SessionStore, storage: SpyStorage
) -> None:
    @post("/login")
    async def login(request: AnyRequest) -> None:
        await (await get_session(request)).login("ada", device="laptop")

    @post("/guest")
    async def guest(request: AnyRequest) -> str | None:
        request.clear_session()
        put(request, {"guest": True})
        assert request.get_session_id() is None  # the new session has no ID yet
        if fails:
            raise RuntimeError
        session = await get_session(request)
        assert (session.owner, dict(session.details), session.id) == (None, {}, request.get_session_id())
        put(request, {"guest": 2})
        return request.get_session_id()

    client = enter(login, guest, read)
    client.post("/login")
    old = client.cookies[COOKIE]
    reply = client.post("/guest")
    assert anyio.run(store.sessions_of, "ada") == []
    if fails:
        assert (reply.status_code, len(storage.inner), COOKIE in client.cookies) == (500, 0, False)
    else:
        assert old != client.cookies[COOKIE] == reply.text
        assert client.get("/read").json() == {"guest": 2}
        assert len(storage.inner) == 1


def test_clear_session_holds_when_the_handler_fails_afterwards(enter: Open, storage: SpyStorage) -> None:
    @post("/clear-and-fail")
    async def clear_and_fail(request: AnyRequest) -> None:
        request.clear_session()
        raise RuntimeError

    @post("/replace-and-fail")
    async def replace_and_fail(request: AnyRequest) -> None:
        put(request, {"lost": True})
        raise RuntimeError

    client = enter(write, clear_and_fail, replace_and_fail, read)
    client.post("/write")
    assert client.post("/replace-and-fail").status_code == 500
    assert client.get("/read").json() == {"n": 1}
    storage.fail("delete")
    assert client.post("/clear-and-fail").status_code == 503
    storage.restore()
    assert client.get("/read").json() == {"n": 1}
    assert client.post("/clear-and-fail").status_code == 500
    assert len(storage.inner) == 0


def test_get_session_id_returns_the_id_and_stores_nothing(enter: Open, storage: SpyStorage) -> None:
    @get("/id")
    async def tell(request: AnyRequest) -> str:
        return request.get_session_id() or "none"

    @post("/regenerate")
    async def regenerate(request: AnyRequest, session: SessionDep) -> str:
        await session.regenerate()
        return request.get_session_id() or "none"

    client = enter(tell, regenerate, write)
    assert len(client.get("/id").text) == 43
    assert without_checks(storage.calls) == ["open"]
    client.post("/write")
    assert client.get("/id").text == client.cookies[COOKIE]
    assert client.post("/regenerate").text == client.cookies[COOKIE]


class NamedRequest(Request[Any, Any, Any]):
    def get_session_id(self) -> str | None:
        return "by its own rules"


@pytest.mark.parametrize("with_plugin", [True, False])
@pytest.mark.parametrize("request_class", [None, OwnRequest, NamedRequest])
def test_get_session_id_works_with_an_own_request_class(enter: Open, request_class: Any, with_plugin: bool) -> None:
    config = SessionBackendConfig(SessionStore())
    installed: dict[str, Any] = {"middleware": [config.middleware], "plugins": []}
    if with_plugin:
        installed = {"plugin": SessionPlugin(config.store)}
    for of_the_layer in (True, False):
        told: list[object] = []

        @post("/begin", request_class=request_class if of_the_layer else None)
        async def begin(request: AnyRequest) -> None:
            backend = config._backend_class(config)  # pyright: ignore[reportPrivateUsage]
            told.extend([request.get_session_id(), backend.get_session_id(request)])  # noqa: B023
            put(request, {"n": 1})
            told.extend([request.get_session_id(), isinstance(request, request_class or Request)])  # noqa: B023

        client = enter(begin, **installed, request_class=None if of_the_layer else request_class)
        assert client.post("/begin").status_code == 201
        sid = client.cookies[COOKIE]
        own = "by its own rules" if request_class is NamedRequest else sid
        assert told == [own, sid, own, True]


def test_openapi_does_not_list_the_session(enter: Open) -> None:
    @get("/count")
    async def count(session: SessionDep, page: FromQuery[int] = 1) -> int:
        return page

    client: Any = enter(count, openapi_config=DEFAULT_OPENAPI_CONFIG)
    schema = client.app.openapi_schema.to_schema()
    assert [parameter["name"] for parameter in schema["paths"]["/count"]["get"]["parameters"]] == ["page"]
    assert "Session" not in str(schema.get("components"))


def test_lazy_loads_for_those_who_ask(enter: Open, store: SessionStore, storage: SpyStorage) -> None:
    @get("/quiet")
    async def quiet() -> None: ...

    @get("/asks")
    async def asks(session: SessionDep) -> dict[str, Any]:
        return dict(session)

    @get("/awaits")
    async def awaits(request: AnyRequest) -> dict[str, Any]:
        return dict(await get_session(request))

    client = enter(quiet, asks, awaits, read, plugin=SessionPlugin(store, lazy=True))
    client.cookies.set(COOKIE, client.blocking_portal.call(store.create, {"n": 1}).id)
    storage.calls.clear()
    assert client.get("/quiet").status_code == 200
    assert storage.calls == []
    assert client.get("/asks").json() == client.get("/awaits").json() == {"n": 1}
    assert storage.calls == ["load", "load"]
    assert client.get("/read").status_code == 500


def test_two_stores_have_two_parameters(enter: Open, store: SessionStore) -> None:
    admin = SessionStore(SessionConfig(extractor=from_cookie("__Host-admin")))

    @post("/both")
    async def both(session: SessionDep, admin_session: SessionDep) -> None:
        session["n"], admin_session["n"] = 1, 2

    @get("/both")
    async def show(session: SessionDep, admin_session: SessionDep) -> list[int]:
        return [session["n"], admin_session["n"]]

    client = enter(both, show, plugins=[SessionPlugin(store), SessionPlugin(admin, scope_key="admin_session")])
    client.post("/both")
    assert set(client.cookies) == {COOKIE, "__Host-admin"}
    assert client.get("/both").json() == [1, 2]
