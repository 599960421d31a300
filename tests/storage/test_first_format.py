"""Sessions that were stored in the first format are read, changed, moved and revoked.

The code of 0.1.0 stored the sessions of `first_format/sessions.py`. The dumps beside that file were made once, by a
program, `make.py`, that is in the history of the folder. The servers count the ttls from now; the store's clock, which
judges the times within the records, shows the time at which they were written.
"""

import json
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from servers.postgres_server import PostgresServer
from servers.redis_server import Server
from tests.storage.first_format.sessions import LONG, SESSIONS, START, Vanished, register, sid_of
from tests.storage.postgres_rigs import connection, new_table
from tests.storage.redis_rig import client_of
from tests.storage.rigs import ONE_LOOP
from tests.values import exact_text

from sessioncore import SessionConfig, SessionNotFound, SessionStore, SQLiteStorage, Storage, UnregisteredType
from sessioncore.http._ids import handle_of
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.storage.redis import RedisStorage
from sessioncore.testing import ManualClock

pytestmark = [pytest.mark.anyio, ONE_LOOP]

DUMPS = Path(__file__).parent / "first_format"
QUICK = SESSIONS["quick"].owner or ""


@asynccontextmanager
async def in_sqlite(folder: Path, clock: ManualClock) -> AsyncGenerator[Storage, None]:
    path = folder / "sessions.db"
    with closing(sqlite3.connect(path)) as file:
        file.executescript((DUMPS / "sqlite.sql").read_text(encoding="utf-8"))
    storage = SQLiteStorage(path, clock=clock)
    yield storage
    await storage.aclose()


@asynccontextmanager
async def in_postgres(server: PostgresServer) -> AsyncGenerator[Storage, None]:
    table = new_table()
    async with connection(server.dsn()) as plain:
        await plain.execute((DUMPS / "postgres.sql").read_text(encoding="utf-8").replace("{table}", table))
    storage = PostgresStorage(server.dsn(), table=table)
    yield storage
    await storage.aclose()


@asynccontextmanager
async def in_redis(servers: list[Server], kind: type) -> AsyncGenerator[Storage, None]:
    """The records in one server or in a cluster, which has the same ones, each on the node of its key."""
    for server in servers:
        server.do("FLUSHALL")
    dump = json.loads((DUMPS / "redis.json").read_text(encoding="utf-8"))
    async with client_of(servers[0].port, kind) as client:
        for record in dump["records"]:
            await client.set(record["key"], bytes.fromhex(record["value"]), ex=record["seconds"])
        for index in dump["indexes"]:
            ends = {member: (time.time() + seconds) * 1000 for member, seconds in index["members"].items()}
            await client.zadd(index["key"], ends)
            await client.expire(index["key"], index["seconds"])
        storage = RedisStorage(client)
        yield storage
        await storage.aclose()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


KINDS = [
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.postgres),
    pytest.param("redis", marks=pytest.mark.redis),
    pytest.param("redis-cluster", marks=pytest.mark.redis),
]


