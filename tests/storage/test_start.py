"""`store.start()` and `check()`: what is wrong with a storage is reported before the first visitor, with what to do."""

import logging
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import pytest
from tests.forks import forking
from tests.kit import Lab
from tests.processes import ENVIRONMENT
from tests.stores import CHECK, SpyStorage

from sessioncore import SessionConfig, SessionEvent, SessionStore, StorageError, StorageUnavailable, storage_from_url
from sessioncore.concurrency._event_loops import event_loop
from sessioncore.storage import PROBE_SUFFIX, MemoryStorage, Opens, SQLiteStorage, Storage, WritesRefused
from sessioncore.testing import FailingStorage

pytestmark = pytest.mark.anyio

WORKER = Path(__file__).with_name("sqlite_start_worker.py")


def store_on(storage: Storage, **options: Any) -> SessionStore:
    return SessionStore(SessionConfig(storage=storage, **options))


# -- the probe


class Noting(SpyStorage):
    """Notes the arguments of each write."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []
        self.owners: list[str | None] = []
        self.lifetimes: list[float] = []

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        self.keys.append(key)
        self.owners.append(owner)
        self.lifetimes.append(ttl)
        return await super().create(key, data, ttl, owner=owner)

    async def touch(self, key: str, ttl: float) -> bool:
        self.keys.append(key)
        self.lifetimes.append(ttl)
        return await super().touch(key, ttl)


async def test_check_makes_each_call_once_under_names_of_its_own_and_leaves_nothing() -> None:
    storage, events = Noting(), list[SessionEvent]()
    store = store_on(storage, key_prefix="shop:", on_event=events.append)
    await store.check()
    assert sorted(storage.calls) == CHECK
    await store.check()
    assert (len(storage.inner), events) == (0, [])
    names = [*storage.keys, *(owner or "" for owner in storage.owners)]
    assert len(names) == len(set(names)) == 6
    assert all(name.startswith("shop:") and name.endswith(PROBE_SUFFIX) for name in names)
    assert max(storage.lifetimes) <= 50  # a storage may keep an owner's entry ten seconds longer


async def test_a_storage_in_this_process_is_not_probed_and_evicts_nobody() -> None:
    storage = MemoryStorage(max_sessions=1)
    async with store_on(storage) as store:
        session = await store.create({"n": 1})
        await store.check()
        assert (await store.get_by_id(session.id))["n"] == 1


@pytest.mark.parametrize("call", [call for call in CHECK if call != "check"])
async def test_each_call_that_fails_fails_the_check_and_is_an_event(call: str, lab: Lab) -> None:
    with lab.storage.fail(call, error=StorageError("a right is missing")), pytest.raises(StorageError, match="a right"):
        await lab.store.check()
    assert [event.detail for event in lab.events] == [f"{call}: StorageError"]


class Forgetful(SpyStorage):
    """Confirms calls that it has not carried out."""

    lost = ""

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        return await super().create(key, data, ttl, owner=None if self.lost == "owned_keys" else owner)

    async def touch(self, key: str, ttl: float) -> bool:
        return self.lost != "touch" and await super().touch(key, ttl)

    async def move(self, key: str, new_key: str, data: bytes, ttl: float, **rest: Any) -> Any:
        if self.lost == "owned_keys":
            rest["owner"] = None
        result = await super().move(key, new_key, b"" if self.lost == "load" else data, ttl, **rest)
        if self.lost in {"delete", "move"}:
            await self.inner.delete(new_key)
        return None if self.lost == "move" else result


@pytest.mark.parametrize("lost", ["move", "owned_keys", "touch", "load"])
async def test_a_storage_that_confirms_and_does_not_keep_is_found_out(lost: str) -> None:
    storage = Forgetful()
    storage.lost = lost
    with pytest.raises(StorageError, match=rf"{lost}\(\) did not find"):
        await store_on(storage).check()


async def test_the_lists_leave_the_probe_out(lab: Lab) -> None:
    await lab.store.create({"n": 1}, owner="ada")
    await lab.storage.create(f"session:0{PROBE_SUFFIX}", b"", 60, owner="session:ada")
    assert len(await lab.store.sessions_of("ada")) == 1


# -- start


async def test_start_only_logs_what_check_raises_of_a_storage_without_writes(caplog: pytest.LogCaptureFixture) -> None:
    for call in ("open", "create", "move"):
        storage = SpyStorage()
        caplog.clear()
        with storage.fail(call, error=WritesRefused("this server is a replica")), caplog.at_level(logging.ERROR):
            async with store_on(storage) as store:
                [record] = caplog.records
                assert record.levelname == "ERROR"
                assert "takes no writes" in record.getMessage()
                assert "this server is a replica" in record.getMessage()
                if call != "open":
                    with pytest.raises(WritesRefused, match="a replica"):
                        await store.check()


@pytest.mark.parametrize("error", [StorageUnavailable("away"), StorageError("no right"), OSError("no route")])
@pytest.mark.parametrize("call", ["open", "check", "replace"])
async def test_any_other_error_stops_the_start_and_closes_the_storage(call: str, error: Exception, lab: Lab) -> None:
    with lab.storage.fail(call, error=error), pytest.raises(StorageError) as caught:
        await lab.store.start()
    assert lab.calls[-1] == "aclose"
    assert error in (caught.value, caught.value.__cause__)
    assert [event.detail for event in lab.events] == [f"{call}: {type(error).__name__}"]


def closings(storage: SpyStorage) -> int:
    return storage.calls.count("aclose")


async def test_the_last_of_several_blocks_that_overlap_closes_the_storage() -> None:
    storage = SpyStorage()
    store = store_on(storage)
    await store.start()
    async with store:  # as an adapter does
        async with store:  # a job in the same process
            await store.purge_expired()
        for start in (store.start, store.__aenter__):
            with storage.fail("open"), pytest.raises(StorageUnavailable):
                await start()
        assert closings(storage) == 0
    assert closings(storage) == 1
    await store.create()  # which opens the storage
    await store.aclose()
    assert closings(storage) == 2
    async with store:
        await store.aclose()  # closes it inside the block
        assert closings(storage) == 3
    with anyio.CancelScope() as scope:
        async with store:
            scope.cancel()
            await anyio.sleep_forever()
    assert closings(storage) == 5


async def test_blocks_in_other_event_loops_count_until_they_or_their_loops_have_ended() -> None:
    storage, loops = SpyStorage(), list[object]()  # kept, so that weak references to them stay
    store = store_on(storage)

    async def job() -> None:
        async with store:
            await store.purge_expired()

    async def end_inside() -> None:
        loops.append(event_loop())
        await store.__aenter__()

    async with store:
        for backend in ("asyncio", "trio"):
            for work in (job, end_inside):
                await anyio.to_thread.run_sync(partial(anyio.run, work, backend=backend))
        assert closings(storage) == 0
    assert closings(storage) == 1


async def test_a_block_that_begins_while_another_one_closes_the_storage_finds_it_open() -> None:
    class Slow(MemoryStorage):
        capabilities = MemoryStorage.capabilities | {Opens}
        is_open = False

        async def open(self) -> None:
            self.is_open = True

        async def aclose(self) -> None:
            closing.set()
            await anyio.sleep(0.05)
            self.is_open = False

    async def first() -> None:
        async with store:
            pass

    storage, closing = Slow(), anyio.Event()
    store = store_on(storage)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await closing.wait()
        async with store:
            await anyio.sleep(0.1)
            assert storage.is_open
    assert not storage.is_open


async def test_a_failing_storage_around_memory_is_opened_and_checked() -> None:
    storage = FailingStorage(MemoryStorage())
    with storage.fail("open"), pytest.raises(StorageUnavailable):
        await store_on(storage).start()
    async with store_on(storage):
        assert {*CHECK, "open"} == {*storage.calls} - {"aclose"}


@contextmanager
def no_more_files(left: int) -> Generator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, limits[1]))
    with ExitStack() as rest:
        rest.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        files = list[BinaryIO]()
        with suppress(OSError):
            while True:
                files.append(rest.enter_context(Path(os.devnull).open("rb")))
        for _ in range(left):
            files.pop().close()
        yield


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("url", "left"),
    [
        *(("sqlite:///{}/s.db", left) for left in range(5)),
        ("redis://127.0.0.1:1", 0),
        ("postgresql://u@127.0.0.1:1/db", 0),
    ],
)
async def test_the_error_names_a_process_that_may_open_no_more_files(url: str, left: int, tmp_path: Path) -> None:
    store = store_on(storage_from_url(url.format(tmp_path)))
    for _ in range(2):  # in the second round, the SQLite file exists
        with no_more_files(left), pytest.raises(StorageUnavailable, match="raise its limit"):
            await store.create()
        (tmp_path / "s.db").touch()
    await store.aclose()


# -- SQLite


def start_in_a_process(path: Path, *arguments: str, before: str = "", root: bool = False) -> str:
    """Start a store on this file in another process, which stays root only if `root`; return what it prints."""
    command = [sys.executable, str(WORKER), str(path), *arguments]
    if before:
        command = ["unshare", "--mount", "--map-root-user", "sh", "-c", f'{before} && exec "$@"', "sh", *command]
    environment = ENVIRONMENT | ({"STAY_ROOT": "1"} if root else {})
    with forking():
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.fixture
def folder() -> Generator[Path]:
    """A folder that every user may enter and write; pytest's own may be entered by one user only."""
    with tempfile.TemporaryDirectory(prefix="sessioncore-") as name:
        Path(name).chmod(0o777)
        yield Path(name)


