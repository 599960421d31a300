"""A storage that does not reply: routes that need no session do not wait for it, and the log is not flooded."""

import logging
import signal
import time
from datetime import timedelta

import anyio
import pytest
from servers.redis_server import Server
from tests.storage.rigs import answered
from tests.stores import SpyStorage
from tests.views import Visitor, response_to

from sessioncore import SessionConfig, SessionEvent, SessionStore, Storage, StorageError, StorageUnavailable
from sessioncore.persistence._health import Health
from sessioncore.storage.redis import RedisStorage
from sessioncore.testing import ManualClock

pytestmark = pytest.mark.anyio

LIMIT = 0.1


def store_on(storage: Storage) -> tuple[SessionStore, list[SessionEvent]]:
    heard: list[SessionEvent] = []
    config = SessionConfig(storage=storage, storage_timeout=timedelta(seconds=LIMIT), on_event=heard.append)
    return SessionStore(config), heard


async def visit(store: SessionStore, sid: str) -> float:
    """A request that does not use its session; return how long it took."""
    begin = time.monotonic()
    visitor = Visitor(store, sid=sid)
    assert await visitor.leave(await visitor.arrive()) == []
    return time.monotonic() - begin


async def use(store: SessionStore, sid: str) -> None:
    """A request that reads its session, and gets the error response."""
    exchange = await Visitor(store, sid=sid).arrive()
    with pytest.raises(StorageError) as caught:
        exchange.session.get("n")
    assert response_to(exchange, caught.value).status == (503 if isinstance(caught.value, StorageUnavailable) else 500)
    await exchange.finish(failed=True)


@pytest.mark.proves("AT-104")
async def test_after_three_time_outs_calls_fail_at_once_and_one_tries_again() -> None:
    storage = SpyStorage()
    store, events = store_on(storage)
    sid = (await store.create({"n": 1})).id
    events.clear()
    with storage.hold():
        slow = [await visit(store, sid) for _ in range(3)]
        assert min(slow) >= LIMIT * 0.9
        assert await visit(store, sid) >= LIMIT * 0.9, "one call is made to try the storage"
        before = len(storage.calls)
        # That try began at least a storage_timeout ago, so another one may begin; it is held here.
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(visit, store, sid)
            await anyio.lowlevel.checkpoint()
            while len(storage.calls) == before:
                await anyio.lowlevel.checkpoint()
            begin = time.monotonic()
            await use(store, sid)
            with pytest.raises(StorageUnavailable, match="was not made"):
                await store.create({})
            with pytest.raises(StorageUnavailable, match="was not made"):
                await store.sessions_of("ada")
            assert time.monotonic() - begin < LIMIT
            assert len(storage.calls) == before + 1
    assert {event.detail for event in events} == {
        "load: TimeoutError", "load: not tried", "create: not tried", "owned_keys: not tried",
    }  # fmt: skip
    await answered(lambda: store.get_by_id(sid), 20)
    assert await visit(store, sid) < LIMIT
    assert (await store.get_by_id(sid))["n"] == 1


async def test_a_storage_that_refuses_is_asked_each_time() -> None:
    storage = SpyStorage()
    store, _ = store_on(storage)
    sid = (await store.create({"n": 1})).id
    with storage.fail():
        for _ in range(10):
            await use(store, sid)
    assert storage.calls.count("load") == 10
    assert (await store.get_by_id(sid))["n"] == 1


@pytest.mark.redis
async def test_a_frozen_redis_costs_untouched_routes_nothing_for_long(server: Server) -> None:
    took: list[float] = []
    store, _ = store_on(RedisStorage.from_url(server.url))
    async with store:
        sid = (await store.create({"n": 1})).id

        async def visitor() -> None:
            while time.monotonic() < end:
                took.append(await visit(store, sid))
                await anyio.sleep(0.005)

        server.signal(signal.SIGSTOP)
        try:
            for _ in range(3):
                await visit(store, sid)
            end = time.monotonic() + 2
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(visitor)
            await use(store, sid)
        finally:
            server.signal(signal.SIGCONT)
        await answered(lambda: store.get_by_id(sid), 20)
    assert len(took) > 200
    assert len([seconds for seconds in took if seconds > LIMIT / 2]) <= 2 / LIMIT + 1, "only one call at a time tries"


async def test_an_outage_is_logged_once_with_its_traceback_and_once_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage = SpyStorage()
    store, _ = store_on(storage)
    sid = (await store.create({"n": 1})).id
    with caplog.at_level(logging.INFO, "sessioncore"), storage.fail(error=OSError("no route")):
        for _ in range(8):
            await use(store, sid)
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert "no route" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "sessioncore"):
        await store.get_by_id(sid)
        await store.get_by_id(sid)
    assert [record.getMessage() for record in caplog.records] == ["the storage works again; failures until now: 8"]
    with storage.fail():
        await use(store, sid)
    assert len(caplog.records) == 2, "the next outage is logged again"


def test_failures_among_replies_are_one_outage_and_another_kind_is_logged_too(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    health = Health(5.0, clock)
    for number in range(10):
        health.failed(StorageUnavailable("one node is away"))
        health.report(f"request {number}", StorageUnavailable("one node is away"))
        health.worked()
        clock.advance(1)
        health.worked()
        assert health.is_failing
    health.report("request 10", StorageError("a right is missing"))
    assert caplog.messages == ["request 0: one node is away", "request 10: a right is missing"]
    for _ in range(2):
        clock.advance(5)
        assert health.is_failing
        health.worked()
        assert not health.is_failing
        health.report("request 11", StorageError("a conflict"))  # which no call has raised
    assert caplog.messages.count("request 11: a conflict") == 2


def test_a_reply_after_failures_in_a_row_ends_an_outage_at_once_but_not_twice(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    health = Health(5.0, clock)
    for still_fails in (False, True, True):
        for _ in range(2):
            health.failed(StorageUnavailable("one node is away"))
            health.report("a request", StorageUnavailable("one node is away"))
        health.worked()
        assert health.is_failing is still_fails
        if not still_fails:
            health.report("a request that failed before", StorageUnavailable("one node is away"))
            health.report("another", StorageError("a conflict"))  # which no call has raised
    clock.advance(5)
    health.worked()
    says = ["a request: one node is away", "the storage works again; failures until now: "]
    assert caplog.messages == [says[0], f"{says[1]}2", "another: a conflict", says[0], f"{says[1]}6"]


def test_a_reply_between_time_outs_keeps_calls_going() -> None:
    clock = ManualClock()
    health = Health(5.0, clock)
    for _ in range(10):
        health.failed(TimeoutError())
        health.failed(TimeoutError())
        assert not health.refuses()
        health.worked()
    for _ in range(3):
        health.failed(TimeoutError())
    assert not health.refuses()
    assert health.refuses()
    clock.advance(5)
    assert not health.refuses(), "another one tries, even if the first was cancelled"
    assert health.refuses()
    health.worked()
    assert not health.refuses()
