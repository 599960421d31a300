"""What happens to the file while the process runs: another folder, another file, another process that holds it."""

import os
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from sessioncore import SessionConfig, SessionNotFound, SessionStore, SQLiteStorage, StorageUnavailable
from sessioncore.storage import WritesRefused

pytestmark = pytest.mark.anyio

LIMIT = 0.3


@asynccontextmanager
async def store_at(path: Path | str, seconds: float = 5) -> AsyncGenerator[SessionStore]:
    config = SessionConfig(storage=SQLiteStorage(path), storage_timeout=timedelta(seconds=seconds))
    async with SessionStore(config) as store:
        yield store


@pytest.mark.parametrize("is_link", [False, True])
async def test_a_relative_path_keeps_its_place(is_link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if is_link:  # SQLite keeps the -wal file beside the file that the link leads to
        (tmp_path / "sessions.db").symlink_to("elsewhere.db")
    storage = SQLiteStorage("sessions.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    await storage.create("a", b"", 1000)
    await storage.aclose()
    assert await storage.load("a") is not None
    await storage.aclose()
    assert not list((tmp_path / "elsewhere").iterdir())


# -- a file that is removed or replaced

CALLS: dict[str, Callable[[SessionStore, str], Awaitable[object]]] = {
    "load": lambda store, sid: store.get_by_id(sid),
    "create": lambda store, sid: store.create({"n": 2}),
    "delete": lambda store, sid: store.delete(sid),
    "sessions_of": lambda store, sid: store.sessions_of("ada"),
    "check": lambda store, sid: store.check(),
}


def renamed(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


def removed(path: Path, beside: str = "") -> None:
    Path(f"{path}{beside}").unlink()


def replaced(path: Path) -> None:
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE theirs (n)")
    os.replace(other, path)  # noqa: PTH105 - as when a backup is restored


@pytest.mark.parametrize("change", [removed, replaced, *(partial(removed, beside=end) for end in ("-wal", "-shm"))])
@pytest.mark.parametrize("call", CALLS)
async def test_the_error_of_a_lost_file_says_what_to_do(path: Path, call: str, change: Callable[[Path], None]) -> None:
    async with store_at(path) as store:
        sid = (await store.create({"n": 1}, owner="ada")).id
        change(path)
        for _ in range(2):
            with pytest.raises(StorageUnavailable, match="was removed or replaced while it was in use"):
                await CALLS[call](store, sid)


async def test_a_file_that_comes_back_goes_on(path: Path) -> None:
    async with store_at(path) as store:
        sid = (await store.create({"n": 1})).id
        aside = renamed(path, "aside.db")
        with pytest.raises(StorageUnavailable):
            await store.get_by_id(sid)
        renamed(aside, path.name)
        assert (await store.get_by_id(sid))["n"] == 1
        await store.create({"n": 2})


async def test_a_restart_begins_a_new_file_beside_what_the_old_one_left(path: Path) -> None:
    async with store_at(path) as store:
        sid = (await store.create({"n": 1})).id
        removed(path)
    assert [file.name for file in path.parent.glob("*-wal")] == ["sessions.db-wal"]
    async with store_at(path) as store:
        with pytest.raises(SessionNotFound):
            await store.get_by_id(sid)
        again = await store.create({"n": 2})
        assert (await store.get_by_id(again.id))["n"] == 2


async def test_a_write_during_which_the_file_is_removed_is_not_confirmed(path: Path) -> None:
    storage = SQLiteStorage(path)
    await storage.open()

    def remove_while_it_runs(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM records")
        path.unlink()

    with pytest.raises(StorageUnavailable, match="removed or replaced"):
        await storage._file.write(remove_while_it_runs)  # pyright: ignore[reportPrivateUsage] - no caller can time it so
    await storage.aclose()


async def test_a_file_is_created_once_by_a_process(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To open and close it again would drop the locks of connections that use it, and so their -wal file."""
    created: list[object] = []

    def slow(*arguments: Any) -> int:
        created.append(arguments)
        time.sleep(0.1)  # long enough for the other storage to look as well, if nothing prevents it
        return real(*arguments)

    real = os.open
    monkeypatch.setattr(os, "open", slow)
    one, other = SQLiteStorage(path), SQLiteStorage(path)
    async with aclosing(one), aclosing(other), anyio.create_task_group() as tasks:
        tasks.start_soon(one.open)
        tasks.start_soon(other.open)
    assert len(created) == 1


# -- a file that another process holds


@contextmanager
def held(path: Path, *, for_reading_too: bool) -> Generator[None]:
    """Hold the file as another process does: a connection of its own, in one transaction."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        if for_reading_too:  # as a process does if it sets this pragma, or runs VACUUM without WAL
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE records SET owner = owner")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize("call", ["create", "delete", "check"])
async def test_a_held_file_costs_storage_timeout_and_not_busy_timeout(path: Path, call: str) -> None:
    async with store_at(path, LIMIT) as store:
        sid = (await store.create({"n": 1})).id
        with held(path, for_reading_too=False):
            assert (await store.get_by_id(sid))["n"] == 1, "readers do not wait for a writer"
            begin = time.monotonic()
            with pytest.raises(StorageUnavailable):
                await CALLS[call](store, sid)
            assert LIMIT * 0.9 < time.monotonic() - begin < LIMIT + 2
        await store.create({"n": 2})


@pytest.mark.parametrize(("busy", "limit", "for_reading_too"), [(0.1, 5, False), (0.1, 5, True), (4, 3, False)])
async def test_a_held_file_does_not_stop_the_start(
    path: Path, busy: float, limit: float, for_reading_too: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten workers that start together on a slow disk hold the file in turn, for longer than a request waits."""
    async with store_at(path) as store:
        sid = (await store.create({"n": 1})).id
    storage = SQLiteStorage(path, busy_timeout=timedelta(seconds=busy))
    with held(path, for_reading_too=for_reading_too):
        store = SessionStore(SessionConfig(storage=storage, storage_timeout=timedelta(seconds=limit)))
        await store.start()
        assert "another process holds" in caplog.text
        with pytest.raises(WritesRefused):
            await store.check()
    async with store:
        assert (await store.get_by_id(sid))["n"] == 1


async def test_a_call_waits_as_long_as_it_may_and_not_as_long_as_another(path: Path) -> None:
    async def in_vain(seconds: float) -> None:
        with pytest.raises(StorageUnavailable), anyio.fail_after(seconds):
            await storage.delete("a")

    async with aclosing(SQLiteStorage(path)) as storage, anyio.create_task_group() as tasks:
        await storage.open()
        with held(path, for_reading_too=False):
            async with anyio.create_task_group() as short:
                short.start_soon(in_vain, 1.5)  # it gives up after nine tenths of that: the rest is for a busy machine
                await anyio.wait_all_tasks_blocked()
                short.start_soon(in_vain, 2.5)  # it waits for the first one, and is in one batch with the next
                tasks.start_soon(storage.delete, "a")


async def test_calls_that_wait_together_end_together(path: Path) -> None:
    async with store_at(path, LIMIT) as store:
        failed: list[float] = []

        async def write() -> None:
            with pytest.raises(StorageUnavailable):
                await store.create({"n": 1})
            failed.append(time.monotonic() - begin)

        with held(path, for_reading_too=False):
            begin = time.monotonic()
            async with anyio.create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(write)
        assert len(failed) == 50
        assert max(failed) < 10 * LIMIT  # one after another they would take 50


async def test_a_call_with_more_time_goes_on_when_another_ones_time_is_up(path: Path) -> None:
    storage = SQLiteStorage(path)
    await storage.create("a", b"", 1000)
    results: dict[str, object] = {}

    async def write(key: str, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            try:
                results[key] = await storage.create(key, b"", 1000)
            except StorageUnavailable as error:
                results[key] = error
        results.setdefault(key, None)  # it was cancelled while it waited for its turn

    async with anyio.create_task_group() as tasks:
        with held(path, for_reading_too=False):
            tasks.start_soon(write, "hasty", 0.1)
            tasks.start_soon(write, "patient", 10)
            with anyio.fail_after(5):
                while "hasty" not in results:
                    await anyio.lowlevel.checkpoint()
    assert results["hasty"] is None or isinstance(results["hasty"], StorageUnavailable)
    assert isinstance(results["patient"], int)
    assert await storage.load("hasty") is None
    await storage.aclose()


@pytest.mark.parametrize("opened", [True, False])
async def test_readers_and_openers_of_a_locked_file_wait_as_long_as_they_may(path: Path, opened: bool) -> None:
    async with aclosing(SQLiteStorage(path)) as before:
        await before.create("a", b"", 1000)
    storage = SQLiteStorage(path)
    store = SessionStore(SessionConfig(storage=storage, storage_timeout=timedelta(seconds=LIMIT)))
    if opened:
        await storage.open()
        # The lock is exclusive once this process has no connection that reads.
    with held(path, for_reading_too=not opened):
        begin = time.monotonic()
        with pytest.raises(StorageUnavailable):
            await store.create({"n": 1})
        assert LIMIT * 0.9 < time.monotonic() - begin < LIMIT + 2
    await store.create({"n": 1})
    await storage.aclose()
