"""Tasks of trio in a thread where asyncio's loop runs, too, as in trio's guest mode and with trio-asyncio."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

from sessioncore import ConfigError, MemoryStorage, SessionConfig, SessionGone, SessionStore, storage_from_url
from sessioncore.storage.sqlite import SQLiteStorage

TIMEOUT = 10


def run_as_guest(work: Callable[[], Awaitable[None]]) -> None:
    async def host() -> None:
        loop = asyncio.get_running_loop()
        outcome = loop.create_future()
        trio.lowlevel.start_guest_run(
            work, run_sync_soon_threadsafe=loop.call_soon_threadsafe, done_callback=outcome.set_result
        )
        (await asyncio.wait_for(outcome, TIMEOUT)).unwrap()

    asyncio.run(host())


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_session_is_stored_and_its_end_noticed(kind: str, tmp_path: Path) -> None:
    async def work() -> None:
        storage: Any = MemoryStorage() if kind == "memory" else SQLiteStorage(tmp_path / "sessions.db")
        async with SessionStore(SessionConfig(storage=storage)) as store:
            session = await store.create({"n": 1}, owner="ada")
            session["n"] = 2
            await session.save()
            one = await store.get_by_id(session.id)
            assert one["n"] == 2
            with pytest.raises(SessionGone), anyio.fail_after(TIMEOUT / 2):
                async with one.alive():
                    assert await store.revoke_all("ada") == 1
                    await anyio.sleep_forever()

    run_as_guest(work)


@pytest.mark.proves("AT-112")
@pytest.mark.parametrize("run", [run_as_guest, trio.run])
@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "postgresql://127.0.0.1:1/sessions"])
def test_a_storage_that_needs_asyncio_says_so(url: str, run: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
    async def work() -> None:
        storage: Any = storage_from_url(url)
        for call in (SessionStore(SessionConfig(storage=storage)).start, storage.check, partial(storage.load, "k")):
            with pytest.raises(ConfigError, match=r"asyncio.*SQLiteStorage"):
                await call()

    run(work)
