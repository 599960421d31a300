"""What an ASGI application and the server see when a session ends, and what an open socket costs."""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from tests.adapters.asgi import ACCEPT, START, Message, http_scope, socket_scope
from tests.adapters.line import Line
from tests.adapters.open_kit import ReportingStorage
from tests.kit import BOTH_LOOPS
from tests.numbers import scaled
from tests.turns import comes_true

from sessioncore import Session, SessionConfig, SessionStore
from sessioncore.http._ids import handle_of
from sessioncore_asgi import SessionMiddleware, get_session

pytestmark = pytest.mark.anyio

Handler = Callable[[Session, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
EVENTS: Message = {**START, "headers": [(b"content-type", b"text/event-stream; charset=utf-8")]}
PART: Message = {"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True}
SEND: Message = {"type": "websocket.send", "text": "hello"}
LAST: Message = {"type": "http.response.body", "body": b"", "more_body": False}
TRAILERS: Message = {"type": "http.response.trailers", "headers": [], "more_trailers": False}
CLOSE: Message = {"type": "websocket.close", "code": 1008, "reason": "session ended"}


@asynccontextmanager
async def line(
    handler: Handler, kind: str = "websocket", store: SessionStore | None = None, owner: str = "ada", **config: Any
) -> AsyncGenerator[tuple[Line, SessionStore]]:
    store = store or SessionStore(SessionConfig(**config))
    sid = (await store.create({"n": 1}, owner=owner)).id
    one = Line(socket_scope(sid=sid) if kind == "websocket" else http_scope(sid=sid))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await handler(await get_session(scope), receive, send)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.serve, SessionMiddleware(app, store))
            yield one, store
            tasks.cancel_scope.cancel()
        await anyio.wait_all_tasks_blocked()
    memory: Any = getattr(store.storage, "inner", store.storage)
    assert f"session:{handle_of(sid)}" not in memory._table.watchers.by_key, "it is watched no longer"


class WebSocketDisconnect(Exception):
    """It has the name that frameworks give theirs."""


async def accept(session: Session, receive: Any, send: Any) -> None:
    session.get("n")
    await receive()
    await send(ACCEPT)


async def leave(session: Session, receive: Any, send: Any) -> None:
    await accept(session, receive, send)
    assert await receive() == {**CLOSE, "type": "websocket.disconnect"}
    assert await receive() == {**CLOSE, "type": "websocket.disconnect"}  # and again, for each further call
    session["late"] = True
    for message in (SEND, {"type": "websocket.close"}):
        with pytest.raises(OSError, match="was ended"):
            await send(message)


async def raise_disconnect(session: Session, receive: Any, send: Any) -> None:
    await accept(session, receive, send)
    await receive()
    raise WebSocketDisconnect


async def raise_group(session: Session, receive: Any, send: Any) -> None:
    await accept(session, receive, send)

    async def write() -> None:
        await receive()
        await send(SEND)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        tasks.start_soon(write)


async def push(session: Session, receive: Any, send: Any) -> None:
    await accept(session, receive, send)
    await send(SEND)
    await anyio.sleep_forever()


async def stay_alive(session: Session, receive: Any, send: Any) -> None:
    await accept(session, receive, send)
    async with session.alive():
        await receive()


async def fail(session: Session, receive: Any, send: Any) -> None:
    await accept(session, receive, send)
    try:
        await receive()
    finally:
        raise ZeroDivisionError


async def ignore(session: Session, receive: Any, send: Any) -> None:
    await accept(session, receive, send)
    for _ in range(99):  # Sanic's WebSockets would do so for ever, and block the loop
        await receive()
    raise AssertionError


@BOTH_LOOPS
@pytest.mark.parametrize("handler", [leave, raise_disconnect, raise_group, stay_alive, fail, ignore])
async def test_a_socket_receives_a_disconnect_and_what_it_raises_then_is_no_failure(
    handler: Handler, caplog: pytest.LogCaptureFixture
) -> None:
    storage = ReportingStorage()
    async with line(handler, storage=storage) as (one, store):
        await one.opened.wait()
        await store.revoke_all("ada")
        await one.over.wait()
        assert isinstance(one.error, ZeroDivisionError) if handler is fail else one.error is None
        assert [message["type"] for message in one.sent] == ["websocket.accept", "websocket.close"]
        assert one.sent[1]["code"] == 1008
        assert "replace" not in storage.calls
        assert caplog.records == []


@BOTH_LOOPS
@pytest.mark.parametrize("stuck", [[], ["websocket.close"], ["websocket.send", "websocket.close"]])
@pytest.mark.proves("P2")
async def test_a_server_whose_send_blocks_holds_no_other_end_up(stuck: list[str]) -> None:
    async def talk(session: Session, receive: Any, send: Any) -> None:
        await accept(session, receive, send)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, SEND)
            await receive()
            tasks.cancel_scope.cancel()

    async with line(talk) as (one, store), line(leave, storage=store.config.storage) as (other, _):
        one.stuck.update(stuck)
        await one.opened.wait()
        await other.opened.wait()
        await store.revoke_all("ada")
        await other.over.wait()
        assert other.sent[-1] == CLOSE
        await one.over.wait()  # within a second, though the close frame is not sent
        assert one.error is None
        async with line(leave, store=store, owner="eve") as (later, _):
            await later.opened.wait()
            one.unstuck.set()  # the first connection finishes closing while another one is watched
            await anyio.wait_all_tasks_blocked()
            await store.revoke_all("eve")
            await later.over.wait()
            assert later.sent[-1] == CLOSE


@BOTH_LOOPS
@pytest.mark.parametrize("kind", ["websocket", "http"])
@pytest.mark.proves("P2")
async def test_a_failure_to_close_one_leaves_the_others_watched(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    handler = push if kind == "websocket" else stream
    async with line(handler, kind) as (one, store), line(leave, store=store, owner="eve") as (other, _):
        one.refuses = lambda message: message["type"] == "websocket.close" or message == LAST
        await one.opened.wait()
        await other.opened.wait()
        await store.revoke_all("ada")
        await comes_true(lambda: caplog.messages == ["a connection whose session was ended could not be closed"])
        await store.revoke_all("eve")
        await other.over.wait()
        assert other.sent[-1] == CLOSE


@BOTH_LOOPS
@pytest.mark.parametrize("end_connections", [True, False])
async def test_a_server_that_admits_no_code_of_the_protocol_closes_with_1000(end_connections: bool) -> None:
    async def save_too_late(session: Session, receive: Any, send: Any) -> None:
        await accept(session, receive, send)
        await session.store.revoke_all("ada")
        if end_connections:
            await receive()
        session["late"] = True
        await session.save()

    async with line(save_too_late, end_connections=end_connections) as (one, _):
        one.refuses = lambda message: message.get("code", 1000) not in {1000, *range(3000, 5000)}  # as Daphne does
        await one.over.wait()
        assert (one.error, one.sent[-1]) == (None, {**CLOSE, "code": 1000})


@BOTH_LOOPS
async def test_a_handler_that_closes_at_the_same_moment_is_left_alone() -> None:
    async def close(session: Session, receive: Any, send: Any) -> None:
        await accept(session, receive, send)
        session["late"] = True
        storage.after["replace"] = lambda: session.store.revoke_all("ada")  # while the close message waits for it
        await send({"type": "websocket.close", "code": 4000})

    storage = ReportingStorage()
    async with line(close, storage=storage) as (one, _):
        await one.over.wait()
        assert (one.error, [message.get("code") for message in one.sent]) == (None, [None, 4000])


async def stream(session: Session, receive: Any, send: Any) -> None:
    session.get("n")
    await send(EVENTS)
    await send(PART)
    await anyio.sleep_forever()


async def stream_on(session: Session, receive: Any, send: Any) -> None:
    await send({**START, "headers": [(b"Content-Type", b"text/event-stream")]})  # as Django spells it
    session.get("n")
    while True:
        await send(PART)
        await anyio.sleep(0.01)


async def stream_while_alive(session: Session, receive: Any, send: Any) -> None:
    await send(EVENTS)
    await send(PART)
    async with session.alive():
        await anyio.sleep_forever()


async def stream_until_left(session: Session, receive: Any, send: Any) -> None:
    session.get("n")
    await send({**EVENTS, "trailers": True})
    await send(PART)
    assert await receive() == {"type": "http.disconnect"}  # whether or not the server sends this itself


@BOTH_LOOPS
@pytest.mark.parametrize("handler", [stream, stream_on, stream_while_alive, stream_until_left])
async def test_an_event_stream_is_completed_once(handler: Handler) -> None:
    async with line(handler, "http") as (one, store):
        await one.opened.wait()
        await store.revoke_all("ada")
        if handler is not stream:
            await one.over.wait()
        end = [LAST, TRAILERS] if handler is stream_until_left else [LAST]
        await comes_true(lambda: one.sent[-len(end) :] == end)
        assert one.error is None
        assert one.sent.count(LAST) == 1


@BOTH_LOOPS
async def test_an_error_in_an_event_stream_is_the_servers_to_report() -> None:
    async def fail_late(session: Session, receive: Any, send: Any) -> None:
        session["n"] = 2
        await send(EVENTS)
        await send(PART)
        raise ZeroDivisionError

    async with line(fail_late, "http") as (one, _):
        await one.over.wait()
        assert isinstance(one.error, ZeroDivisionError)
        assert LAST not in one.sent


MANY = scaled(1000)


async def test_an_idle_socket_costs_neither_task_nor_command_and_little_memory() -> None:
    _, without, watched = [await _measure(end_connections=end) for end in (False, False, True)]  # first, caches fill
    each = (watched - without) / MANY
    print(f"{each:.0f} bytes for each idle watched socket")
    assert 0 < each <= 2048


async def _measure(*, end_connections: bool) -> int:
    """The bytes that `MANY` idle sockets take."""
    storage = ReportingStorage()
    store = SessionStore(SessionConfig(storage=storage, end_connections=end_connections))
    sids = [(await store.create({"n": 1}, owner="ada")).id for _ in range(MANY)]
    lines = [Line(socket_scope(sid=sid)) for sid in sids]

    async def wait(scope: Any, receive: Any, send: Any) -> None:
        await accept(await get_session(scope), receive, send)
        await receive()

    app = SessionMiddleware(wait, store)
    before = len(asyncio.all_tasks())
    tracemalloc.start()
    try:
        tasks = [asyncio.create_task(app(one.scope, one.receive, one.send)) for one in lines]
        for one in lines:
            await one.opened.wait()
        await anyio.wait_all_tasks_blocked()
        gc.collect()
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(asyncio.all_tasks()) == before + MANY + end_connections  # the one task of the live room
    calls = [call for call in storage.calls if call not in {"create", "load"}]
    assert len(calls) <= 2 * end_connections  # they are looked up together
    await store.revoke_all("ada")
    for task in tasks:
        if not end_connections:
            task.cancel()
        await asyncio.wait([task])
    return size
