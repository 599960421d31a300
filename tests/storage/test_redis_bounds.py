"""No call takes longer than `storage_timeout`, though few have a timer: real servers that do not answer."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import timedelta
from math import ceil
from typing import Any, cast

import anyio
import pytest
import uvloop
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import ResponseError
from servers.redis_server import Server, one_server
from tests.storage.redis_rig import storage_at, storage_on
from tests.storage.rigs import answered, record_at
from tests.tcp_proxy import Proxy, proxy_to
from tests.turns import comes_true

from sessioncore import EventKind, Moved, SessionConfig, SessionEvent, SessionStore, StorageUnavailable, Unreadable
from sessioncore.storage import Storage, Stored
from sessioncore.storage.redis import RedisStorage
from sessioncore.storage.redis.connection._waiting import all_of

pytestmark = [pytest.mark.anyio, pytest.mark.redis, pytest.mark.usefixtures("emptied")]

LIMIT = timedelta(seconds=0.8)
SOON = 0.8  # seconds that the event loop may be late on a busy machine


def store_on(storage: Storage, limit: timedelta = LIMIT, **settings: Any) -> SessionStore:
    return SessionStore(SessionConfig(storage=storage, storage_timeout=limit, **settings))


async def expect_in_time(call: Callable[[], Awaitable[object]], limit: timedelta = LIMIT) -> None:
    """Make a call that fails after `limit`; the connection itself would wait longer."""
    start = time.monotonic()
    with pytest.raises(StorageUnavailable):
        await call()
    assert limit.total_seconds() * 0.9 < time.monotonic() - start < limit.total_seconds() + SOON


@asynccontextmanager
async def through_proxy(
    server: Server, limit: timedelta = LIMIT, *, silence: timedelta | None = None, protocol: int = 3, **settings: Any
) -> AsyncGenerator[tuple[SessionStore, Proxy, str]]:
    """A store on a proxy, its connection open, and the ID of a session."""
    async with proxy_to(server.port) as proxy, storage_at(proxy.port, timeout=silence, protocol=protocol) as storage:
        sid = (await store_on(storage, timedelta(seconds=10), **settings).create({"n": 1})).id
        yield store_on(storage, limit, **settings), proxy, sid


def pause(server: Server) -> None:
    server.do("CLIENT", "PAUSE", 2500)


def stop(server: Server) -> None:
    server.signal(signal.SIGSTOP)
    asyncio.get_running_loop().call_later(2.5, server.signal, signal.SIGCONT)


@pytest.mark.proves("AT-104")
@pytest.mark.parametrize("still", [pause, stop])
@pytest.mark.parametrize("protocol", [2, 3])  # with 2, a connection opens without a reply from the server
async def test_a_server_that_stands_still_holds_no_load_beyond_the_limit(
    server: Server, protocol: int, still: Callable[[Server], None]
) -> None:
    async with through_proxy(server, protocol=protocol) as (store, proxy, sid):
        still(server)
        await asyncio.gather(*(expect_in_time(lambda: store.get_by_id(sid)) for _ in range(20)))
        assert (await answered(lambda: store.get_by_id(sid)))["n"] == 1
        assert proxy.connections <= 2  # one more is tried, in case the first is half open


@pytest.mark.proves("AT-104")
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_process_that_was_stopped_takes_the_replies_that_came_meanwhile(
    servers: list[Server], loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def visits() -> None:
        async with storage_on(servers) as storage:
            created = await store_on(storage).create({"n": 1})
            sid, key = created.id, f"session:{created.handle}"
        for turns, opened in ((0, True), (1, True), (2, True), (2, False)):  # stopped before the send, or after it
            async with storage_on(servers) as storage:
                if opened:
                    await storage.load(key)  # before the store sets its limit, which is too short for opening several
                store = store_on(storage, timedelta(seconds=0.2))
                loads = [asyncio.ensure_future(store.get_by_id(sid)) for _ in range(20)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                time.sleep(0.75)  # noqa: ASYNC251 - nothing runs, as when the process is stopped
                assert [session["n"] for session in await asyncio.gather(*loads)] == [1] * 20

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(visits())


async def test_a_first_connection_outlives_a_process_that_was_stopped(server: Server) -> None:
    for turns in (2, 3, 4):
        async with storage_on([server], timeout=timedelta(seconds=0.2)) as storage:
            load = asyncio.ensure_future(storage.load("k"))
            for _ in range(turns):
                await asyncio.sleep(0)
            time.sleep(0.75)  # noqa: ASYNC251 - see above
            assert await load is None


async def test_the_map_of_a_cluster_outlives_it_too(nodes: list[Server], monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ClusterNode.execute_command

    def stopped(*args: Any) -> Any:
        asyncio.get_running_loop().call_soon(time.sleep, 0.75)
        return ask(*args)

    monkeypatch.setattr(ClusterNode, "execute_command", stopped)  # which asks for the map
    async with storage_on(nodes, socket_timeout=0.2) as storage:
        assert await storage.load("k") is None


async def test_the_time_of_several_calls_is_over_for_them_alone_though_the_last_one_was_answered() -> None:
    with anyio.move_on_after(0.05) as scope:  # as if one of two nodes of a cluster were silent
        await all_of([asyncio.sleep(30), asyncio.sleep(0)])
    assert scope.cancelled_caught


async def test_reads_that_meet_a_half_open_connection_are_repeated_on_a_fresh_one(server: Server) -> None:
    limit = timedelta(seconds=4)
    async with through_proxy(server, limit) as (store, proxy, sid):
        session, storage = await store.get_by_id(sid), store.storage
        session["n"] = 2
        proxy.half_open = proxy.connections
        start = time.monotonic()
        write = asyncio.create_task(expect_in_time(session.save, limit))
        loaded, theirs, _ = await asyncio.gather(
            store.get_by_id(sid), storage.owned_keys("u"), storage.load("none", renew=10)
        )
        assert (loaded["n"], theirs) == (1, [])
        assert time.monotonic() - start < limit.total_seconds() / 2
        assert proxy.connections == 2
        # The write is not sent again; other writes go to the fresh connection immediately.
        loaded["n"] = 3
        await loaded.save()
        await write
        assert (await store.get_by_id(sid))["n"] == 3
        assert (proxy.connections, proxy.open_now) == (2, 1)


async def test_a_read_is_repeated_as_often_as_it_takes(server: Server) -> None:
    async with through_proxy(server, timedelta(seconds=4)) as (store, proxy, sid):
        proxy.cuts = 3
        assert (await store.get_by_id(sid))["n"] == 1
        assert proxy.connections == 4


async def test_a_write_that_is_only_late_is_answered_though_reads_have_moved_on(server: Server) -> None:
    async with through_proxy(server, timedelta(seconds=3)) as (store, proxy, sid):
        session = await store.get_by_id(sid)
        session["n"] = 2
        server.do("CLIENT", "PAUSE", 1500, "WRITE")  # as a planned failover does
        save = asyncio.create_task(session.save())
        await asyncio.sleep(0)
        assert (await store.get_by_id(sid))["n"] == 1
        assert not save.done()
        await save
        assert (await store.get_by_id(sid))["n"] == 2
        assert proxy.connections == 2


async def test_requests_one_after_another_are_each_held_for_the_limit_only(server: Server) -> None:
    async with through_proxy(server) as (store, proxy, sid):
        proxy.swallow = True

        async def later(pause: float) -> None:
            await asyncio.sleep(pause)  # spread over time, so that one timer must serve different deadlines
            await expect_in_time(lambda: store.get_by_id(sid))

        await asyncio.gather(*(later(0.04 * number) for number in range(10)))


async def test_a_request_that_waits_for_room_waits_no_longer_than_the_rest(server: Server) -> None:
    silence = timedelta(seconds=30)  # far beyond the time that so many failures take on a busy machine
    async with through_proxy(server, silence=silence) as (store, proxy, sid):
        proxy.swallow = True
        start = time.monotonic()
        # The connection takes 2000 of these.
        outcomes = await asyncio.gather(*(store.get_by_id(sid) for _ in range(4100)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StorageUnavailable}
        assert time.monotonic() - start < silence.total_seconds() / 2


async def test_a_trickle_of_replies_lets_no_load_wait_beyond_the_limit(server: Server) -> None:
    async with through_proxy(server) as (store, proxy, sid):
        storage = store.storage
        assert await storage.create("large", b"x" * 2000, 1000) is not None
        proxy.drip = 0.05
        patient = asyncio.create_task(storage.owned_keys("u"))  # not a load: it waits as long as the connection does
        await expect_in_time(lambda: storage.load("large"))
        await expect_in_time(lambda: store.get_by_id(sid))
        proxy.drip = 0.0
        assert await patient == []
        # The replies that came too late were dropped.
        assert (await record_at(storage, "large")).data == b"x" * 2000
        assert (await store.get_by_id(sid))["n"] == 1
        assert proxy.connections <= 2


async def test_writes_and_renewals_wait_for_the_limit_only_and_send_events(server: Server) -> None:
    told: list[SessionEvent] = []
    async with through_proxy(server, on_event=told.append) as (store, proxy, sid):
        changed, moved = await store.get_by_id(sid), await store.get_by_id(sid)
        changed["n"] = 2
        key, storage = f"session:{changed.handle}", store.storage
        assert await storage.load(key, renew=100) is not None
        await moved.regenerate()
        proxy.swallow = True
        await asyncio.gather(
            expect_in_time(lambda: store.create({"n": 1})),
            expect_in_time(lambda: store.create({"n": 1}, owner="ada")),
            expect_in_time(changed.save),
            expect_in_time(moved.save),
            expect_in_time(lambda: store.get_by_id(sid)),
            expect_in_time(lambda: storage.load(key, renew=100)),
        )
        failures = [event.detail for event in told if event.kind is EventKind.STORAGE_ERROR]
        assert "load: ReplyTimeout" in failures
        assert len(failures) == 5


async def test_a_script_that_the_server_forgot_gets_no_second_limit() -> None:
    with one_server() as fresh:
        async with through_proxy(fresh) as (store, proxy, sid):
            session = await store.get_by_id(sid)
            session["n"] = 2
            with pytest.raises(ResponseError) as unknown:
                fresh.do("EVALSHA", "0" * 40, 0)
            # The reply that the script is unknown takes nearly the whole limit, and the answer takes two pieces more.
            proxy.drip = LIMIT.total_seconds() * 0.94 / ceil(len(f"-NOSCRIPT {unknown.value}\r\n") / 10)
            await expect_in_time(session.save)


async def test_a_write_that_was_cut_off_is_found_by_the_next_save(server: Server) -> None:
    async with through_proxy(server, timedelta(seconds=5)) as (store, _, sid):
        session = await store.get_by_id(sid)
        session["n"] = 2
        server.do("CLIENT", "PAUSE", 300, "WRITE")
        with anyio.move_on_after(0.05) as scope:
            await session.save()
        assert scope.cancelled_caught
        await session.save()
        assert not session.modified
        assert (await store.get_by_id(sid))["n"] == 2


async def test_a_handshake_without_an_answer_takes_no_longer(server: Server) -> None:
    async with proxy_to(server.port) as proxy, storage_at(proxy.port) as storage:
        proxy.swallow = True
        store = store_on(storage)
        await asyncio.gather(*(expect_in_time(lambda: store.get_by_id("x" * 43)) for _ in range(3)))
        assert proxy.connections == 1


async def test_an_address_that_swallows_packets_takes_no_longer() -> None:
    async with AsyncExitStack() as stack:
        deaf = stack.enter_context(socket.socket())
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(4):  # these fill the queue; then the kernel drops connection attempts
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(deaf.getsockname())
        storage = await stack.enter_async_context(storage_at(int(deaf.getsockname()[1])))
        store = store_on(storage)
        await expect_in_time(lambda: store.get_by_id("x" * 43))


async def test_a_second_attempt_has_only_the_time_that_is_left(server: Server) -> None:
    limit = timedelta(seconds=1.5)
    async with through_proxy(server, limit) as (store, proxy, sid):
        load = asyncio.create_task(expect_in_time(lambda: store.storage.load(sid), limit))
        proxy.swallow = True
        await asyncio.sleep(1)  # with the whole limit again, the second attempt would end after 2.5 seconds
        proxy.drop()  # the load is repeated, and the proxy takes it and does not answer
        await load
        assert proxy.connections >= 2


async def test_the_shorter_limit_of_two_stores_on_one_storage_applies(server: Server) -> None:
    async with through_proxy(server, timedelta(seconds=2)) as (store, proxy, sid):
        proxy.swallow = True
        early = asyncio.create_task(expect_in_time(lambda: store.get_by_id(sid), timedelta(seconds=2)))
        await asyncio.sleep(0)
        store_on(store.storage)
        await expect_in_time(lambda: store.get_by_id(sid))
        await early


async def test_a_cancelled_load_costs_no_connection_and_its_reply_is_dropped(server: Server) -> None:
    async with through_proxy(server, timedelta(seconds=20)) as (store, proxy, sid):
        other = (await store.create({"n": 2})).id
        for _ in range(10):
            with anyio.move_on_after(0) as scope:
                await store.get_by_id(sid)
            assert scope.cancelled_caught
            task = asyncio.create_task(store.get_by_id(sid))
            await asyncio.sleep(0)
            task.cancel()
            assert (await store.get_by_id(other))["n"] == 2
            assert task.cancelled()
        assert proxy.connections == 1


class Slow(RedisStorage):
    """A subclass with its own `load`, which only the store can bound."""

    async def load(self, key: str, *, renew: float | None = None) -> Stored | Moved | Unreadable | None:
        await anyio.sleep(30)
        return await super().load(key, renew=renew)


async def test_a_load_that_is_not_ours_is_bounded_by_the_store(server: Server) -> None:
    async with aclosing(Slow.from_url(server.url)) as slow:
        await expect_in_time(lambda: store_on(slow).get_by_id("x" * 43))


async def test_closing_waits_no_longer_than_the_limit_and_ends_all_though_cancelled(server: Server) -> None:
    async with through_proxy(server, silence=timedelta(seconds=30)) as (store, proxy, sid):
        proxy.swallow = True
        storage = cast("RedisStorage", store.storage)
        await expect_in_time(lambda: storage.watch([sid], print))  # the first one asks for pushes, which nobody awaits
        start, patient = time.monotonic(), asyncio.create_task(storage.owned_keys("u"))
        await asyncio.sleep(0)
        closing = asyncio.create_task(storage.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        with pytest.raises(StorageUnavailable, match="closed"):
            await patient
        assert time.monotonic() - start < SOON
        await comes_true(lambda: proxy.open_now == 0)
