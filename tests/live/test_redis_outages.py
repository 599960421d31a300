"""A Redis that does not reply: an end is still noticed, and nobody who is logged in is thrown out."""

import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import pytest
from servers.redis_server import Server
from tests.live.live_kit import Watched, watched
from tests.numbers import FULL
from tests.storage.redis_rig import storage_at
from tests.tcp_proxy import Proxy, proxy_to

from sessioncore import SessionConfig, SessionStore
from sessioncore.storage.redis import RedisStorage

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

INTERVAL = TIMEOUT = timedelta(seconds=1)
BOUND = (INTERVAL + TIMEOUT).total_seconds()
SLACK = 3.0  # seconds, for a busy machine
OUTAGE = 15.0 if FULL else 3.0


@asynccontextmanager
async def proxied(server: Server) -> AsyncGenerator[tuple[Proxy, Watched]]:
    """An `alive` block behind a proxy."""
    window = timedelta(seconds=30)
    settings: dict[str, Any] = {"watch_interval": INTERVAL, "storage_timeout": TIMEOUT, "stale_id_window": window}
    async with proxy_to(server.port) as proxy, storage_at(proxy.port) as storage, watched(storage, **settings) as one:
        yield proxy, one


def beside(server: Server) -> SessionStore:
    """The store of another process."""
    return SessionStore(SessionConfig.development(storage=RedisStorage.from_url(server.url)))


async def test_a_server_that_stands_still_ends_nothing_and_an_end_after_it_is_noticed(server: Server) -> None:
    async with proxied(server) as (_, one), beside(server) as other:
        server.signal(signal.SIGSTOP)
        try:
            await anyio.sleep(OUTAGE)
        finally:
            server.signal(signal.SIGCONT)
        await anyio.sleep(BOUND)
        assert not one.ended.is_set()
        with anyio.fail_after(BOUND + SLACK):
            assert await other.revoke(one.mine.handle)
            await one.ended.wait()


@pytest.mark.parametrize("reachable", [True, False])
async def test_an_end_that_is_not_reported_is_noticed_within_the_bound_once_the_server_answers(
    server: Server, reachable: bool
) -> None:
    async with proxied(server) as (proxy, one), beside(server) as other:
        if reachable:
            proxy.half_open = proxy.connections
        else:
            proxy.swallow = True
            proxy.drop()
        assert await other.revoke(one.mine.handle)
        if not reachable:
            await anyio.sleep(OUTAGE)
            assert not one.ended.is_set()
            proxy.swallow = False
        with anyio.fail_after(BOUND + SLACK):
            await one.ends()
