"""A server that a script blocks, and connections that it closes in the middle of a call; one server and a cluster.

A read is repeated on a fresh connection; a write is sent once, and its outcome is unknown.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import pytest
import redis as blocking
from servers.redis_server import Server
from tests.storage.redis_rig import storage_on
from tests.storage.rigs import answered, made, record_at

from sessioncore import SessionConfig, SessionStore, StorageUnavailable
from sessioncore.storage.redis import RedisStorage

pytestmark = [pytest.mark.anyio, pytest.mark.redis]
LIMIT = 4.0
KEY, OWNER = "session:a", "session:owner:ada"


@asynccontextmanager
async def bounded_on(servers: list[Server]) -> AsyncGenerator[RedisStorage]:
    async with storage_on(servers) as storage:
        SessionStore(SessionConfig(storage=storage, storage_timeout=timedelta(seconds=LIMIT)))
        yield storage


CALLS: dict[str, Callable[[RedisStorage, int], Awaitable[object]]] = {
    "load": lambda storage, _: storage.load(KEY),
    "renew": lambda storage, _: storage.load(KEY, renew=1000),
    "owned_keys": lambda storage, _: storage.owned_keys(OWNER),
    "touch": lambda storage, _: storage.touch(KEY, 1000),
    "create": lambda storage, _: storage.create("session:b", b"new", 1000, owner=OWNER),
    "replace": lambda storage, at: storage.replace(KEY, b"new", 1000, version=at, owner=OWNER),
    "move": lambda storage, at: storage.move(KEY, "session:c", b"new", 1000, version=at, owner=OWNER),
    "delete": lambda storage, _: storage.delete(KEY),
}
REPEATED = {"renew", "owned_keys", "touch"}
REPEATED_ON_A_CLUSTER = REPEATED | {"create", "replace"}  # these first write the index, which may be sent twice


@contextmanager
def blocked(servers: list[Server]) -> Generator[None]:
    """Keep each server busy with an endless script, which can be killed because it has written nothing."""

    def spin(server: Server) -> None:
        client: Any = blocking.Redis(port=server.port, socket_timeout=60)
        with client, contextlib.suppress(blocking.ResponseError):
            client.execute_command("EVAL", "while true do end", 0)

    for server in servers:
        server.do("CONFIG", "SET", "lua-time-limit", 20)
    threads = [threading.Thread(target=spin, args=(server,)) for server in servers]
    for thread in threads:
        thread.start()
    for server in servers:
        while not is_busy(server):
            time.sleep(0.005)
    try:
        yield
    finally:
        for server in servers:
            server.do("SCRIPT", "KILL")
        for thread in threads:
            thread.join(10)


def is_busy(server: Server) -> bool:
    try:
        server.do("DBSIZE")  # a command with a key could be redirected first
    except blocking.ResponseError as exc:
        return "BUSY" in str(exc)
    return False


async def test_while_a_script_blocks_the_server_every_call_says_so_and_changes_nothing(servers: list[Server]) -> None:
    async with bounded_on(servers) as storage:
        at = await made(storage, KEY, owner=OWNER)
        with blocked(servers):
            for name, call in CALLS.items():
                start = time.monotonic()
                with pytest.raises(StorageUnavailable, match="BUSY"):
                    await call(storage, at)
                assert time.monotonic() - start < LIMIT, name
            for options in ({}, {"client_name": "named"}):
                async with storage_on(servers, **options) as fresh:
                    with pytest.raises(StorageUnavailable, match=r"\(BUSY\): a script blocks"):
                        await fresh.load(KEY)
        stored = await record_at(storage, KEY)
        assert (stored.data, stored.version) == (b"data", at)
        assert await storage.load("session:b") is None
        assert await storage.load("session:c") is None


def kill_others(servers: list[Server]) -> None:
    for server in servers:
        server.do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def until_it_waits(call: asyncio.Future[object], servers: list[Server], steps: int) -> None:
    while not call.done() and sum(server.do("INFO", "clients")["blocked_clients"] for server in servers) < steps:
        time.sleep(0.001)


def carried_out(servers: list[Server]) -> int:
    """How many scripts and writes the servers have carried out."""
    stats: list[dict[str, Any]] = [server.do("INFO", "commandstats") for server in servers]
    names = ("evalsha", "eval", "set", "unlink", "zrem")
    return sum(each[f"cmdstat_{name}"]["calls"] for each in stats for name in names if f"cmdstat_{name}" in each)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "load"])
async def test_a_connection_that_is_killed_in_the_middle_of_a_call(servers: list[Server], name: str) -> None:
    async with bounded_on(servers) as storage:
        await storage.check()  # only the first check sends a script
        at = await made(storage, KEY, owner=OWNER)
        await storage.load(KEY, renew=1000)
        for server in servers:
            server.do("CLIENT", "PAUSE", 30_000, "WRITE")  # scripts and writes that arrive now wait
        start, before = time.monotonic(), carried_out(servers)
        call = asyncio.ensure_future(CALLS[name](storage, at))
        steps = 2 if name == "move" and len(servers) > 1 else 1  # a cluster's move sends its first two together
        await asyncio.to_thread(until_it_waits, call, servers, steps)
        kill_others(servers)
        for server in servers:
            server.do("CLIENT", "UNPAUSE")
        if name in (REPEATED if len(servers) == 1 else REPEATED_ON_A_CLUSTER):
            assert await call
            assert time.monotonic() - start < LIMIT
            return
        with pytest.raises(StorageUnavailable):
            await call
        # After several connections that ended immediately, the storage pauses before the next attempt.
        await answered(storage.check)
        stored = await record_at(storage, KEY)
        assert (stored.data, stored.version) == (b"data", at), "a call whose connection was killed has written"
        assert await storage.load("session:b") is None
        assert await storage.load("session:c") is None
        assert carried_out(servers) - before <= (0 if len(servers) == 1 else 1), "the call was sent again"


async def test_loads_end_in_time_while_connections_are_killed_all_the_time(servers: list[Server]) -> None:
    over = threading.Event()

    def kill_on() -> None:
        while not over.wait(0.001 * len(servers)):
            kill_others(servers)

    async with bounded_on(servers) as storage:
        await made(storage, KEY)
        killer = threading.Thread(target=kill_on)
        killer.start()
        try:
            for _ in range(50):
                start = time.monotonic()
                with contextlib.suppress(StorageUnavailable):
                    assert await storage.load(KEY) is not None
                assert time.monotonic() - start < 2 * LIMIT
        finally:
            over.set()
            killer.join()
        await answered(storage.check)
        assert await storage.load(KEY) is not None
