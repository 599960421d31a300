"""Many sockets of many owners in several processes: a revoked owner's are closed in time, and no others.

In the same run the sockets of half of the owners are closed by a Pub/Sub channel to which the application listens
itself, as it would without sessioncore. The delays of both are compared.
"""

import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
import redis.asyncio
from msgspec import Struct
from servers.redis_server import free_port, one_server, watched_pair
from tests.forks import forking
from tests.numbers import FULL, scaled
from tests.processes import ENVIRONMENT
from tests.storage.rigs import answered
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake

from sessioncore import SessionConfig, SessionStore, storage_from_url

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.redis]

PROCESSES = 4 if FULL else 2
OWNERS = 50 if FULL else 10
SOCKETS = scaled(1000)
FAILOVER = 15_000 if FULL else 2_000  # milliseconds, the least that a failover takes
CHANNEL = "ends"
NEEDED = [
    "sessioncore.storage.redis", "sessioncore_asgi", "uvicorn.protocols.http.auto", "uvicorn.protocols.websockets.auto"
]  # fmt: skip


class Socket(Struct, eq=False):
    """One client."""

    owner: str
    connection: ClientConnection
    closed: anyio.Event
    closed_at: float = 0.0

    async def wait(self) -> None:
        await self.connection.wait_closed()
        self.closed_at = time.monotonic()
        self.closed.set()


@asynccontextmanager
async def processes(url: str, *channel: str) -> AsyncGenerator[list[int]]:
    ports = [free_port() for _ in range(PROCESSES)]
    with forking(*NEEDED):
        started = [  # blocking, but for a moment only
            subprocess.Popen(  # noqa: ASYNC220
                [sys.executable, "-m", "tests.live.fan_out_server", url, str(port), *channel], env=ENVIRONMENT
            )
            for port in ports
        ]
    try:
        yield ports
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(20)


async def open_socket(port: int, owner: str, sid: str) -> Socket:
    while True:
        try:
            connection = await connect(
                f"ws://127.0.0.1:{port}/",
                additional_headers={"Cookie": f"session_id={sid}"},
                ping_interval=None,
                compression=None,
            )
        except (OSError, InvalidHandshake):  # the process is starting
            await anyio.sleep(0.05)
        else:
            return Socket(owner, connection, anyio.Event())


async def end(sockets: list[Socket], owner: str, act: Callable[[], Awaitable[object]]) -> list[float]:
    """End the owner's sockets, and return how long after the call each of them was closed."""
    before = {socket for socket in sockets if socket.closed.is_set()}
    await act()
    returned = time.monotonic()
    theirs = [socket for socket in sockets if socket.owner == owner]
    with anyio.fail_after(30):
        for socket in theirs:
            await socket.closed.wait()
    assert {socket for socket in sockets if socket.closed.is_set()} == before | set(theirs)
    return [max(0.0, socket.closed_at - returned) for socket in theirs]


def p99(delays: list[float]) -> float:
    return sorted(delays)[round(len(delays) * 0.99) - 1]


async def play(url: str, ports: list[int]) -> tuple[list[float], list[float]]:
    """End the sockets of all owners; return the delays of those that sessioncore closed, and of those by Pub/Sub."""
    ours: list[float] = []
    bare: list[float] = []
    sockets: list[Socket] = []
    redis_type: Any = redis.asyncio.Redis
    async with (
        SessionStore(SessionConfig.development(storage=storage_from_url(url))) as store,
        redis_type.from_url(url) as publisher,
        anyio.create_task_group() as tasks,
    ):
        for number in range(SOCKETS):
            owner = f"owner-{number % OWNERS}"
            session = await store.create({"n": number}, owner=owner)
            sockets.append(await open_socket(ports[number % PROCESSES], owner, session.id))
            tasks.start_soon(sockets[-1].wait)
        for number in range(OWNERS):
            owner = f"owner-{number}"
            if number % 2:
                bare += await end(sockets, owner, partial(publisher.publish, CHANNEL, owner))
            else:
                ours += await end(sockets, owner, partial(store.revoke_all, owner))
    codes = {(int(socket.owner[6:]) % 2, socket.connection.close_code) for socket in sockets}
    assert codes == {(0, 1008), (1, 4000)}
    return ours, bare


@pytest.mark.proves("P2")
@pytest.mark.timeout(300)
async def test_exactly_the_sockets_of_a_revoked_owner_close() -> None:
    with one_server() as server:
        url = f"redis://127.0.0.1:{server.port}/0"
        async with processes(url, CHANNEL) as ports:
            ours, bare = await play(url, ports)
    ratio = p99(ours) / p99(bare)
    print(f"{SOCKETS} sockets: p99 {p99(ours) * 1000:.1f} ms, Pub/Sub {p99(bare) * 1000:.1f} ms, ratio {ratio:.2f}")
    assert p99(ours) < max(1, 10 * p99(bare))  # on a busy machine Pub/Sub is late, too


@pytest.mark.timeout(120)
async def test_a_failover_closes_nobody_who_is_still_logged_in() -> None:
    with watched_pair() as (master, _, sentinels):
        places = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        url = f"redis+sentinel://{places}/main/0"
        async with (
            processes(url) as ports,
            SessionStore(SessionConfig.development(storage=storage_from_url(url))) as store,
            anyio.create_task_group() as tasks,
        ):
            sockets: list[Socket] = []
            for number in range(20):
                owner = f"owner-{number % 4}"
                session = await store.create(owner=owner)
                sockets.append(await open_socket(ports[number % PROCESSES], owner, session.id))
                tasks.start_soon(sockets[-1].wait)
            master.do("WAIT", 1, 5000)
            for sentinel in sentinels:
                sentinel.do("SENTINEL", "SET", "main", "down-after-milliseconds", FAILOVER)
            master.kill()
            await answered(store.create, 45)
            assert not [socket for socket in sockets if socket.closed.is_set()]
            await end(sockets, "owner-1", partial(store.revoke_all, "owner-1"))
            for socket in sockets:
                await socket.connection.close()
