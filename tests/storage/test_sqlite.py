"""What is special about SQLite: the file, and what may be wrong with it."""

# ruff: noqa: ASYNC240 -- a test may wait for its own small files

import os
import re
import resource
import sqlite3
import stat
import threading
from contextlib import aclosing, closing
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from anyio.lowlevel import checkpoint
from tests.numbers import scaled
from tests.storage.rigs import ONE_LOOP

from sessioncore import ConfigError, SessionConfig, SessionNotFound, SessionStore, StorageError, StorageUnavailable
from sessioncore.storage import SQLiteStorage, Stored, Unreadable, WritesRefused
from sessioncore.storage.sqlite._batch_runs import run_writes
from sessioncore.storage.sqlite._batching import QueuedCall
from sessioncore.testing import ManualClock

pytestmark = pytest.mark.anyio


async def test_the_first_call_opens_the_file_also_when_many_come_at_once(path: Path) -> None:
    storage = SQLiteStorage(path)
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(storage.create, f"k{number}", b"", 1000)
            tasks.start_soon(storage.load, f"k{number}")
    await storage.aclose()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA journal_mode = DELETE")  # as in a file that was restored from a backup
    assert await storage.load("k1") is not None, "a call after aclose opens it again"
    assert await storage.clear("k") == 20
    await storage.aclose()


async def test_the_results_of_a_batch_come_together(path: Path) -> None:
    turns, came = 0, list[int]()

    async def load() -> None:
        await storage.load("a")
        came.append(turns)
        if len(came) == 100:
            tasks.cancel_scope.cancel()

    async with aclosing(SQLiteStorage(path)) as storage:
        await storage.open()
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(load)
            while True:
                turns += 1
                await checkpoint()
    assert came[-1] - came[1] < 20  # iterations of the event loop; the first call was a batch of its own


async def test_the_file_is_readable_for_its_user_only(path: Path) -> None:
    before = os.umask(0)
    try:
        async with aclosing(SQLiteStorage(path)) as storage:
            await storage.create("a", b"data", 1000)
            files = list(path.parent.glob("sessions.db*"))
            assert len(files) == 3, "the database, its log and their shared memory"
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    finally:
        os.umask(before)


async def test_a_file_that_is_no_database_is_reported_and_left_alone(path: Path) -> None:
    path.write_bytes(b"no database at all " * 100)
    storage = SQLiteStorage(path)
    with pytest.raises(StorageError, match="not a SQLite database") as caught:
        await storage.load("a")
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
    assert not isinstance(caught.value, StorageUnavailable)
    assert path.read_bytes() == b"no database at all " * 100


async def test_damaged_pages_are_reported(path: Path) -> None:
    async with aclosing(SQLiteStorage(path)) as storage:
        for number in range(100):
            await storage.create(f"k{number}", b"x" * 2000, 1000)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))
    async with aclosing(SQLiteStorage(path)) as storage:
        with pytest.raises(StorageUnavailable, match="malformed"):
            await storage.load("k50")
        with pytest.raises(StorageUnavailable, match="malformed"):
            await storage.create("new", b"", 1000)


async def test_a_key_that_is_no_text_is_not_listed(path: Path) -> None:
    async with aclosing(SQLiteStorage(path)) as storage:
        await storage.create("a", b"", 1000, owner="u")
        with closing(sqlite3.connect(path)) as other, other:
            for key in ("CAST(x'61ff' AS TEXT)", "x'61'", "x'ff'"):
                other.execute(
                    f"INSERT INTO records SELECT {key}, data, version, ends, owner, moved_to FROM records LIMIT 1"
                )
        assert await storage.owned_keys("u") == ["a"]
        assert [keys async for keys in storage.scan("a")] == [["a"]]


DAMAGES = """\
data = 'text', data = CAST(x'ff' AS TEXT), data = 7, data = 1.5, ends = 'later', ends = 9e999, ends = x'00',
version = 'one', version = x'00', moved_to = x'00', moved_to = CAST(x'ff' AS TEXT)"""


