"""FastAPI: `SessionDep` in handlers, dependencies and WebSockets, and nothing of it in the API's description."""

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from msgspec import Struct
from tests.adapters.asgi import CONNECT, ask, run, socket_scope

from sessioncore import Session, SessionConfig, SessionKey, SessionStore, from_cookie
from sessioncore_asgi import SessionMiddleware
from sessioncore_asgi.fastapi import SessionDep, get_session, session_dependency

pytestmark = pytest.mark.anyio


class Item(Struct):
    name: str


CART: SessionKey[list[Item]] = SessionKey("cart", list[Item], default_factory=list[Item])
AdminSession = Annotated[Session, Depends(session_dependency("admin"))]


def user(session: SessionDep) -> str | None:
    name: str | None = session.get("user")
    return name


def build(store: SessionStore, admin: SessionStore | None = None, *, lazy: bool = False) -> FastAPI:
    app = FastAPI()

    @app.get("/add")
    async def add(name: str, session: SessionDep) -> int:
        session[CART].append(Item(name))
        return len(session[CART])

    @app.get("/sync")
    def sync(session: SessionDep) -> dict[str, Any]:
        session["n"] = session.get("n", 0) + 1
        return {"n": session["n"]}

    @app.get("/user")
    async def who(name: Annotated[str | None, Depends(user)], session: SessionDep) -> str | None:
        session["user"] = "ada"
        return name

    @app.get("/admin")
    async def of_admin(session: AdminSession) -> bool:
        session["admin"] = True
        return session.fresh

    @app.websocket("/ws")
    async def talk(socket: WebSocket, session: SessionDep) -> None:
        session["n"] = session.get("n", 0) + 1
        await socket.accept()
        await socket.send_text(str(session["n"]))
        await socket.close()

    if admin is not None:
        app.add_middleware(SessionMiddleware, store=admin, scope_key="admin")
    app.add_middleware(SessionMiddleware, store=store, lazy=lazy)
    return app


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])  # sync handlers run in threads
@pytest.mark.parametrize("lazy", [False, True])
async def test_a_parameter_is_the_session_in_async_and_sync_handlers(lazy: bool) -> None:
    store = SessionStore()
    app = build(store, lazy=lazy)
    wire = await ask(app, "/add", query_string=b"name=tea")
    assert wire.body == b"1"
    assert (await ask(app, "/add", wire.sid, query_string=b"name=milk")).body == b"2"
    assert (await ask(app, "/sync", wire.sid)).body == b'{"n":1}'
    held = await store.get_by_id(wire.sid or "")
    assert held[CART] == [Item("tea"), Item("milk")]
    assert held["n"] == 1


async def test_a_dependency_gets_the_same_session_or_that_of_its_store_or_one_that_a_test_puts_in_its_place() -> None:
    store, admin = SessionStore(), SessionStore(SessionConfig(extractor=from_cookie("__Host-admin")))
    app = build(store, admin)
    wire = await ask(app, "/user")
    assert wire.body == b"null"
    assert (await ask(app, "/user", wire.sid)).body == b'"ada"'
    wire = await ask(app, "/admin")
    assert wire.body == b"true"
    assert [line.partition("=")[0] for line in wire.all("set-cookie")] == ["__Host-admin"]
    known = await store.create({"user": "ada"})
    app.dependency_overrides = {get_session: lambda: known, session_dependency("admin"): lambda: known}
    assert (await ask(app, "/user")).body == b'"ada"'
    assert (await ask(app, "/admin")).body == b"false"
    assert session_dependency() is get_session


async def test_a_websocket_takes_it_too() -> None:
    wire = await run(build(SessionStore()), socket_scope("/ws"), CONNECT)
    assert wire.kinds == ["websocket.accept", "websocket.send", "websocket.close"]
    assert (wire.sent[1]["text"], bool(wire.sid)) == ("1", True)


def test_the_session_is_no_part_of_the_api() -> None:
    operation = build(SessionStore()).openapi()["paths"]["/add"]["get"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["name"]
    assert "requestBody" not in operation