def made(path: Path) -> Path:
    """Create an SQLite storage at `path` that every user may write."""

    async def make() -> None:
        async with store_on(SQLiteStorage(path)) as store:
            await store.create({"n": 1})

    anyio.run(make)
    for file in path.parent.glob(f"{path.name}*"):
        file.chmod(0o666)
    return path


def test_a_file_that_may_be_written_starts(folder: Path) -> None:
    assert start_in_a_process(made(folder / "sessions.db"), "create") == "started"


@pytest.mark.parametrize(("exists", "sealed"), [(True, ""), (True, "."), (False, "."), (True, "-shm")])
def test_what_may_only_be_read_stops_the_start(folder: Path, exists: bool, sealed: str) -> None:
    path = folder / "sessions.db"
    if exists:
        made(path)
    place = folder if sealed == "." else Path(f"{path}{sealed}")
    place.touch()
    place.chmod(0o555)
    said = start_in_a_process(path)
    assert said.startswith("StorageError: this process may not write")
    assert "make these files and their folder writable" in said
    if not sealed:
        assert list(folder.iterdir()) == [path], "new -wal and -shm files would keep out processes that may write"


def _mounts() -> bool:
    command = ["unshare", "--mount", "--map-root-user", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, check=False).returncode == 0


MOUNTS = pytest.mark.skipif(not _mounts(), reason="this machine lets no test mount a file system of its own")


