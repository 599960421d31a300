"""One store in several event loops, each in a thread of its own: servers with worker threads, synchronous views."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
from servers.postgres_server import PostgresServer
from servers.redis_server import Server, until
from tests.forks import forking
from tests.numbers import scaled
from tests.storage.postgres_rigs import backends, new_table
from tests.threads import Work, in_threads, on_asyncio

from sessioncore import ConfigError, SessionConfig, SessionGone, SessionNotFound, SessionStore, StorageUnavailable
from sessioncore.storage import MemoryStorage, SQLiteStorage, Storage, Stored
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.storage.redis import NearCache, RedisStorage
from sessioncore.storage.redis._errors import ConnectionLost

THREADS = 4
FORKS = """
import asyncio, gc, os, sys, time, warnings
from sessioncore import SessionConfig, SessionStore, StorageError, storage_from_url
from sessioncore.concurrency._locks import NamedLocks

warnings.simplefilter("always", ResourceWarning)
locks = NamedLocks()
store = SessionStore(SessionConfig(storage=storage_from_url(sys.argv[1])))

async def count(sid):
    async with asyncio.timeout(3), locks.held("a"), store, store.open(sid) as session:
        session.mutate("n", lambda n: n + 1)

async def fork():
    async with store, locks.held("a"):
        sid = (await store.create({"n": 0})).id
        if not (child := os.fork()):
            for _ in range(2):
                asyncio.run(count(sid))
            gc.collect()  # would warn of a connection that the first loop has left open
            os._exit(0)
        began = time.monotonic()
        status = os.waitpid(child, 0)[1]
        print(status, time.monotonic() - began < 3, (await store.get_by_id(sid))["n"], flush=True)

asyncio.run(fork())
loop = asyncio.new_event_loop()
loop.run_until_complete(store.start())
sid = loop.run_until_complete(store.create({})).id
if not (child := os.fork()):
    try:
        loop.run_until_complete(store.sessions_of("ada"))
    except StorageError as exc:
        print(exc, flush=True)
    loop.run_until_complete(asyncio.sleep(0.2))  # must read no replies that the parent waits for
    os._exit(0)
slowest = 0
while not os.waitpid(child, os.WNOHANG)[0]:
    began = time.monotonic()
    loop.run_until_complete(store.get_by_id(sid))
    slowest = max(slowest, time.monotonic() - began)
