"""`store.purge_every`: in the background, through outages, by several processes at the same time."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.forks import forking
from tests.kit import BOTH_LOOPS, Lab
from tests.stores import SpyStorage
from tests.turns import comes_true

from sessioncore import ConfigError, SessionConfig, SessionStore, SQLiteStorage

pytestmark = pytest.mark.anyio

SHORT = timedelta(milliseconds=1)


async def test_an_outage_is_an_event_and_logged_once_like_its_end(caplog: pytest.LogCaptureFixture, lab: Lab) -> None:
    fault = lab.storage.fail("purge_expired", times=3)
    async with lab.store.purge_every(SHORT):
        await comes_true(lambda: len(lab.storage.done) >= 2)
    assert fault.entered.is_set()
    assert [event.detail for event in lab.events] == ["purge_expired: StorageUnavailable"] * 3
    assert lab.kinds() == ["storage_error"] * 3
    [record, recovery] = caplog.records
    assert record.getMessage().startswith("expired records could not be removed: ")
    assert record.exc_info is not None
    assert recovery.getMessage() == "the storage works again; failures until now: 3"


async def test_the_first_purge_does_not_come_at_once(lab: Lab) -> None:
    """Processes that start together must not purge together."""
    async with lab.store.purge_every(timedelta(hours=1000)):
        await anyio.sleep(0.01)
    assert lab.calls == []


async def test_what_the_block_raises_comes_out_as_it_is_and_cancelling_it_ends_it_after_the_purge() -> None:
    with pytest.raises(KeyError):
        async with SessionStore().purge_every(SHORT):
            raise KeyError("k")
    storage, ended = SpyStorage(), anyio.Event()

    async def purge_slowly() -> None:
        with anyio.CancelScope(shield=True):
            scope.cancel()
            await anyio.sleep(0.01)
            ended.set()

    storage.before["purge_expired"] = purge_slowly
    with anyio.CancelScope() as scope:
        async with SessionStore(SessionConfig(storage=storage)).purge_every(SHORT):
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert ended.is_set()  # the storage may be closed next


@BOTH_LOOPS
async def test_it_purges_until_its_block_is_left_which_may_be_by_another_task_than_has_entered_it() -> None:
    """Fixtures of pytest-asyncio do this, and aiohttp's cleanup contexts in its test client."""
    storage = SpyStorage()
    purging = SessionStore(SessionConfig(storage=storage)).purge_every(SHORT)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(purging.__aenter__)
    await comes_true(lambda: len(storage.calls) >= 3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(purging.__aexit__, None, None, None)
    before = len(storage.calls)
    await anyio.sleep(0.02)
    assert len(storage.calls) == before
    assert set(storage.calls) == {"purge_expired"}


async def test_an_interval_that_cannot_be_is_refused() -> None:
    wrong: list[Any] = [timedelta(), timedelta(seconds=-1), 60, None]
    for interval in wrong:
        with pytest.raises(ConfigError, match="timedelta above zero"):
            SessionStore().purge_every(interval)


PURGER = """
import sys
from datetime import timedelta
import anyio
from sessioncore import SessionConfig, SessionStore, SQLiteStorage

async def main():
    store = SessionStore(SessionConfig(storage=SQLiteStorage(sys.argv[1])))
    async with store, store.purge_every(timedelta(milliseconds=5)):
        await anyio.to_thread.run_sync(sys.stdin.read)

anyio.run(main)
"""


async def test_several_processes_purge_one_file(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    storage = SQLiteStorage(path)
    for number in range(20):
        await storage.create(f"dead-{number}", b"", 0.001)
        await storage.create(f"live-{number}", b"", 1000)
    command = [sys.executable, "-c", PURGER, str(path)]
    with forking():
        processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(2)]  # noqa: ASYNC220
    try:
        with anyio.fail_after(30):
            while await purged_rows(storage) < 20:  # noqa: ASYNC110 - another process does it
                await anyio.sleep(0.01)
    finally:
        for process in processes:
            process.communicate(timeout=30)
    assert [process.returncode for process in processes] == [0, 0]
    assert [await storage.load(f"live-{number}") for number in range(20)].count(None) == 0
    await storage.aclose()


async def purged_rows(storage: SQLiteStorage) -> int:
    """How many of the expired rows are not in the file any more: nothing here has removed one."""
    count = "SELECT 20 - count(*) FROM records WHERE key LIKE 'dead-%'"
    return int(await storage._file.read(lambda connection: connection.execute(count).fetchone()[0]))  # pyright: ignore[reportPrivateUsage]