@pytest.mark.parametrize("damage", re.split(r",\s", DAMAGES))
async def test_a_row_that_others_wrote_is_unreadable_and_stays(path: Path, damage: str) -> None:
    events: list[str] = []
    store = SessionStore(SessionConfig(storage=SQLiteStorage(path), on_event=lambda event: events.append(event.kind)))
    async with store, aclosing(SQLiteStorage(path)) as storage:
        sid = (await store.create({"n": 1})).id
        with closing(sqlite3.connect(path)) as other:
            (version,) = other.execute("SELECT version FROM records").fetchone()
            other.execute(f"UPDATE records SET {damage}")
            other.commit()
            row = other.execute("SELECT key, hex(data), hex(version), hex(ends) FROM records").fetchone()
            for renew in (None, 1000.0):
                assert await storage.load(row[0], renew=renew) == Unreadable()
            for at in (1, version):
                assert await storage.replace(row[0], b"", 1000, version=at) == Unreadable()
                assert await storage.move(row[0], "new", b"", 1000, version=at) == Unreadable()
            assert await storage.touch(row[0], 1000) is False
            assert await storage.create(row[0], b"", 1000) is None
            with pytest.raises(SessionNotFound):
                await store.get_by_id(sid)
            assert other.execute("SELECT key, hex(data), hex(version), hex(ends) FROM records").fetchall() == [row]
        await storage.clear(row[0])
        assert await storage.load(row[0]) is None
    assert events.count("corrupt") == 1


async def test_a_folder_that_is_missing_or_in_the_place_of_the_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="is a folder: remove it"):
        await SQLiteStorage(tmp_path).open()
    storage = SQLiteStorage(tmp_path / "missing" / "sessions.db")
    with pytest.raises(StorageUnavailable, match="does not exist: create it") as caught:
        await storage.open()
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(StorageUnavailable):  # the name of its -wal file is too long
        await SQLiteStorage(tmp_path / ("x" * 252)).open()
    (tmp_path / "missing").mkdir()
    await storage.open()
    await storage.aclose()


async def test_a_file_that_cannot_be_written_is_reported_and_still_read(path: Path) -> None:
    # A limit on file sizes, instead of a full disk or of a read-only folder, in which root may write.
    async with aclosing(SQLiteStorage(path)) as storage:
        await storage.create("a", b"data", 1000)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        try:
            with pytest.raises(StorageUnavailable) as caught:
                await storage.create("b", b"x" * 100_000, 1000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        assert await storage.load("a") is not None
        assert await storage.load("b") is None
        assert await storage.create("b", b"x" * 100_000, 1000) is not None, "writes work again without a restart"


async def test_the_wal_file_gives_room_back_that_a_long_reader_has_cost(path: Path) -> None:
    wal = path.with_name("sessions.db-wal")
    async with aclosing(SQLiteStorage(path)) as storage:
        await storage.open()
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN").execute("SELECT * FROM records").fetchall()
            for number in range(40):
                await storage.create(f"{number}", b"x" * 2**20, 1000)
            assert wal.stat().st_size > 40 * 2**20
        for number in range(3):
            await storage.create(f"after {number}", b"x", 1000)
        assert wal.stat().st_size < 20 * 2**20


async def test_a_full_disk_is_tried_again_with_an_empty_wal_file(path: Path) -> None:
    def end_all(connection: sqlite3.Connection) -> int:
        if times_full.pop():
            full = sqlite3.OperationalError("database or disk is full")
            full.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise full
        return connection.execute("DELETE FROM records").rowcount

    async with aclosing(SQLiteStorage(path)) as storage:
        await storage.create("a", b"x" * 100_000, 1000)
        times_full = [True, True]
        with pytest.raises(WritesRefused, match="make room"):
            await storage._file.write(end_all)  # pyright: ignore[reportPrivateUsage] - no disk is full on demand
        assert path.stat().st_size > 100_000, "the record has left the -wal file"
        times_full = [False, True]
        assert await storage._file.write(end_all) == 1  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR_LOCK, sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_PROTOCOL])
