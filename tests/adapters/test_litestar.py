"""What Litestar offers on the request, and by dependency injection."""

from dataclasses import dataclass
from typing import Any

import attrs
import pytest
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery
from litestar.types import Empty
from msgspec import Struct
from pydantic import BaseModel
from tests.adapters.litestar_kit import COOKIE, AnyRequest, Open, SessionDep, put, read, write
from tests.stores import SpyStorage

from sessioncore import (
    Session,
    SessionConfig,
    SessionStore,
    from_cookie,
)
from sessioncore_litestar import SessionPlugin, get_session

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
def test_set_session_replaces_the_data(enter: Open, storage: SpyStorage, given: Any, tags: object) -> None:
    @post("/replace")
    async def replace(request: AnyRequest) -> None:
        put(request, given)

    client = enter(write, read, replace)
    client.post("/write")
    before = client.cookies[COOKIE]
    assert client.post("/replace").headers.get("set-cookie") is None
    assert client.get("/read").json() == {"user": "ada", "tags": tags}
    assert client.cookies[COOKIE] == before
    assert storage.calls == ["open", "create", "load", "replace", "load"]


def test_set_session_begins_a_session(enter: Open, storage: SpyStorage) -> None:
    @post("/begin")
    async def begin(request: AnyRequest) -> str | None:
        put(request, {"n": 41})
        request.session["n"] += 1
        return request.get_session_id()

    client = enter(begin, read)
    assert client.post("/begin").text == client.cookies[COOKIE]
    assert client.get("/read").json() == {"n": 42}


def test_set_session_with_nothing_new_writes_nothing(enter: Open, storage: SpyStorage) -> None:
    @post("/same")
    async def same(request: AnyRequest) -> None:
        put(request, dict(request.session))

    client = enter(write, same)
    client.post("/write")
    assert "set-cookie" not in client.post("/same").headers
    assert storage.calls == ["open", "create", "load"]


@pytest.mark.parametrize("value", ["clear", None, Empty], ids=["clear_session", "None", "Empty"])
def test_clear_session_ends_the_session(enter: Open, storage: SpyStorage, value: Any) -> None:
    @post("/clear")
    async def clear(request: AnyRequest) -> str | None:
        if value == "clear":
            request.clear_session()
        else:
            put(request, value)
        return request.get_session_id() if value is not None else None

    client = enter(write, clear, read)
    client.post("/write")
    reply = client.post("/clear")
    assert "Max-Age=0" in reply.headers["set-cookie"]
    assert reply.text in {"", "null"}
    assert len(storage.inner) == 0
    assert COOKIE not in client.cookies
    assert client.get("/read").json() == {}


def test_clear_session_of_a_stranger_does_nothing(enter: Open, storage: SpyStorage) -> None:
    @post("/clear")
    async def clear(request: AnyRequest) -> None:
        request.clear_session()

    assert "set-cookie" not in enter(clear).post("/clear").headers
    assert storage.calls == ["open"]


def test_clear_session_holds_when_the_handler_fails_afterwards(enter: Open, storage: SpyStorage) -> None:
    @post("/clear")
    async def clear(request: AnyRequest) -> None:
        request.clear_session()
        raise RuntimeError

    @post("/replace")
    async def replace(request: AnyRequest) -> None:
        put(request, {"lost": True})
        raise RuntimeError

    client = enter(write, clear, replace, read)
    client.post("/write")
    assert client.post("/replace").status_code == 500
    assert client.get("/read").json() == {"n": 1}
    assert client.post("/clear").status_code == 500
    assert len(storage.inner) == 0


def test_clear_session_that_fails_is_an_error(enter: Open, storage: SpyStorage) -> None:
    @post("/clear")
    async def clear(request: AnyRequest) -> None:
        request.clear_session()

    client = enter(write, clear, read)
    client.post("/write")
    storage.fail("delete")
    reply = client.post("/clear")
    assert (reply.status_code, reply.text) == (503, "Service Unavailable")
    assert "set-cookie" not in reply.headers
    storage.restore()
    assert client.get("/read").json() == {"n": 1}


