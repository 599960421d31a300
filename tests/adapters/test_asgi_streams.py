"""The end of a stream on ASGI: once a client has read it, what was changed while it was sent is stored."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from tests.adapters.asgi import BODY, START, AsgiSite, Channel, Message, Wire, ask, http_scope, run
from tests.stores import SpyStorage

from sessioncore import Session, SessionKey, SessionStore, StorageUnavailable, UnregisteredType
from sessioncore_asgi import SessionMiddleware, get_session

pytestmark = pytest.mark.anyio

MORE: Message = {"type": "http.response.body", "body": b"x", "more_body": True}
FILE: Message = {"type": "http.response.pathsend", "path": "/a"}  # the server sends this file as the body
TRAILERS: Message = {"type": "http.response.trailers", "headers": []}
DEFAULT = SessionKey("cart", list[int], default_factory=list)
Handler = Callable[[Session, Channel], Awaitable[None]]


async def watch(app: Any, store: SessionStore, sid: str) -> dict[str, Any]:
    """Send a request, and return what is stored when the end of the response is sent."""
    seen: dict[str, Any] = {}
    wire = Wire([{"type": "http.request"}])

    async def send(message: Message) -> None:
        seen.clear()
        seen.update(await store.get_by_id(sid))
        await wire.send(message)

    await app(http_scope(sid=sid), wire.receive, send)
    return seen


async def set_between(session: Session, channel: Channel) -> None:
    await channel.send(START)
    session["late"] = 1
    await channel.send(MORE)
    session["late"] = 2
    await channel.send(BODY)


async def set_before_the_only_body(session: Session, channel: Channel) -> None:
    session["late"] = 1
    await channel.send(START)
    session["late"] = 2
    await channel.send({"type": "http.response.body"})


async def set_before_a_file(session: Session, channel: Channel) -> None:
    await channel.send(START)
    session["late"] = 2
    await channel.send(FILE)


async def set_before_trailers(session: Session, channel: Channel) -> None:
    await channel.send({**START, "trailers": True}, BODY)
    session["late"] = 2
    await channel.send(TRAILERS)


async def change_in_place(session: Session, channel: Channel) -> None:
    items = session["items"]
    await channel.send(START)
    items.append("tea")
    await channel.send(BODY)


async def change_a_default(session: Session, channel: Channel) -> None:
    await channel.send(START)
    session[DEFAULT].append(1)
    await channel.send(BODY)


@pytest.mark.proves("P3", "AT-98")
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("handler", "stored"),
    [
        (set_between, {"items": [], "late": 2}),
        (set_before_the_only_body, {"items": [], "late": 2}),
        (set_before_a_file, {"items": [], "late": 2}),
        (set_before_trailers, {"items": [], "late": 2}),
        (change_in_place, {"items": ["tea"]}),
        (change_a_default, {"items": [], "cart": [1]}),
    ],
)
async def test_late_changes_are_stored_before_the_body_ends(handler: Handler, stored: object, lazy: bool) -> None:
    site = AsgiSite(handler, lazy=lazy)
    sid = await site.make(items=[])
    assert await watch(site.app, site.store, sid) == stored
    assert site.storage.calls[:-1].count("replace") == (2 if handler is set_before_the_only_body else 1)


async def test_a_session_that_a_stream_loads_is_stored_before_its_end_too(store: SessionStore) -> None:
    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await Channel(receive, send).send(START, MORE)
        (await get_session(scope))["late"] = 1
        await send(BODY)

    assert await watch(SessionMiddleware(serve, store, lazy=True), store, (await store.create()).id) == {"late": 1}


async def test_a_body_that_ends_without_late_changes_costs_the_storage_nothing() -> None:
    async def handler(session: Session, channel: Channel) -> None:
        assert session["items"] == []
        await channel.send(START, MORE, BODY)

    site = AsgiSite(handler)
    wire = await site.ask(await site.make(items=[]))
    assert site.storage.calls == ["load"]
    assert wire.sent[1:] == [MORE, BODY]


@pytest.mark.proves("P3")
@pytest.mark.parametrize("error", [StorageUnavailable, UnregisteredType])
async def test_the_end_is_not_sent_if_the_late_changes_cannot_be_stored(error: type[Exception]) -> None:
    raised: list[Exception] = []

    async def handler(session: Session, channel: Channel) -> None:
        await channel.send(START)
        session["late"] = 1 if error is StorageUnavailable else object()
        await channel.send(MORE)
        try:
            await channel.send(BODY)
        except error as exc:
            raised.append(exc)
            raise

    site = AsgiSite(handler)
    sid = await site.make(n=1)
    site.storage.fail("replace")
    raises = None if error is StorageUnavailable else error  # an outage is logged by the store
    assert (await site.ask(sid, raises=raises)).sent[1:] == [MORE]
    assert len(raised) == 1
    assert await site.data(sid) == {"n": 1}


async def test_a_session_that_was_ended_elsewhere_meanwhile_lets_the_stream_end() -> None:
    async def handler(session: Session, channel: Channel) -> None:
        await channel.send(START)
        session["late"] = 1
        await site.store.revoke(session.handle)
        await channel.send(BODY)

    site = AsgiSite(handler)
    assert (await site.ask(await site.make(n=1))).sent[-1] == BODY
    assert len(site.storage.inner) == 0


async def test_a_client_that_leaves_a_stream_loses_no_change() -> None:
    async def handler(session: Session, channel: Channel) -> None:
        async def parts() -> AsyncIterator[str]:
            session["late"] = 1
            yield "x"

        await StreamingResponse(parts())(http_scope(), channel.receive, channel.send)  # turns the OSError into its own

    site = AsgiSite(handler)
    sid = await site.make(n=1)
    await run(site.app, http_scope(sid=sid), raises=ClientDisconnect, breaks_at=1)
    assert await site.data(sid) == {"n": 1, "late": 1}


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])  # BaseHTTPMiddleware serves in another task
@pytest.mark.parametrize("around", [[], [Middleware(BaseHTTPMiddleware, dispatch=lambda r, call: call(r))]])
async def test_starlettes_streams_end_with_everything_stored(
    around: list[Middleware], store: SessionStore, storage: SpyStorage
) -> None:
    async def events(request: Request) -> Response:
        request.session["n"] = request.session.get("n", 0) + 1

        async def stream() -> AsyncIterator[str]:
            for number in range(3):
                request.session["seen"] = number
                yield "x"

        return StreamingResponse(stream())

    ours = Middleware(SessionMiddleware, store=store)
    app = Starlette(routes=[Route("/", events)], middleware=[*around, ours, *around])
    first = await ask(app)
    assert first.sid
    assert await watch(app, store, first.sid) == {"n": 2, "seen": 2}
    again = await ask(app, sid=first.sid)
    assert (first.body, again.body, again.sid) == (b"xxx", b"xxx", None)
    storage.fail("create")
    failed = await ask(app)
    assert (failed.status, failed.sid) == (503, None)
