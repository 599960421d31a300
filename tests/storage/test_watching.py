"""Watching SQLite and PostgreSQL: changes by other processes, what it costs, and what goes wrong."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from servers.postgres_server import PostgresServer
from tests.forks import forking
from tests.numbers import scaled
from tests.processes import ENVIRONMENT
from tests.storage.postgres_rigs import opened, proxied, table_of
from tests.storage.rigs import record_at

from sessioncore import SQLiteStorage, StorageUnavailable
from sessioncore.storage import Stored
from sessioncore.storage._url import storage_from_url

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

SHORT = timedelta(seconds=0.5)
WORKER = Path(__file__).with_name("watching_worker.py")


@asynccontextmanager
async def another_process(url: str) -> AsyncGenerator[Callable[[str, str], Awaitable[None]]]:
    """A function that changes a record in another process, and returns when that is done."""
    with forking("sessioncore.storage.postgres", "sessioncore.storage.redis"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(WORKER), url, env=ENVIRONMENT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
    into, out = process.stdin, process.stdout
    assert into is not None
    assert out is not None

    async def change(how: str, key: str) -> None:
        into.write(f"{how} {key}\n".encode())
        assert await out.readline() == b"done\n"

    yield change
    into.close()
    assert await process.wait() == 0


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_each_change_by_another_process_is_reported_before_confirm_returns(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    is_sqlite = kind == "sqlite"
    url = f"sqlite:///{tmp_path}/sessions.db" if is_sqlite else request.getfixturevalue("postgres").dsn()
    storage: Any = storage_from_url(url)
    await storage.open()
    await storage.clear("told:")
    told: list[str] = []
    ways = ["replace", "delete", "0", "1000"]  # the numbers are moves, with and without a tombstone
    keys = {f"told:{number}": ways[number % 4] for number in range(scaled(1000))}
    for key in keys:
        assert await storage.create(key, b"data", 1000) is not None
    await storage.watch(list(keys), told.append)
    async with another_process(url) as change:
        for number, (key, how) in enumerate(keys.items()):
            assert len(told) == number
            await change(how, key)
            await storage.confirm()
            assert told[number:] == [key]
    await storage.confirm()
    assert told == list(keys)
    assert await storage.clear("told:") == len(keys) * 3 // 4
    await storage.aclose()


async def test_postgres_runs_one_statement_per_10_000_watched_keys_and_none_for_none(postgres: PostgresServer) -> None:
    async with (
        proxied(postgres, max_connections=1) as (storage, proxy),
    ):
        keys = [f"{number}" for number in range(10_001)]
        changed: Any = keys.append
        await storage.watch(keys[:1], changed)
        await storage.confirm()  # prepares the statement
        for watched, statements in ((10_000, 1), (10_001, 2)):
            await storage.watch(keys[:watched], changed)
            before = proxy.waits
            await storage.confirm()
            assert proxy.waits - before == statements
        for key in keys:
            storage.unwatch(key, changed)
        before = proxy.waits
        await storage.confirm()
        assert proxy.waits == before


async def test_sqlite_asks_an_unchanged_file_once_and_compares_after_any_change(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    storage, other = SQLiteStorage(path), SQLiteStorage(path)
    asked: list[str] = []
    told: list[str] = []
    await storage.create("a", b"data", 1000)
    await storage._file.read(lambda connection: connection.set_trace_callback(asked.append))  # pyright: ignore[reportPrivateUsage]

    async def confirmed() -> list[str]:
        asked.clear()
        await storage.confirm()
        return [sql.split()[0] for sql in asked]

    assert await confirmed() == []
    await storage.watch(["a"], told.append)
    assert await confirmed() == ["PRAGMA", "SELECT"]
    assert await confirmed() == ["PRAGMA"]
    for key, writer in (("b", storage), ("c", other)):
        assert await writer.create(key, b"data", 1000) is not None
        assert await confirmed() == ["PRAGMA", "SELECT"]
        assert await confirmed() == ["PRAGMA"]
    await storage.watch([f"{number}" for number in range(500)], told.append)
    await other.delete("a")
    assert await confirmed() == ["PRAGMA", "SELECT", "SELECT"]  # one for each 500 keys
    assert told == ["a"]
    for number in range(500):
        storage.unwatch(f"{number}", told.append)
    assert await confirmed() == []
    for each in (storage, other):
        await each.aclose()


async def test_a_silent_server_is_unavailable_and_what_happened_meanwhile_is_reported(postgres: PostgresServer) -> None:
    told: list[str] = []
    async with (
        opened(postgres.dsn()) as other,
        proxied(postgres, table=table_of(other), timeout=SHORT) as (storage, proxy),
    ):
        await other.create("a", b"data", 1000)
        await storage.watch(["a"], told.append)
        await storage.confirm()
        proxy.swallow = True
        assert await other.delete("a") == 1
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                await storage.confirm()
        assert told == []
        proxy.swallow = False
        await storage.confirm()
        assert told == ["a"]


async def test_a_file_that_is_gone_is_unavailable_and_what_happened_while_it_was_closed_is_reported(
    tmp_path: Path,
) -> None:
    path, told = tmp_path / "sessions.db", list[str]()
    storage, other = SQLiteStorage(path), SQLiteStorage(path)
    for key in "ab":
        await other.create(key, b"data", 1000)
    await storage.watch(["a", "b"], told.append)
    await storage.confirm()
    await storage.aclose()
    await other.delete("a")
    await storage.confirm()  # opens the file again
    assert told == ["a"]
    aside = path.rename(tmp_path / "aside.db")
    for _ in range(2):
        with pytest.raises(StorageUnavailable, match="removed or replaced"):
            await storage.confirm()
    aside.rename(path)
    await storage.confirm()
    assert told == ["a"]
    await other.delete("b")
    await storage.confirm()
    assert told == ["a", "b"]
    for each in (storage, other):
        await each.aclose()


async def test_a_change_between_look_and_watch_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, told = SQLiteStorage(tmp_path / "sessions.db"), list[str]()
    read, looked, go_on = storage.load_many, asyncio.Event(), asyncio.Event()

    async def slow(keys: Any) -> Any:
        answer = await read(keys)
        looked.set()
        await go_on.wait()
        return answer

    await storage.create("a", b"data", 1000)
    await storage.watch(["other"], told.append)
    monkeypatch.setattr(storage, "load_many", slow)
    watch = asyncio.create_task(storage.watch(["a"], told.append))
    await looked.wait()
    assert await storage.delete("a") == 1
    await storage.confirm()
    go_on.set()
    [found] = await watch
    assert isinstance(found, Stored)
    await storage.confirm()
    assert told == ["a"]
    await storage.aclose()


async def test_a_comparison_that_was_cancelled_is_made_again(tmp_path: Path) -> None:
    storage, told = SQLiteStorage(tmp_path / "sessions.db"), list[str]()
    await storage.create("a", b"data", 1000)
    for turn in range(20):
        if turn % 2 == 0:
            await storage.watch(["a"], told.append)
        await storage.confirm()
        found = await record_at(storage, "a")
        await storage.replace("a", b"new", 1000, version=found.version)
        confirm = asyncio.create_task(storage.confirm())
        for _ in range(turn):
            await asyncio.sleep(0)
        confirm.cancel()
        await asyncio.wait([confirm])
    await storage.confirm()
    assert told == ["a"] * 10
    await storage.aclose()