@pytest.mark.parametrize("value", [42, "text", ["list"], {1: 2}], ids=repr)
def test_set_session_refuses_what_has_no_keys(enter: Open, storage: SpyStorage, value: Any) -> None:
    @post("/replace")
    async def replace(request: AnyRequest) -> None:
        put(request, value)

    client = enter(write, replace, read)
    client.post("/write")
    reply = client.post("/replace")
    assert (reply.status_code, reply.text) == (500, "Internal Server Error")
    assert client.get("/read").json() == {"n": 1}


def test_get_session_acts_on_what_set_session_was_given(enter: Open) -> None:
    @post("/replace")
    async def replace(request: AnyRequest) -> None:
        put(request, {"a": 1})
        session = await get_session(request)
        session["b"] = 2
        await session.save()
        assert request.session is session

    client = enter(replace, read)
    client.post("/replace")
    assert client.get("/read").json() == {"a": 1, "b": 2}


def test_the_id_is_told_when_asked_for_and_else_nothing_is_touched(enter: Open, storage: SpyStorage) -> None:
    @get("/id")
    async def tell(request: AnyRequest) -> str:
        return request.get_session_id() or "none"

    @post("/renew")
    async def renew(request: AnyRequest, session: SessionDep) -> str:
        await session.regenerate()
        return request.get_session_id() or "none"

    @get("/quiet")
    async def quiet() -> None: ...

    client = enter(tell, renew, quiet, write)
    assert len(client.get("/id").text) == 43
    assert storage.calls == ["open"]
    client.post("/write")
    assert client.get("/id").text == client.cookies[COOKIE]
    assert client.post("/renew").text == client.cookies[COOKIE]
    assert not {"vary", "set-cookie", "cache-control"} & set(client.get("/quiet").headers)


# -- by dependency injection


def test_the_session_is_a_parameter(enter: Open) -> None:
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

    client = enter(count, sync, thread)
    assert [client.post(path).json() for path in ("/count", "/sync", "/thread")] == [1, 2, 3]


@pytest.mark.filterwarnings("ignore:.*Inferred dependency")
def test_the_session_is_a_parameter_by_its_name_alone(enter: Open) -> None:
    @post("/count")
    async def count(session: Session) -> int:
        return int(session.mutate("n", lambda n: n + 1, 0))

    client = enter(count)
    assert [client.post("/count").json() for _ in range(2)] == [1, 2]


def test_a_dependency_may_depend_on_the_session(enter: Open) -> None:
    async def user(session: SessionDep) -> str:
        return session.owner or "nobody"

    @get("/whoami", dependencies={"user": user})
    async def whoami(user: NamedDependency[str]) -> str:
        return user

    @post("/login")
    async def login(session: SessionDep) -> None:
        await session.login("ada")

    client = enter(whoami, login)
    assert client.get("/whoami").text == "nobody"
    client.post("/login")
    assert client.get("/whoami").text == "ada"


def test_openapi_does_not_list_the_session(enter: Open) -> None:
    @get("/count")
    async def count(session: SessionDep, page: FromQuery[int] = 1) -> int:
        return page

    client: Any = enter(count)
    schema = client.app.openapi_schema.to_schema()
    operation = schema["paths"]["/count"]["get"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["page"]
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

    @get("/takes")
    async def takes(request: AnyRequest) -> dict[str, Any]:
        return dict(request.session)

    client = enter(quiet, asks, awaits, takes, plugin=SessionPlugin(store, lazy=True))
    made = client.blocking_portal.call(store.create, {"n": 1})
    client.cookies.set(COOKIE, made.id)
    storage.calls.clear()
    assert client.get("/quiet").status_code == 200
    assert storage.calls == []
    assert client.get("/asks").json() == client.get("/awaits").json() == {"n": 1}
    assert storage.calls == ["load", "load"]
    assert client.get("/takes").status_code == 500


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
