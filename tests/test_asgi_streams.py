"""The end of a response on ASGI: who has read it to there finds in the storage what was changed on the way."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from tests.asgi import Message, Wire, ask, http_scope
from tests.stores import SpyStorage

from sessioncore import Session, SessionConfig, SessionKey, SessionStore, StorageUnavailable, UnregisteredType
from sessioncore_asgi import SessionMiddleware, get_session

pytestmark = pytest.mark.anyio

START: Message = {"type": "http.response.start", "status": 200, "headers": []}
MORE: Message = {"type": "http.response.body", "body": b"x", "more_body": True}
LAST: Message = {"type": "http.response.body", "body": b"y"}

Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Session, Send], Awaitable[None]]


class Site:
    """A raw ASGI application of one handler; `seen` is what the storage held when the end of the body was sent."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.storage = SpyStorage()
        self.store = SessionStore(SessionConfig(storage=self.storage))
        self.seen: list[dict[str, Any]] = []

    async def serve(self, scope: Any, receive: Any, send: Send) -> None:
        await self.handler(await get_session(scope), send)

    async def visit(self, sid: str, *, lazy: bool = False, app: Any = None) -> Wire:
        wire = Wire([{"type": "http.request"}])

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.seen.append(dict(await self.store.get_by_id(sid)))
            await wire.send(message)

        await SessionMiddleware(app or self.serve, self.store, lazy=lazy)(http_scope(sid=sid), wire.receive, send)
        return wire

    async def make(self, **data: Any) -> str:
        session = await self.store.create(data)
        self.storage.calls.clear()
        return session.id


@pytest.mark.parametrize("lazy", [False, True])
async def test_late_changes_are_stored_before_the_end_of_the_body_is_sent(lazy: bool) -> None:
    async def handler(session: Session, send: Send) -> None:
        await send(START)
        session["late"] = 1
        await send(MORE)
        session["late"] = 2
        await send(LAST)

    site = Site(handler)
    await site.visit(await site.make(), lazy=lazy)
    assert site.seen == [{"late": 2}]
    assert site.storage.calls.count("replace") == 1


async def test_a_default_that_a_stream_changes_is_stored_before_the_end_of_the_body_too() -> None:
    cart = SessionKey("cart", list[int], default_factory=list)

    async def handler(session: Session, send: Send) -> None:
        await send(START)
        session[cart].append(1)
        await send(LAST)

    site = Site(handler)
    await site.visit(await site.make(user="ada"))
    assert site.seen == [{"user": "ada", "cart": [1]}]
    assert site.storage.calls.count("replace") == 1


async def test_a_session_that_a_stream_loads_is_stored_before_its_end_too() -> None:
    async def handler(session: Session, send: Send) -> None:
        session["late"] = 1
        await send(LAST)

    site = Site(handler)

    async def serve(scope: Any, receive: Any, send: Send) -> None:
        await send(START)
        await send(MORE)
        await site.serve(scope, receive, send)

    await site.visit(await site.make(), lazy=True, app=serve)
    assert site.seen == [{"late": 1}]


async def test_a_change_between_the_start_and_the_only_body_is_stored_before_it_too() -> None:
    async def handler(session: Session, send: Send) -> None:
        session["n"] = 1
        await send(START)
        session["n"] = 2
        await send({"type": "http.response.body"})

    site = Site(handler)
    await site.visit(await site.make(n=0))
    assert site.seen == [{"n": 2}]


async def test_a_change_in_place_is_stored_before_the_end_too() -> None:
    async def handler(session: Session, send: Send) -> None:
        cart = session["cart"]
        await send(START)
        cart.append("tea")
        await send(LAST)

    site = Site(handler)
    await site.visit(await site.make(cart=[]))
    assert site.seen == [{"cart": ["tea"]}]


async def test_a_body_that_ends_without_late_changes_costs_the_storage_nothing() -> None:
    async def handler(session: Session, send: Send) -> None:
        assert session["cart"] == []
        for message in (START, MORE, LAST):
            await send(message)

    site = Site(handler)
    sid = await site.make(cart=[])
    wire = await ask(SessionMiddleware(site.serve, site.store), sid=sid)
    assert site.storage.calls == ["load"]
    assert wire.sent[1:] == [MORE, LAST]


async def test_the_end_is_not_sent_if_the_late_changes_cannot_be_stored() -> None:
    raised: list[Exception] = []

    async def handler(session: Session, send: Send) -> None:
        await send(START)
        session["late"] = 1
        await send(MORE)
        try:
            await send(LAST)
        except StorageUnavailable as error:
            raised.append(error)
            raise

    site = Site(handler)
    sid = await site.make()
    site.storage.fail("replace")
    wire = Wire([{"type": "http.request"}])
    with pytest.raises(StorageUnavailable):
        await SessionMiddleware(site.serve, site.store)(http_scope(sid=sid), wire.receive, wire.send)
    assert wire.sent[1:] == [MORE]
    assert len(raised) == 1


async def test_a_late_value_that_cannot_be_stored_breaks_the_stream() -> None:
    async def handler(session: Session, send: Send) -> None:
        await send(START)
        session["late"] = object()
        await send(LAST)

    site = Site(handler)
    sid = await site.make(n=1)
    wire = Wire([{"type": "http.request"}])
    with pytest.raises(UnregisteredType, match="late"):
        await SessionMiddleware(site.serve, site.store)(http_scope(sid=sid), wire.receive, wire.send)
    assert len(wire.sent) == 1
    assert dict(await site.store.get_by_id(sid)) == {"n": 1}


async def test_a_session_that_was_ended_elsewhere_meanwhile_lets_the_stream_end() -> None:
    async def handler(session: Session, send: Send) -> None:
        await send(START)
        session["late"] = 1
        await site.store.revoke(session.handle)
        await send(LAST)

    site = Site(handler)
    wire = await ask(SessionMiddleware(site.serve, site.store), sid=await site.make(n=1))
    assert wire.sent[-1] == LAST
    assert len(site.storage.inner) == 0


async def test_what_changes_after_the_end_is_stored_when_the_handler_is_through() -> None:
    async def handler(session: Session, send: Send) -> None:
        await send(START)
        session["late"] = 1
        await send(LAST)
        session["later"] = 1

    site = Site(handler)
    sid = await site.make()
    await site.visit(sid)
    assert site.seen == [{"late": 1}]
    assert dict(await site.store.get_by_id(sid)) == {"late": 1, "later": 1}


@pytest.mark.parametrize("around", [[], [Middleware(BaseHTTPMiddleware, dispatch=lambda r, call: call(r))]])
async def test_starlettes_streams_end_with_everything_stored(around: list[Middleware]) -> None:
    async def events(request: Request) -> Response:
        async def stream() -> AsyncIterator[str]:
            for number in range(3):
                request.session["seen"] = number
                yield "x"

        return StreamingResponse(stream())

    async def nothing(session: Session, send: Send) -> None: ...

    site = Site(nothing)
    app = Starlette(
        routes=[Route("/", events)], middleware=[*around, Middleware(SessionMiddleware, store=site.store), *around]
    )
    sid = await site.make(n=1)
    ends: list[dict[str, Any]] = []

    async def watched(scope: Any, receive: Any, send: Send) -> None:
        async def look(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                ends.append(dict(await site.store.get_by_id(sid)))
            await send(message)

        await app(scope, receive, look)

    wire = await ask(watched, sid=sid)
    assert wire.body == b"xxx"
    assert ends == [{"n": 1, "seen": 2}]
