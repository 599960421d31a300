"""WebSockets on ASGI, message by message: the handshake carries the ID, nothing later can."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.asgi import Message, Wire, socket_scope
from tests.stores import SpyStorage

from sessioncore import (
    ResponseStarted,
    Session,
    SessionConfig,
    SessionReleased,
    SessionStore,
    StorageUnavailable,
    UnregisteredType,
    from_form,
)
from sessioncore_asgi import SessionMiddleware, get_session

pytestmark = pytest.mark.anyio

Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
Handler = Callable[[Session, Receive, Send], Awaitable[None]]

CONNECT: Message = {"type": "websocket.connect"}
LEAVE: Message = {"type": "websocket.disconnect", "code": 1001}
ACCEPT: Message = {"type": "websocket.accept"}


class Site:
    """A WebSocket application of one handler, behind the middleware."""

    def __init__(self, handler: Handler, **config: Any) -> None:
        self.storage = SpyStorage()
        self.store = SessionStore(SessionConfig(storage=self.storage, **config))
        self.handler = handler
        self.app = SessionMiddleware(self.serve, self.store)

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        await self.handler(scope["session"], receive, send)

    async def connect(self, sid: str | None = None, *incoming: Message, breaks_at: int | None = None) -> Wire:
        wire = Wire([CONNECT, *incoming], breaks_at=breaks_at)
        await self.app(socket_scope(sid=sid), wire.receive, wire.send)
        return wire

    async def make(self, **data: Any) -> str:
        session = await self.store.create(data)
        self.storage.calls.clear()
        return session.id

    async def data(self, sid: str) -> dict[str, Any]:
        return dict(await self.store.get_by_id(sid))


def cookie_of(message: Message) -> str:
    lines: list[str] = [value.decode() for key, value in message["headers"] if key == b"set-cookie"]
    assert len(lines) == 1
    return lines[0].partition("=")[2].partition(";")[0]


async def test_a_new_id_travels_with_the_accept() -> None:
    async def handler(session: Session, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "websocket.connect"
        session["n"] = 1
        await send({"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x", b"y")]})
        session["n"] = 2
        await send({"type": "websocket.send", "text": "hello"})
        await send({"type": "websocket.close"})

    site = Site(handler)
    wire = await site.connect()
    accept = wire.sent[0]
    assert (accept["type"], accept["subprotocol"], accept["headers"][0]) == ("websocket.accept", "chat", (b"x", b"y"))
    assert await site.data(cookie_of(accept)) == {"n": 2}
    assert [message["type"] for message in wire.sent[1:]] == ["websocket.send", "websocket.close"]


async def test_login_before_the_accept_moves_the_session() -> None:
    async def handler(session: Session, receive: Receive, send: Send) -> None:
        await session.login("ada")
        await send(ACCEPT)

    site = Site(handler)
    sid = await site.make(n=1)
    moved = cookie_of((await site.connect(sid)).sent[0])
    assert moved != sid
    assert await site.data(moved) == {"n": 1}
    assert not await site.store.delete(sid)


async def test_an_untouched_accept_is_the_very_same_message() -> None:
    async def handler(session: Session, receive: Receive, send: Send) -> None:
        await send(ACCEPT)

    site = Site(handler)
    for sid in (None, await site.make()):
        assert (await site.connect(sid)).sent[0] is ACCEPT


async def test_after_the_accept_a_fresh_session_takes_no_write_and_none_a_new_id() -> None:
    async def handler(session: Session, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        if session.fresh:
            with pytest.raises(ResponseStarted):
                session["n"] = 1
        for verb in (session.regenerate, session.reset, lambda: session.login("ada")):
            with pytest.raises(ResponseStarted):
                await verb()

    site = Site(handler)
    await site.connect()
    assert site.storage.calls == []
    sid = await site.make(n=1)
    await site.connect(sid)
    assert await site.data(sid) == {"n": 1}


async def test_changes_are_saved_when_told_to_and_at_close() -> None:
    async def handler(session: Session, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        session["a"] = 1
        await session.save()
        assert await site.data(sid) == {"a": 1}
        session["b"] = 2

    site = Site(handler)
    sid = await site.make()
    await site.connect(sid)
    assert await site.data(sid) == {"a": 1, "b": 2}


async def test_destroy_is_allowed_at_any_time() -> None:
    async def handler(session: Session, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await session.destroy()
        with pytest.raises(ResponseStarted):
            session["n"] = 1

    site = Site(handler)
    sid = await site.make(n=1)
    await site.connect(sid)
    assert len(site.storage.inner) == 0


async def test_a_client_that_leaves_loses_no_change_and_a_bug_does() -> None:
    async def handler(session: Session, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        session["n"] = 2
        if (await receive())["type"] == "websocket.disconnect":
            raise ConnectionError("the framework's word for it")
        raise ZeroDivisionError

    for incoming, error, left in ((LEAVE, ConnectionError, 2), (CONNECT, ZeroDivisionError, 1)):
        site = Site(handler)
        sid = await site.make(n=1)
        wire = Wire([incoming])
        with pytest.raises(error):
            await site.app(socket_scope(sid=sid), wire.receive, wire.send)
        assert await site.data(sid) == {"n": left}


async def test_a_client_that_left_shows_when_sending_and_an_error_of_the_files_is_a_bug() -> None:
    class Disconnect(Exception):
        """What Starlette makes of the server's OSError."""

    async def push(session: Session, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        session["n"] = 2
        try:
            await send({"type": "websocket.send", "text": "hello"})
        except OSError:
            raise Disconnect from None

    async def stumble(session: Session, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        session["n"] = 2
        raise FileNotFoundError("no such template")

    for handler, error, left in ((push, Disconnect, 2), (stumble, FileNotFoundError, 1)):
        site = Site(handler)
        sid = await site.make(n=1)
        wire = Wire([], breaks_at=1)
        with pytest.raises(error):
            await site.app(socket_scope(sid=sid), wire.receive, wire.send)
        assert await site.data(sid) == {"n": left}


async def test_a_refused_handshake_stores_what_needs_no_header_and_nothing_else() -> None:
    async def handler(session: Session, receive: Receive, send: Send) -> None:
        session["tries"] = session.get("tries", 0) + 1
        await send({"type": "websocket.close", "code": 4401})

    site = Site(handler)
    assert (await site.connect()).sent == [{"type": "websocket.close", "code": 4401}]
    assert site.storage.calls == []
    sid = await site.make(tries=1)
    await site.connect(sid)
    assert await site.data(sid) == {"tries": 2}


async def test_a_denial_response_is_a_response_and_carries_the_cookie() -> None:
    async def handler(session: Session, receive: Receive, send: Send) -> None:
        session["tries"] = 1
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b"no"})

    site = Site(handler)
    wire = await site.connect()
    assert await site.data(cookie_of(wire.sent[0])) == {"tries": 1}
    assert (b"cache-control", b"no-store") in wire.sent[0]["headers"]
    assert wire.sent[1]["body"] == b"no"


