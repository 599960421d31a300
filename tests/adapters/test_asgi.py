"""The ASGI middleware, message by message: what it passes on, changes and replaces."""

import gc
from collections.abc import AsyncIterator, Callable
from itertools import product
from typing import Any

import anyio
import pytest
from tests.adapters.asgi import BODY, START, AsgiSite, Channel, Message, Wire, ask, http_scope, run
from tests.numbers import scaled
from tests.stores import SpyStorage

from sessioncore import Session, SessionConfig, SessionReleased, SessionStore, UnregisteredType, from_param
from sessioncore_asgi import SessionMiddleware

pytestmark = pytest.mark.anyio
ON_BOTH = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


async def count(session: Session, channel: Channel) -> None:
    session["n"] = session.get("n", 0) + 1
    await channel.send(START, BODY)


@pytest.mark.proves("P5", "AT-1", "AT-88")
async def test_an_untouched_response_is_passed_on_as_the_very_same_messages() -> None:
    messages: list[Message] = [
        {"type": "http.response.start", "status": 200, "headers": [(b"X", b"y")], "trailers": True},
        {"type": "http.response.body", "body": b"a", "more_body": True},
        {"type": "http.response.body", "body": b"b"},
        {"type": "http.response.trailers", "headers": [(b"t", b"1")]},
    ]

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        await Channel(receive, send).send(*messages)

    storage = SpyStorage()
    store = SessionStore(SessionConfig(storage=storage))
    sid = (await store.create({"n": 1})).id
    for lazy in (False, True):
        app = SessionMiddleware(handler, store, lazy=lazy)
        for given in (None, sid, "u" * 43, "short"):
            storage.calls.clear()
            wire = await ask(app, sid=given)
            assert all(got is meant for got, meant in zip(wire.sent, messages, strict=True))
            assert storage.calls == ["load"] * (not lazy and given not in {None, "short"})


@pytest.mark.proves("AT-1")
async def test_headers_are_added_to_any_iterable_of_pairs_and_the_applications_message_is_left_alone() -> None:
    pairs = [[b"a", b"1"], (b"b", b"2")]
    kinds: list[Callable[[Any], Any] | None] = [None, iter, tuple, list]
    for kind, used in product(kinds, (True, False)):
        headers = {} if kind is None else {"headers": kind(pairs)}
        message: Message = {"type": "http.response.start", "status": 200, **headers}

        async def handler(session: Session, channel: Channel, message: Message = message, used: bool = used) -> None:
            if used:
                session.get("n")
            await channel.send(message, BODY)

        wire = await AsgiSite(handler).ask()
        expected = [(b"a", b"1"), (b"b", b"2")] * bool(headers) + [(b"vary", b"Cookie")] * used
        assert [tuple(pair) for pair in wire.sent[0].get("headers", ())] == expected
        assert message == {"type": "http.response.start", "status": 200, **headers}
    assert pairs == [[b"a", b"1"], (b"b", b"2")]


@pytest.mark.proves("AT-90")
async def test_interim_responses_and_pushes_pass_before_the_final_response_carries_the_cookie() -> None:
    early: list[Message] = [
        {"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]},
        {"type": "http.response.push", "path": "/a.css", "headers": []},
        {"type": "http.response.start", "status": 103, "headers": [(b"link", b"</a.css>")]},
        {"type": "http.response.debug", "info": {}},
    ]
    path: Message = {"type": "http.response.pathsend", "path": "/a"}

    async def handler(session: Session, channel: Channel) -> None:
        session["a"] = 1
        await channel.send(*early)
        session["b"] = 2  # not late: the final response has not started
        await session.regenerate()
        await channel.send(START, path)

    site = AsgiSite(handler)
    wire = await site.ask()
    assert [*wire.sent[:4], wire.sent[5]] == [*early, path]
    assert site.storage.calls == ["create"]
    assert [key for key, _ in wire.sent[4]["headers"]].count(b"set-cookie") == 1
    assert [key for key, _ in wire.sent[2]["headers"]] == [b"link"]


async def test_a_scope_of_another_type_passes_through() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    scope, wire = {"type": "mqtt"}, Wire([])
    receive, send = wire.receive, wire.send
    await SessionMiddleware(app, SessionStore())(scope, receive, send)
    assert seen == [(scope, receive, send)]
    assert scope == {"type": "mqtt"}


async def test_a_scope_without_optional_keys_is_served(caplog: pytest.LogCaptureFixture) -> None:
    site = AsgiSite(count, extractor=from_param("ticket"))
    sid = await site.make(n=1)
    scope: dict[str, Any] = {"type": "http", "path": "/", "headers": []}
    for params in ({"ticket": sid}, {"other": sid}):
        await run(site.app, {**scope, "path_params": params})
        assert await site.data(sid) == {"n": 2}
    assert not caplog.records
    for stored in (3, 4):
        await run(site.app, {**scope})
        assert len(site.storage.inner) == stored
    assert caplog.text.count("from_param('ticket', path='/.../{ticket}')") == 1  # no router has set path_params


@ON_BOTH
async def test_a_request_that_is_cancelled_stores_nothing_and_releases_its_session() -> None:
    kept: list[Session] = []

    async def handler(session: Session, channel: Channel) -> None:
        kept.append(session)
        session["n"] = 2
        scope.cancel()
        await anyio.sleep_forever()

    site = AsgiSite(handler)
    sid = await site.make(n=1)
    with anyio.CancelScope() as scope:
        await site.ask(sid)
    assert await site.data(sid) == {"n": 1}
    assert kept[0]["n"] == 1  # what is stored
    with pytest.raises(SessionReleased, match=r"store\.open"):
        kept[0]["n"] = 3


@pytest.mark.proves("P3", "AT-107")
@pytest.mark.parametrize("then", ["goes on", "raises it", "raises its own error"])
async def test_a_commit_that_fails_replaces_the_answer_whatever_the_application_does(then: str) -> None:
    async def handler(session: Session, channel: Channel) -> None:
        session["n"] = object()
        try:
            await channel.send({**START, "headers": [(b"x-secret", b"1")]})
        except UnregisteredType as error:
            await channel.send({"type": "http.response.body", "body": b"secret", "more_body": True})
            await channel.send({"type": "http.response.body", "body": b"secret"})
            if then == "raises it":
                raise
            if then == "raises its own error":
                raise RuntimeError("the framework's own") from error

    wire = await AsgiSite(handler).ask()
    assert (wire.status, wire.body) == (500, b"Internal Server Error")
    assert wire.all("x-secret") == wire.all("set-cookie") == []
    assert len(wire.sent) == 2


@pytest.fixture
async def without_collector() -> AsyncIterator[None]:
    """Exempt what exists already from collections, which makes them quick."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
async def test_requests_leave_nothing_for_the_garbage_collector() -> None:
    async def handler(session: Session, channel: Channel) -> None:
        match work:
            case "read":
                session.get("n")
            case "count":
                session["n"] = session.get("n", 0) + 1
            case "login":
                await session.login("grace")
            case "regenerate":
                await session.regenerate()
            case _:
                pass
        await channel.send(START, BODY)

    site = AsgiSite(handler)
    for work in ("untouched", "read", "count", "login", "regenerate"):
        # Two of three visitors have a session; the others may begin one. Caches fill in the first round.
        for part in (50, scaled(200)):
            for sid in [await site.make(n=0) if number % 3 else None for number in range(part)]:
                await run(site.app, http_scope(sid=sid))
            found = gc.collect()
        assert found == 0, work
