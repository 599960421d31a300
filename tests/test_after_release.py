"""A session that is asked for when its request is over, or while it ends."""

import gc
import weakref

import anyio
import pytest
from tests.stores import SpyStorage
from tests.views import PlainView

from sessioncore import Exchange, SessionConfig, SessionReleased, SessionStore

pytestmark = pytest.mark.anyio


class _View(PlainView, weakref=True):
    pass


class Site:
    def __init__(self) -> None:
        self.storage = SpyStorage()
        self.store = SessionStore(SessionConfig(storage=self.storage))

    async def arrive(self) -> Exchange:
        """Begin a request with the cookie of a live session."""
        session = await self.store.create({"n": 1})
        return self.store.exchange(PlainView([f"__Host-session_id={session.id}".encode()]))


async def test_a_session_that_was_never_loaded_cannot_be_read_afterwards() -> None:
    site = Site()
    exchange = await site.arrive()
    await exchange.finish()
    with pytest.raises(SessionReleased, match=r"never loaded.*store\.open"):
        await exchange.load(required=True)
    with pytest.raises(SessionReleased):
        exchange.session.get("n")
    with pytest.raises(SessionReleased):
        exchange.session["n"] = 2
    assert "load" not in site.storage.calls


async def test_a_load_that_ends_after_its_request_gives_no_session_that_could_be_written() -> None:
    site = Site()
    exchange = await site.arrive()
    site.storage.before["load"] = lambda: anyio.sleep(0.02)

    async def load() -> None:
        await exchange.load()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(load)
        await anyio.sleep(0.01)
        await exchange.finish()
    with pytest.raises(SessionReleased):
        exchange.session["n"] = 2


async def test_an_exchange_that_never_loaded_lets_its_request_go() -> None:
    site = Site()
    view = _View()
    exchange, there = site.store.exchange(view), weakref.ref(view)
    await exchange.finish()
    gc.disable()
    try:
        del view
        assert there() is None
    finally:
        gc.enable()