@pytest.fixture(params=KINDS)
async def storage(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncGenerator[Storage, None]:
    kinds: dict[str, Callable[[], AbstractAsyncContextManager[Storage]]] = {
        "sqlite": lambda: in_sqlite(tmp_path, clock),
        "postgres": lambda: in_postgres(request.getfixturevalue("postgres")),
        "redis": lambda: in_redis([request.getfixturevalue("server")], Redis),
        "redis-cluster": lambda: in_redis(request.getfixturevalue("nodes"), RedisCluster),
    }
    async with kinds[request.param]() as storage:
        yield storage


@pytest.fixture
def store(storage: Storage, clock: ManualClock) -> SessionStore:
    return register(bare(storage, clock))


def bare(storage: Storage, clock: ManualClock) -> SessionStore:
    """A store that knows none of the visitors' classes."""
    return SessionStore(SessionConfig(storage=storage, clock=clock))


async def devices(store: SessionStore, owner: str = "ada") -> set[str]:
    return {info.details["device"] for info in await store.sessions_of(owner)}


async def expect(store: SessionStore, sid: str, name: str, **changed: Any) -> None:
    """Compare a session with what was stored, including the types of all values."""
    session, stored = await store.get_by_id(sid), SESSIONS[name]
    data = {key: session[key] for key in session if key != "vanished"}
    assert exact_text(data) == exact_text({**stored.data, **changed})
    assert (session.owner, exact_text(session.details)) == (stored.owner, exact_text(stored.details))


async def expect_none(store: SessionStore, *names: str) -> None:
    for name in names:
        with pytest.raises(SessionNotFound):
            await store.get_by_id(sid_of(name))


async def test_it_is_read_and_changed_also_where_the_classes_of_its_values_are_not_known(
    storage: Storage, store: SessionStore, clock: ManualClock
) -> None:
    for name in SESSIONS:
        await expect(store, sid_of(name), name)
        session = await bare(storage, clock).get_by_id(sid_of(name))
        session["n"] += 1
        await session.save()
        await expect(store, sid_of(name), name, n=2)
        session = await store.get_by_id(sid_of(name))
        session.mutate("n", lambda n: n + 1)
        await session.save()
        await expect(store, sid_of(name), name, n=3)


async def test_a_value_whose_class_is_gone_outlives_every_change(store: SessionStore) -> None:
    session = await store.get_by_id(sid_of("laptop"))
    with pytest.raises(UnregisteredType, match=r"first\.Vanished"):
        session["vanished"]
    session["n"] = 2
    await session.regenerate()
    await session.save()
    store.register_type(Vanished, name="first.Vanished")
    assert (await store.get_by_id(session.id))["vanished"] == Vanished("class")


async def test_it_is_moved(store: SessionStore) -> None:
    for name in SESSIONS:
        session = await store.get_by_id(sid_of(name))
        await session.regenerate()
        await session.save()
        await expect(store, session.id, name)
        await expect_none(store, name)
        if session.owner is not None:
            assert session.handle in {info.handle for info in await store.sessions_of(session.owner)}


async def test_the_sessions_of_an_owner_are_listed(store: SessionStore) -> None:
    assert await devices(store) == {"phone", "laptop", "desktop"}
    [quick], [long] = await store.sessions_of(QUICK), await store.sessions_of(LONG)
    assert (quick.handle, long.handle) == (handle_of(sid_of("quick")), handle_of(sid_of("long")))
    assert long.created_at.timestamp() == long.last_seen_at.timestamp() == pytest.approx(START, abs=5)


async def test_its_deadlines_hold(store: SessionStore, clock: ManualClock) -> None:
    left = {info.handle: info.expires_at.timestamp() - START for info in await store.sessions_of("ada")}
    [quick] = await store.sessions_of(QUICK)
    assert left[handle_of(sid_of("laptop"))] == pytest.approx(1800, abs=10)
    assert left[handle_of(sid_of("old"))] == pytest.approx(60, abs=10)
    assert quick.expires_at.timestamp() - START == pytest.approx(300, abs=10)
    clock.advance(61)
    await expect_none(store, "old")
    await expect(store, sid_of("quick"), "quick")


async def test_all_of_an_owner_are_revoked_but_the_one_in_use(store: SessionStore) -> None:
    laptop = await store.get_by_id(sid_of("laptop"))
    assert await store.revoke_all("ada", keep=laptop) == 2
    await expect_none(store, "phone", "old")
    assert await store.revoke_all("ada") == 1
    assert await store.revoke_all(QUICK) == await store.revoke_all(LONG) == 1
    await expect_none(store, "laptop", "quick", "long")
    await expect(store, sid_of("anonymous"), "anonymous")


async def test_all_are_ended(store: SessionStore) -> None:
    assert await store.delete(sid_of("anonymous"))
    assert await store.reset() == len(SESSIONS) - 1
    await expect_none(store, *SESSIONS)
    assert await store.sessions_of("ada") == []