@MOUNTS
def test_a_read_only_disk_stops_the_start(folder: Path) -> None:
    path = made(folder / "sessions.db")
    said = start_in_a_process(
        path, before=f"mount --bind {folder} {folder} && mount -o remount,ro,bind {folder}", root=True
    )
    assert said.startswith("StorageError: this process may not write")
    assert "mounted read-only" in said


@MOUNTS
@pytest.mark.parametrize("size", ["32k", "72k"])
def test_a_full_disk_is_logged_and_start_goes_on(folder: Path, size: str) -> None:
    """The first disk has no room for the table, the second one has none for a session."""
    said = start_in_a_process(
        folder / "sessions.db", "create", before=f"mount -t tmpfs -o size={size} tmpfs {folder}", root=True
    )
    assert f"WritesRefused: the disk of {folder}/sessions.db is full" in said


@pytest.mark.parametrize("change", ["DROP TABLE records", "ALTER TABLE records DROP COLUMN version"])
async def test_a_missing_table_or_column_stops_the_start(tmp_path: Path, change: str) -> None:
    path = tmp_path / "sessions.db"
    async with store_on(SQLiteStorage(path)):
        pass
    with closing(sqlite3.connect(path)) as other:
        other.execute(change)
    with pytest.raises(StorageError, match=r"no such (table|column)|has no column"):
        await store_on(SQLiteStorage(path)).start()
    storage = SQLiteStorage(path)
    with pytest.raises(StorageError, match=r"no such (table|column)"):
        await storage.migrate()
    await storage.aclose()
