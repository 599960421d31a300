"""Open connections end with their session, whatever their own request does first; no other end closes them."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from tests.adapters.asgi import ACCEPT, Message, http_scope, socket_scope
from tests.adapters.line import Line
from tests.adapters.open_kit import ReportingStorage
from tests.adapters.test_open_asgi import CLOSE, EVENTS, LAST, PART, Handler, line
from tests.kit import BOTH_LOOPS, destroy
from tests.turns import comes_true

from sessioncore import MemoryStorage, Session, SessionConfig, SessionGone, SessionStore
from sessioncore._watchers import Changed
from sessioncore.concurrency._gather import MAX_CONCURRENT_CALLS
from sessioncore_asgi import SessionMiddleware, get_session

pytestmark = pytest.mark.anyio

LEFT: Message = {"type": "websocket.disconnect", "code": 1001}
Act = Callable[[Session], Awaitable[object]]


async def nothing(session: Session) -> None:
    """Leave the session alone."""


async def revoke(session: Session) -> None:
    await session.store.revoke_all("ada")


async def write_as_it_ends(session: Session) -> None:
    session["n"] = 2
    await revoke(session)


async def write_as_it_moves(session: Session) -> None:
    session["n"] = 2
    async with session.store.open(session.id) as other:
        await other.regenerate()


async def reload_late(session: Session) -> None:
    await revoke(session)
    with pytest.raises(SessionGone):
        await session.reload()


async def read_in_a_thread(session: Session) -> None:
    await anyio.to_thread.run_sync(session.get, "n")
    await revoke(session)


def connection(kind: str, before: Act, after: Act) -> Handler:
    async def handle(session: Session, receive: Any, send: Any) -> None:
        await before(session)
        await send(ACCEPT if kind == "websocket" else EVENTS)
        await after(session)
        await anyio.sleep_forever()

    return handle


@BOTH_LOOPS
@pytest.mark.parametrize(
    ("kind", "storage"), [("websocket", MemoryStorage), ("http", MemoryStorage), ("http", ReportingStorage)]
)
@pytest.mark.parametrize(("before", "after"), [
    (nothing, destroy), (nothing, reload_late), (nothing, read_in_a_thread), (write_as_it_ends, nothing),
    (write_as_it_moves, revoke),
])  # fmt: skip
@pytest.mark.proves("P2")
async def test_it_ends_with_its_session(kind: str, storage: Any, before: Act, after: Act) -> None:
    async with line(connection(kind, before, after), kind, storage=storage()) as (one, _):
        await comes_true(lambda: one.sent and one.sent[-1] == (CLOSE if kind == "websocket" else LAST))


@BOTH_LOOPS
@pytest.mark.parametrize("before", [destroy, write_as_it_moves])
async def test_it_stays_if_its_session_ended_before_it_or_has_moved(before: Act) -> None:
    async with line(connection("websocket", before, nothing)) as (one, store):
        await comes_true(lambda: one.sent)
        await store.create({})
        await anyio.wait_all_tasks_blocked()  # by then what was reported has been looked up
        assert [message["type"] for message in one.sent] == ["websocket.accept"]


async def test_nothing_is_watched_for_a_visitor_without_a_session(caplog: pytest.LogCaptureFixture) -> None:
    async def use(scope: Any, receive: Any, send: Any) -> None:
        await send(EVENTS)
        (await get_session(scope)).get("n")
        await anyio.wait_all_tasks_blocked()

    one = Line(http_scope())
    await one.serve(SessionMiddleware(use, SessionStore()))
    assert (one.error, caplog.records) == (None, [])


class Noticing(ReportingStorage):
    """Sets `noticed` when an end is noticed, one turn of the loop before the connection gets it."""

    noticed: anyio.Event

    def unwatch(self, key: str, changed: Changed) -> None:
        super().unwatch(key, changed)
        self.noticed.set()


@pytest.mark.parametrize("last", [{"type": "websocket.close", "code": 4000}, LEFT, LAST])
async def test_a_connection_that_is_at_its_end_already_is_left_alone(last: Message) -> None:
    async def finish(session: Session, receive: Any, send: Any) -> None:
        session.get("n")
        for message in [EVENTS, PART] if last is LAST else [ACCEPT]:
            await send(message)
        await revoke(session)
        await storage.noticed.wait()
        if last is LEFT:
            one.incoming = [LEFT]
            assert await receive() == LEFT
        else:
            await send(last)
        await anyio.wait_all_tasks_blocked()

    storage = Noticing()
    storage.noticed = anyio.Event()
    async with line(finish, "http" if last is LAST else "websocket", storage=storage) as (one, _):
        await one.over.wait()
        ends = [message for message in one.sent if message["type"] == "websocket.close" or message == LAST]
        assert (one.error, ends) == (None, [] if last is LEFT else [last])


async def test_the_messages_of_many_clients_at_once_leave_the_storage_time_for_others() -> None:
    storage, now, said = ReportingStorage(), [time.time()], anyio.Event()
    store = SessionStore(SessionConfig(storage=storage, clock=lambda: now[0]))

    async def talk(scope: Any, receive: Any, send: Any) -> None:
        (await get_session(scope)).get("n")
        await receive()
        await send(ACCEPT)
        await said.wait()
        await receive()
        await receive()

    app, most = SessionMiddleware(talk, store), MAX_CONCURRENT_CALLS
    async with anyio.create_task_group() as tasks:
        for _ in range(most + 6):
            sid = (await store.create({"n": 1})).id
            tasks.start_soon(Line(socket_scope(sid=sid), {"type": "websocket.receive", "text": "hi"}).serve, app)
        await anyio.wait_all_tasks_blocked()
        now[0] += 120
        storage.hold("touch")
        said.set()
        await comes_true(lambda: storage.calls.count("touch") >= most)
        await anyio.wait_all_tasks_blocked()
        assert storage.calls.count("touch") == most
        storage.restore()
        await comes_true(lambda: storage.calls.count("touch") == most + 6)
        tasks.cancel_scope.cancel()
