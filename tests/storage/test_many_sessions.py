"""Thousands of sessions of one owner are listed and ended in a few round trips, by the same rules as a few."""

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from servers.postgres_server import PostgresServer
from servers.redis_server import Server
from tests.kit import Lab
from tests.storage.postgres_rigs import new_table
from tests.storage.rigs import KINDS, ONE_LOOP
from tests.tcp_proxy import proxy_to
from tests.views import Visitor

from sessioncore import EventKind, SessionConfig, SessionEvent, SessionStore, SQLiteStorage, Storage, StorageUnavailable
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.storage.redis import RedisStorage

pytestmark = [pytest.mark.anyio, ONE_LOOP]

MANY = 3000


async def fill(store: SessionStore, owner: str, number: int) -> list[str]:
    """Create `number` sessions of one owner; return their IDs."""
    sids: list[str] = []

    async def create(count: int) -> None:
        for _ in range(count):
            sids.append((await store.create({"n": 1}, owner=owner)).id)

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(create, number // 50)
    return sids


async def count_trips(direct: Storage, storage: Storage, trips: Callable[[], int], most: int) -> None:
    """List an owner's thousands of sessions, and end them, each in at most `most` trips."""
    async with store_of(direct) as store:
        await fill(store, "ada", MANY)
        await fill(store, "bob", 50)
    async with store_of(storage) as store:
        assert await store.revoke_all("bob") == 50  # from now on the server knows the scripts or the statements
        before = trips()
        assert len(await store.sessions_of("ada")) == MANY
        assert trips() - before <= most
        before = trips()
        assert await store.revoke_all("ada") == MANY
        assert trips() - before <= most
        assert await store.reset() == 0


@pytest.mark.proves("AT-124")
@pytest.mark.redis
async def test_redis_takes_at_most_20_round_trips(server: Server) -> None:
    server.do("FLUSHALL")
    async with proxy_to(server.port) as proxy:
        storage = RedisStorage.from_url(f"redis://127.0.0.1:{proxy.port}/0")
        await count_trips(RedisStorage.from_url(server.url), storage, lambda: proxy.trips, 20)
    assert server.do("DBSIZE") == 0


@pytest.mark.proves("AT-124")
@pytest.mark.postgres
async def test_postgres_takes_at_most_10_statements(postgres: PostgresServer) -> None:
    async with proxy_to(postgres.port) as proxy:
        dsn = f"postgresql://tester@127.0.0.1:{proxy.port}/postgres"
        table = new_table()
        storage = PostgresStorage(dsn, table=table, max_connections=1)
        await count_trips(PostgresStorage(postgres.dsn(), table=table), storage, lambda: proxy.waits, 10)


async def test_a_limited_login_ends_thousands_by_a_few_calls(tmp_path: Path) -> None:
    storage = SQLiteStorage(tmp_path / "sessions.db")
    async with store_of(storage) as store:
        await fill(store, "ada", MANY)
    spy = Counting(tmp_path / "sessions.db")
    events: list[SessionEvent] = []
    async with store_of(spy, max_sessions_per_owner=5, on_event=events.append) as store:
        spy.counted.clear()
        await store.create({}, owner="ada")
        assert len(await store.sessions_of("ada")) == 5
    assert sum(event.kind is EventKind.OWNER_LIMIT for event in events) == MANY - 4
    assert len({event.handle for event in events}) == MANY - 3
    assert spy.counted.count("delete") == 3
    assert spy.counted.count("load_many") == 5


class Counting(SQLiteStorage):
    """Notes the calls for many sessions. A class that overrides some of them must declare its capabilities again."""

    capabilities = SQLiteStorage.capabilities

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.counted: list[str] = []

    async def load_many(self, keys: Any) -> Any:
        self.counted.append("load_many")
        return await super().load_many(keys)

    async def delete(self, *keys: str) -> int:
        self.counted.append("delete")
        return await super().delete(*keys)


@asynccontextmanager
async def store_of(storage: Storage, **options: Any) -> AsyncGenerator[SessionStore]:
    config = SessionConfig(storage=storage, storage_timeout=timedelta(minutes=1), **options)  # for a busy machine
    async with SessionStore(config) as store:
        yield store


# -- rules, on every kind of storage


on_every_storage = pytest.mark.parametrize("storage", KINDS, indirect=True)


@on_every_storage
@pytest.mark.proves("AT-124")
async def test_more_than_one_batch_is_ended_with_an_event_for_each_session(storage: Storage) -> None:
    events: list[SessionEvent] = []
    store = SessionStore(SessionConfig(storage=storage, on_event=events.append))
    await fill(store, "ada", 1100)
    kept = await store.create({}, owner="ada")
    other = await store.create({}, owner="bob")
    events.clear()
    assert await store.revoke_all("ada", keep=kept) == 1100
    assert [info.handle for info in await store.sessions_of("ada")] == [kept.handle]
    assert [info.handle for info in await store.sessions_of("bob")] == [other.handle]
    assert {(event.kind, event.owner) for event in events} == {(EventKind.REVOKED, "ada")}
    assert len({event.handle for event in events}) == len(events) == 1100


@on_every_storage
@pytest.mark.proves("AT-49")
async def test_what_logs_in_or_moves_meanwhile_is_live_or_ended_and_never_outside_the_index(storage: Storage) -> None:
    store = SessionStore(SessionConfig(storage=storage))
    earlier = await fill(store, "ada", 200)
    later: list[str] = []
    moved: list[Visitor] = []
    drawn = random.Random(7)

    async def log_in() -> None:
        for _ in range(30):
            later.append((await store.create({}, owner="ada")).id)
            await anyio.lowlevel.checkpoint()

    async def move(sid: str) -> None:
        visitor = Visitor(store)
        exchange = await visitor.arrive(sid)
        await exchange.session.regenerate()
        await visitor.leave(exchange)
        moved.append(visitor)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.revoke_all, "ada")
        tasks.start_soon(log_in)
        for sid in drawn.sample(earlier, 40):
            tasks.start_soon(move, sid)
    assert len(moved) == 40
    listed = {info.handle for info in await store.sessions_of("ada")}
    for sid in (*earlier, *(visitor.sid or "" for visitor in moved)):
        assert not await is_live(store, sid), "a session from before revoke_all is live"
    live = {sid for sid in later if await is_live(store, sid)}
    assert len(listed) == len(live), "the owner's list lacks a live session, or has an ended one"
    await store.revoke_all("ada")
    for sid in live:
        assert not await is_live(store, sid)


