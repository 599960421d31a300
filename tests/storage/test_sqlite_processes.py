"""Several processes on one SQLite file, and one that is killed in the middle of its writes."""

import os
import sqlite3
import subprocess
import sys
from contextlib import aclosing, closing
from pathlib import Path

import anyio
import pytest
from tests.forks import forking
from tests.storage.rigs import ONE_LOOP, record_at

from sessioncore import Stored
from sessioncore.storage import SQLiteStorage

pytestmark = [pytest.mark.anyio, ONE_LOOP]  # the workers always run on asyncio

WORKER = str(Path(__file__).with_name("sqlite_worker.py"))


def worker(*arguments: str) -> subprocess.Popen[str]:
    with forking():
        return subprocess.Popen([sys.executable, WORKER, *arguments], stdout=subprocess.PIPE, text=True)


def killed_after(lines: int, *arguments: str) -> tuple[int, list[str]]:
    """Kill a worker when it has printed that many lines; return its pid, and all whole lines that it printed."""
    with worker(*arguments) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    return process.pid, [line.strip() for line in said if line.endswith("\n")]


async def test_many_processes_may_create_the_file_at_once(path: Path) -> None:
    workers = [worker("open", str(path)) for _ in range(2)]
    storages = [SQLiteStorage(path) for _ in range(8)]
    async with anyio.create_task_group() as tasks:
        for number, storage in enumerate(storages):
            tasks.start_soon(storage.create, f"k{number}", b"", 1000)
    for process in workers:
        with process:
            assert await anyio.to_thread.run_sync(process.wait) == 0
    assert await storages[0].clear("k") == 8
    for storage in storages:
        await storage.aclose()


@pytest.mark.proves("P3")
async def test_acknowledged_writes_survive_a_kill(path: Path) -> None:
    _, keys = killed_after(200, "write", str(path))
    async with aclosing(SQLiteStorage(path)) as storage:
        for key in keys:
            assert (await record_at(storage, key)).data == key.encode() * 200
        # The few records that were written, but not acknowledged before the kill, are whole as well.
        assert len(keys) <= len(await storage.owned_keys("u")) <= len(keys) + 20
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.proves("AT-109", "ASVS 15.4.2")
async def test_a_process_that_is_killed_while_it_moves_a_record_leaves_one_key(path: Path) -> None:
    """Like a login just before a crash: either the old ID is valid or the new one, never none and never both."""
    for turn in range(1, 6):
        pid, acknowledged = killed_after(20 * turn, "move", str(path))
        keys = [f"{pid}-{number}" for number in range(int(acknowledged[-1].partition("-")[2]) + 2)]
        async with aclosing(SQLiteStorage(path)) as storage:
            [live] = [key for key in keys if isinstance(await storage.load(key), Stored)]
            assert live in keys[-2:]
            assert await storage.owned_keys("u") == [live]
            assert await storage.delete(live) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes fork")
async def test_a_file_that_was_open_at_a_fork_is_refused_to_the_child_and_kept_by_the_parent(path: Path) -> None:
    done = await anyio.run_process([sys.executable, WORKER, "fork", str(path)], check=False)
    assert done.stdout.decode().split() == ["StorageError", "StorageError", "StorageError", "kept", "0"], done.stderr