@pytest.mark.parametrize(
    "message",
    [ACCEPT, {"type": "websocket.http.response.start", "status": 401, "headers": []}, {"type": "websocket.close"}],
)
async def test_what_cannot_be_stored_refuses_the_handshake(message: Message) -> None:
    async def handler(session: Session, receive: Receive, send: Send) -> None:
        session["n"] = object()
        await send(message)

    site = Site(handler)
    sid = await site.make(n=1)
    wire = Wire([CONNECT])
    with pytest.raises(UnregisteredType):
        await site.app(socket_scope(sid=sid), wire.receive, wire.send)
    assert wire.sent == []
    assert await site.data(sid) == {"n": 1}


async def test_a_storage_that_is_down_is_an_error_on_use_and_none_without() -> None:
    async def handler(session: Session, receive: Receive, send: Send) -> None:
        if (await receive())["type"] == "websocket.connect":
            session.get("n")
        await send(ACCEPT)

    site = Site(handler)
    sid = await site.make(n=1)
    site.storage.fail("load")
    wire = Wire([CONNECT])
    with pytest.raises(StorageUnavailable):
        await site.app(socket_scope(sid=sid), wire.receive, wire.send)
    assert wire.sent == []
    wire = Wire([LEAVE])
    await site.app(socket_scope(sid=sid), wire.receive, wire.send)
    assert wire.sent == [ACCEPT]


async def test_a_socket_has_no_form_and_its_session_ends_with_it() -> None:
    kept: list[Session] = []

    async def handler(session: Session, receive: Receive, send: Send) -> None:
        kept.append(session)
        assert session.fresh
        assert (await receive()) is CONNECT
        await send(ACCEPT)

    site = Site(handler, extractor=from_form("sid"))
    await site.connect()
    with pytest.raises(SessionReleased):
        kept[0]["n"] = 1


async def test_lazy_loads_in_the_handler() -> None:
    async def handler(scope: Any, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        (await get_session(scope))["n"] = 2

    site = Site(handler)
    sid = await site.make(n=1)
    wire = Wire([CONNECT])
    await SessionMiddleware(handler, site.store, lazy=True)(socket_scope(sid=sid), wire.receive, wire.send)
    assert await site.data(sid) == {"n": 2}
    assert wire.sent == [ACCEPT]
