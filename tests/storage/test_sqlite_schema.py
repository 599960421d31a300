"""Files of an earlier release: migrated once, under a lock, with every record in place."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from tests.forks import forking
from tests.storage.rigs import made

from sessioncore import Moved, SQLiteStorage
from sessioncore.storage import Stored
from sessioncore.testing import ManualClock

pytestmark = pytest.mark.anyio

FIRST = Path(__file__).parent / "first_format" / "sqlite.sql"
SIX = """
import anyio, os, sys
from sessioncore import SQLiteStorage

def start():
    if not (child := os.fork()):
        anyio.run(SQLiteStorage(sys.argv[1]).open)
        sys.exit()
    return child

anyio.run(anyio.sleep, 0)  # imports the event loop once for all of them
print(*(os.waitpid(child, 0)[1] for child in [start() for _ in range(6)]))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file as the first release made it."""
    made = tmp_path / "sessions.db"
    with closing(sqlite3.connect(made)) as connection:
        connection.executescript(FIRST.read_text(encoding="utf-8"))
    return made


def schema_of(path: Path) -> tuple[int, list[str]]:
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        return version, [column for (_, column, *_) in connection.execute("PRAGMA table_info(records)")]


async def test_a_file_of_the_first_release_is_migrated_with_its_records(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        before = connection.execute("SELECT key, data, version, ends, owner FROM records ORDER BY key").fetchall()
    clock = ManualClock()
    storage = SQLiteStorage(path, clock=clock)
    for key, data, version, ends, _ in before:
        assert await storage.load(key) == Stored(data, version, ends - clock())
    key, data, version, *_ = before[0]
    assert isinstance(await storage.move(key, "new", data, 1000, version=version, tombstone=60), int)
    assert await storage.load(key) == Moved("new")
    await storage.aclose()
    assert schema_of(path) == (2, ["key", "data", "version", "ends", "owner", "moved_to"])


def test_processes_that_start_at_once_migrate_it_once(path: Path) -> None:
    command = [sys.executable, "-c", SIX, str(path)]
    with forking():
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "0 0 0 0 0 0\n", done.stderr
    assert schema_of(path) == (2, ["key", "data", "version", "ends", "owner", "moved_to"])


async def test_the_record_of_a_release_without_tombstones_is_not_read_from_one(path: Path) -> None:
    """A process of the first release, which still runs beside this one, does not take a tombstone for a record."""
    storage = SQLiteStorage(path)
    version = await made(storage, "a", b"data", 1000)
    await storage.move("a", "b", b"data", 1000, version=version, tombstone=60)
    await storage.aclose()
    with closing(sqlite3.connect(path)) as connection:
        (kind,) = connection.execute("SELECT typeof(data) FROM records WHERE key = 'a'").fetchone()
    assert kind == "text", "a type that the first release reports as unreadable, and never overwrites"


async def test_clear_and_purge_work_in_batches_over_tombstones(tmp_path: Path) -> None:
    clock = ManualClock()
    storage = SQLiteStorage(tmp_path / "sessions.db", clock=clock)

    async def make(number: int) -> None:
        version = await made(storage, f"app:{number}", b"", 1000)
        await storage.move(f"app:{number}", f"app:{number}-new", b"", 1000, version=version, tombstone=10)

    async with anyio.create_task_group() as tasks:  # together, so that they share commits
        for number in range(700):
            tasks.start_soon(make, number)
    clock.advance(20)
    assert await storage.purge_expired() == 0
    assert await storage.clear("app:") == 700
    await storage.aclose()