async def is_live(store: SessionStore, sid: str) -> bool:
    exchange = await Visitor(store).arrive(sid)
    found = not exchange.session.fresh
    await exchange.finish()
    return found


async def test_keep_follows_a_session_that_moved(tmp_path: Path) -> None:
    async with store_of(SQLiteStorage(tmp_path / "sessions.db")) as store:
        await fill(store, "ada", 50)
        visitor = Visitor(store)
        exchange = await visitor.arrive((await store.create({}, owner="ada")).id)
        former = exchange.session.handle
        await exchange.session.regenerate()
        await visitor.leave(exchange)
        assert await store.revoke_all("ada", keep=former) == 50
        assert visitor.sid is not None
        assert await is_live(store, visitor.sid)


async def test_one_event_gives_the_number_for_a_batch_that_was_live_in_part(lab: Lab) -> None:
    sids = await fill(lab.store, "ada", 50)
    lab.forget()

    async def another_logout() -> None:
        lab.storage.before.clear()
        await lab.store.delete(sids[7])

    lab.storage.before["delete"] = another_logout
    assert await lab.store.revoke_all("ada") == 49
    [logout, revoked] = lab.events
    assert logout.kind is EventKind.DESTROYED
    assert (revoked.kind, revoked.handle, revoked.owner) == (EventKind.REVOKED, None, "ada")
    assert revoked.detail == "49 of 50 sessions; others had ended meanwhile"


async def test_a_batch_that_fails_is_an_error_and_calling_again_ends_the_rest(lab: Lab) -> None:
    sids = await fill(lab.store, "ada", 1100)
    with lab.storage.fail("delete", times=1), pytest.raises(StorageUnavailable):
        await lab.store.revoke_all("ada")
    assert await lab.store.revoke_all("ada") == 1100
    assert not await is_live(lab.store, sids[0])