async def test_the_error_names_a_file_system_without_locks(path: Path, code: int) -> None:
    def fail(_: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    async with aclosing(SQLiteStorage(path)) as storage:
        with pytest.raises(StorageUnavailable, match="put it on a local disk"):
            await storage._file.read(fail)  # pyright: ignore[reportPrivateUsage] - this disk has locks


@ONE_LOOP  # trio keeps threads of earlier tests
async def test_the_error_names_a_process_that_may_start_no_more_threads(path: Path) -> None:
    before = threading.stack_size(2**45)  # more than there is
    try:
        with pytest.raises(StorageUnavailable, match="may start no more threads") as caught:
            await SQLiteStorage(path).open()
    finally:
        threading.stack_size(before)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_the_error_of_a_batch_that_finds_no_memory_does_not_blame_threads() -> None:
    class Full:
        in_transaction = True

        def execute(self, _: str) -> None:
            raise MemoryError

    call = QueuedCall(lambda _: None, 1)
    run_writes(cast("sqlite3.Connection", Full()), [call])
    assert isinstance(call.error, MemoryError)


@pytest.mark.parametrize(
    ("statements", "said"),
    [
        ("PRAGMA application_id=1936028531; PRAGMA user_version=3", "upgrade sessioncore, or give it"),
        ("PRAGMA user_version=7", "belongs to another program: give"),
        ("CREATE TABLE records (k)", "belongs to another program: give"),
    ],
    ids=["newer-schema", "another-version", "another-program"],
)
async def test_a_file_of_another_schema_is_refused_untouched(path: Path, statements: str, said: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(statements)
    before = path.read_bytes()
    storage = SQLiteStorage(path)
    for _ in range(2):
        with pytest.raises(StorageError, match=said) as caught:
            await storage.load("a")
        assert not isinstance(caught.value, StorageUnavailable)
    assert path.read_bytes() == before
    assert list(path.parent.glob("sessions.db-*")) == []


async def test_one_bad_call_does_not_spoil_the_others_of_its_batch(path: Path) -> None:
    async with aclosing(SQLiteStorage(path)) as storage:
        made: list[int | None] = []

        async def good(number: int) -> None:
            made.append(await storage.create(f"k{number}", b"", 1000))

        async def bad() -> None:
            with pytest.raises(StorageError):
                await storage.create("bad", b"", 1000, owner="\ud800")

        def rolled_back(connection: sqlite3.Connection) -> None:
            connection.execute("ROLLBACK")  # as SQLite does by itself when the disk is full
            raise sqlite3.OperationalError("disk I/O error")

        async def very_bad() -> None:
            with pytest.raises(StorageUnavailable, match="disk I/O error"):
                await storage._file.write(rolled_back)  # pyright: ignore[reportPrivateUsage] - no disk is full on demand

        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")  # so that they wait, and form one batch
            async with anyio.create_task_group() as tasks:
                for number in range(30):
                    tasks.start_soon(good, number)
                    if number % 5 == 0:
                        tasks.start_soon(bad if number % 2 else very_bad)
                await anyio.wait_all_tasks_blocked()
                other.execute("ROLLBACK")
        assert len(made) == 30
        assert None not in made
        assert await storage.clear("k") == 30
        assert await storage.load("bad") is None


async def test_cancellation_storms_break_nothing(path: Path) -> None:
    async with aclosing(SQLiteStorage(path)) as storage:
        done: set[int] = set()

        async def create(number: int) -> None:
            if await storage.create(f"k{number}", b"%d" % number, 1000) is not None:
                done.add(number)

        for start in range(0, scaled(3000), 50):
            with anyio.move_on_after(start % 7 * 0.0005):
                async with anyio.create_task_group() as tasks:
                    for number in range(start, start + 50):
                        tasks.start_soon(create, number)
        for number in range(scaled(3000)):
            stored = await storage.load(f"k{number}")
            assert stored is not None or number not in done
            assert stored is None or (isinstance(stored, Stored) and stored.data == b"%d" % number)
        await storage.check()
        assert await storage.create("after", b"", 1000) is not None


@ONE_LOOP
async def test_what_expired_is_purged_in_batches(path: Path) -> None:
    clock = ManualClock()
    async with aclosing(SQLiteStorage(path, clock=clock)) as storage:
        async with anyio.create_task_group() as tasks:
            for number in range(1200):  # five hundred make a batch
                tasks.start_soon(storage.create, f"k{number}", b"", 1000 if number < 10 else 10)
        clock.advance(11)
        assert await storage.purge_expired() == 1190
        assert await storage.purge_expired() == 0
        assert await storage.clear("k") == 10
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (0,)


async def test_a_clock_set_back_revives_nothing_that_was_deleted(path: Path) -> None:
    clock = ManualClock()
    async with aclosing(SQLiteStorage(path, clock=clock)) as storage:
        await storage.create("a", b"", 10)
        clock.advance(20)
        assert await storage.delete("a") == 0
        clock.advance(-20)
        assert await storage.load("a") is None


async def test_the_end_of_a_prefix_is_found_beside_the_surrogates(path: Path) -> None:
    async with aclosing(SQLiteStorage(path)) as storage:
        for prefix in ("a\ud7ff", "\U0010ffff", "b\U0010ffff"):
            await storage.create(prefix, b"", 1000)
            await storage.create(prefix + "\U0010ffff", b"", 1000)
            await storage.create("c\ue000", b"", 1000)
            assert await storage.clear(prefix) == 2
        assert await storage.load("c\ue000") is not None
        assert await storage.clear("") == 1


def test_a_negative_timeout_is_refused(path: Path) -> None:
    wrong: list[Any] = [timedelta(seconds=-1), 5, None]
    for busy_timeout in wrong:
        with pytest.raises(ConfigError, match="busy_timeout"):
            SQLiteStorage(path, busy_timeout=busy_timeout)