print(slowest < 1)
loop.run_until_complete(store.aclose())
"""


@pytest.fixture(autouse=True)
def impatient_threads() -> Generator[None]:
    former = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(former)


@pytest.fixture(
    params=[
        "memory",
        "sqlite",
        *(pytest.param(name, marks=pytest.mark.redis) for name in ("redis", "near")),
        pytest.param("postgres", marks=pytest.mark.postgres),
    ]
)
def storage(request: pytest.FixtureRequest, path: Path) -> Storage:
    if request.param == "memory":
        return MemoryStorage()
    if request.param == "sqlite":
        return SQLiteStorage(path)
    if request.param == "postgres":
        return PostgresStorage(request.getfixturevalue("postgres").dsn(), table=new_table(), max_connections=3)
    server: Server = request.getfixturevalue("server")
    request.getfixturevalue("emptied")
    return RedisStorage.from_url(server.url, near_cache=NearCache() if request.param == "near" else None)


async def all_live(store: SessionStore, ids: list[str]) -> list[str]:
    """Return the IDs that have a session."""
    live: list[str] = []
    for sid in ids:
        with suppress(SessionNotFound):
            live.append((await store.get_by_id(sid)).id)
    return live


@pytest.mark.proves("P2", "P4")
def test_threads_lose_no_update_no_end_and_no_owner(storage: Storage) -> None:
    store = SessionStore(SessionConfig(storage=storage))
    counter, victims, own = list[str](), list[str](), list[str]()
    rounds, together = scaled(300), threading.Barrier(THREADS)

    async def begin() -> None:
        counter.append((await store.create({"n": 0})).id)
        victims.extend([(await store.create({"n": 0}, owner="victim")).id for _ in range(rounds)])

    def worker(number: int) -> Work:
        async def main() -> None:
            if number == 0:
                await begin()
            await asyncio.to_thread(together.wait, 60)
            for turn in range(rounds):
                async with store.open(counter[0]) as session:
                    session.mutate("n", lambda n: n + 1)
                    session[f"of {number}"] = turn
                with suppress(SessionNotFound, SessionGone):  # another thread ends it
                    async with store.open(victims[turn]) as session:
                        session[f"of {number}"] = turn
                if turn % THREADS == number:
                    assert await store.delete(victims[turn])
                    assert not await all_live(store, [victims[turn]])
                    assert len(await store.sessions_of("after")) <= rounds * THREADS
                session = await store.create({"of": number}, owner="before")
                former = session.id
                await session.login("after")
                session["turn"] = turn
                await session.save()
                assert not await all_live(store, [former])
                own.append(session.id)
            await asyncio.to_thread(together.wait, 60)
            if number == 0:
                await store.aclose()  # also closes what the other loops have open
            await asyncio.to_thread(together.wait, 60)

        return main

    async def end() -> None:
        await store.start()
        session = await store.get_by_id(counter[0])
        assert dict(session) == {"n": rounds * THREADS, **{f"of {number}": rounds - 1 for number in range(THREADS)}}
        assert not await all_live(store, victims)
        assert not await store.sessions_of("victim")
        assert not await store.sessions_of("before")
        assert len(await store.sessions_of("after")) == len(await all_live(store, own)) == rounds * THREADS
        await store.aclose()

    in_threads([worker(number) for number in range(THREADS)])
    asyncio.run(end())


def on_asyncio_again_and_again(work: Work) -> None:
    """Run the work as synchronous views do, which call `asyncio.run`."""
    for _ in range(10):
        asyncio.run(work())


@pytest.mark.parametrize("storage", ["memory", "sqlite"], indirect=True)
@pytest.mark.parametrize("runs", [[on_asyncio_again_and_again], [on_asyncio, trio.run]], ids=["short", "mixed"])
def test_a_storage_serves_loops_that_soon_end_and_loops_of_trio(storage: Storage, runs: list[Any]) -> None:
    store = SessionStore(SessionConfig(storage=storage))
    sid = asyncio.run(store.create({"n": 0})).id

    async def one() -> None:
        async with store.open(sid) as session:
            session.mutate("n", lambda n: n + 1)

    async def count() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(one)

    in_threads([count] * THREADS, runs)
    loops = 10 * THREADS if len(runs) == 1 else THREADS
    assert asyncio.run(store.get_by_id(sid))["n"] == 10 * loops
    asyncio.run(store.aclose())


def test_a_sqlite_storage_may_be_closed_while_other_loops_use_it(path: Path) -> None:
    storage = SQLiteStorage(path)

    def use(name: str) -> Work:
        async def main() -> None:
            for number in range(30):
                assert await storage.create(f"{name}-{number}", b"data", 1000) is not None
                assert isinstance(await storage.load(f"{name}-{number}"), Stored)

        return main

    async def close() -> None:
        for _ in range(30):
            await storage.aclose()
            await asyncio.sleep(0.002)

    in_threads([use("a"), use("b"), close])
    asyncio.run(storage.aclose())
    assert not list(path.parent.glob("sessions.db-*"))


@pytest.mark.redis
def test_each_loop_has_one_connection_to_each_server_of_redis(servers: list[Server]) -> None:
    scheme = "redis" if len(servers) == 1 else "redis+cluster"
    storage = RedisStorage.from_url(f"{scheme}://127.0.0.1:{servers[0].port}")
    counted, together = list[int](), threading.Barrier(8)

    def open_now() -> int:
        return sum(len(server.do("CLIENT LIST")) for server in servers)

    def worker(number: int) -> Work:
        async def main() -> None:
            for turn in range(50):
                await storage.load(f"{turn}")
            transport = storage._loops.here().transport  # pyright: ignore[reportPrivateUsage]
            await asyncio.to_thread(together.wait, 20)
            if number == 0:
                counted.append(open_now())
                await storage.aclose()  # the other loops close their own connections
            await asyncio.to_thread(together.wait, 20)
            with pytest.raises(ConnectionLost, match="closed"):  # a call that is under way opens no other connection
                await transport.read(b"k", (b"GET", b"k"))

        return main

    before = open_now()
    in_threads([worker(number) for number in range(8)])
    assert counted == [before + 8 * len(servers)]
    until(lambda: open_now() == before)


@pytest.mark.postgres
def test_each_loop_has_a_pool_of_its_own_and_the_first_to_come_make_the_table(postgres: PostgresServer) -> None:
    storage = PostgresStorage(f"{postgres.dsn()}?application_name=loops", table=new_table(), max_connections=2)
    counted, together = list[int](), threading.Barrier(THREADS)

    def worker(number: int) -> Work:
        async def main() -> None:
            await asyncio.gather(*(storage.create(f"{number}-{n}", b"x", 100) for n in range(8)))
            await asyncio.to_thread(together.wait, 20)
            if number == 0:
                counted.append(await backends(postgres, "loops"))
                await storage.aclose()  # also closes the pools of the other loops, each in its loop
            await asyncio.to_thread(together.wait, 20)
            with pytest.raises(StorageUnavailable, match="is closed; `async with store:` opens it"):
                await storage.load("0-0")

        return main

    in_threads([worker(number) for number in range(THREADS)])
    assert counted == [THREADS * 2]
    while asyncio.run(backends(postgres, "loops")):  # a backend ends some time after its connection
        time.sleep(0.05)


def test_a_driver_that_knows_asyncio_only_says_so_on_trio() -> None:
    for storage in (RedisStorage.from_url("redis://127.0.0.1:1"), PostgresStorage("postgresql://127.0.0.1:1/shop")):
        with pytest.raises(ConfigError, match="asyncio"):
            trio.run(storage.load, "a")


ON_SERVERS = pytest.mark.parametrize(
    "storage", [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("redis", "postgres")]
)


def run(program: str, storage: str, request: pytest.FixtureRequest) -> subprocess.CompletedProcess[str]:
    """Run a program in another process, with the URL of the server as its argument."""
    url = request.getfixturevalue("postgres").dsn() if storage == "postgres" else request.getfixturevalue("server").url
    with forking("sessioncore.storage.postgres", "sessioncore.storage.redis"):
        return subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=True)


ENDS = """
import asyncio, gc, sys, threading, warnings
from sessioncore import SessionConfig, SessionStore, storage_from_url

warnings.simplefilter("always", ResourceWarning)
store = SessionStore(SessionConfig(storage=storage_from_url(sys.argv[1])))
over = threading.Event()

async def outlive(other):
    async with store:
        other.start()
        await asyncio.to_thread(over.wait, 20)
        await store.create()

async def leave():
    async with store:
        await store.create()

def short():
    asyncio.run(leave())
    asyncio.run(store.storage.load("a"))
    gc.collect()  # would warn of a connection that is still open
    over.set()

asyncio.run(outlive(threading.Thread(target=short)))
asyncio.run(store.start())
gc.collect()
"""


@ON_SERVERS
def test_what_a_loop_has_opened_is_closed_when_it_ends(storage: str, request: pytest.FixtureRequest) -> None:
    assert "ResourceWarning" not in run(ENDS, storage, request).stderr


@ON_SERVERS
@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
def test_a_child_has_connections_and_locks_of_its_own(storage: str, request: pytest.FixtureRequest) -> None:
    done = run(FORKS, storage, request)
    first, second, third = done.stdout.splitlines()
    assert (first, third) == ("0 True 2", "True")
    assert "they belong to the parent: run a new loop" in second
    assert "unclosed transport" not in done.stderr
