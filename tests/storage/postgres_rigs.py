"""What the tests of the PostgreSQL storage share. Each of them has a fresh table."""

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import anyio
import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no py.typed # pyright: ignore[reportMissingTypeStubs]
from servers.postgres_server import PostgresServer, pgbouncer
from tests.processes import ENVIRONMENT
from tests.tcp_proxy import Proxy, proxy_to
from tests.turns import comes_true

from sessioncore._errors import StorageUnavailable
from sessioncore.storage import Stored
from sessioncore.storage._text import bytes_of
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.storage.postgres._schema import quoted
from sessioncore.testing import Rig

# Untyped, because the library has no types and the strict checkers would complain of each use.
driver: Any = asyncpg


def new_table() -> str:
    return f"sessions_{secrets.token_hex(6)}"


def table_of(storage: PostgresStorage) -> str:
    return storage._table  # pyright: ignore[reportPrivateUsage] -- to read the table directly


@contextmanager
def way_to(server: PostgresServer, way: str) -> Generator[str]:
    """A DSN of this server, through a pgbouncer unless the way is "direct"."""
    if way == "direct":
        yield server.dsn()
    else:
        with pgbouncer(server, mode=way, pool_size=2 if way == "transaction" else 40) as dsn:
            yield dsn


@asynccontextmanager
async def connection(dsn: str) -> AsyncGenerator[Any, None]:
    """A connection of the test's own, to read and change what the storage has stored."""
    opened = await driver.connect(dsn, statement_cache_size=0)
    try:
        yield opened
    finally:
        await opened.close()


async def alter_system(plain: Any, setting: str, value: str) -> None:
    """Set a setting of the server, and wait until it holds."""
    await plain.execute(f"ALTER SYSTEM SET {setting} = {value}")
    await plain.execute("SELECT pg_reload_conf()")
    while await plain.fetchval(f"SHOW {setting}") != value:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def backends(server: PostgresServer, application: str) -> int:
    """How many connections the server has whose DSN names this application."""
    async with connection(server.dsn()) as plain:
        sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
        number: int = await plain.fetchval(sql, application)
        return number


@asynccontextmanager
async def opened(dsn: Any, **options: Any) -> AsyncGenerator[PostgresStorage, None]:
    """A storage on a fresh table."""
    async with aclosing(PostgresStorage(dsn, table=options.pop("table", None) or new_table(), **options)) as storage:
        await storage.open()
        yield storage


@asynccontextmanager
async def proxied(server: PostgresServer, **options: Any) -> AsyncGenerator[tuple[PostgresStorage, Proxy], None]:
    """A storage whose way to the server is a proxy; the DSN ends with the option `query`."""
    async with proxy_to(server.port) as proxy:
        dsn = f"postgresql://tester@127.0.0.1:{proxy.port}/postgres{options.pop('query', '')}"
        async with opened(dsn, **options) as storage:
            yield storage, proxy


@asynccontextmanager
async def postgres_rig(server: PostgresServer, dsn: Any, **options: Any) -> AsyncGenerator[Rig, None]:
    """A rig whose clock is the server's; `remaining` asks the table itself."""
    table = new_table()
    async with opened(dsn, table=table, **options) as storage, connection(server.dsn()) as plain:
        sql = (
            f"SELECT extract(epoch FROM expires_at - now())::float8 FROM {quoted(table)}"
            " WHERE key = $1 AND expires_at > now() AND moved_to IS NULL"
        )

        async def remaining(key: str) -> float | None:
            seconds: float | None = await plain.fetchval(sql, bytes_of(key))
            return seconds

        async def make_unreadable(key: str) -> None:
            await plain.execute(f"UPDATE {quoted(table)} SET expires_at = 'infinity' WHERE key = $1", bytes_of(key))

        yield Rig(storage, 0.05, anyio.sleep, remaining, make_unreadable)


class Writers:
    """Eight visitors who keep writing; `outcomes` says for each write whether it was acknowledged."""

    def __init__(self, storage: PostgresStorage) -> None:
        self.storage = storage
        self.outcomes: list[bool] = []
        self.failures: list[StorageUnavailable] = []
        self.acknowledged: list[list[str]] = [[] for _ in range(8)]
        self.ended = False

    async def write(self, mine: list[str]) -> None:
        while not self.ended:
            key = secrets.token_hex()
            try:
                assert await self.storage.create(key, b"x", 1000, owner="u") is not None
            except StorageUnavailable as exc:
                self.failures.append(exc)
                self.outcomes.append(False)
                await asyncio.sleep(0.05)
            else:
                self.outcomes.append(True)
                mine.append(key)
                await asyncio.sleep(0.01)  # meanwhile the others write

    async def until(self, outcome: bool, times: int = 30) -> None:
        """Wait until `times` more writes have had this outcome."""
        before = self.outcomes.count(outcome)
        await comes_true(lambda: self.outcomes.count(outcome) >= before + times)

    async def progress(self) -> float:
        """Wait until every visitor has written twice more; return how many seconds that took."""
        start, before = time.monotonic(), [len(some) for some in self.acknowledged]
        await comes_true(lambda: all(len(now) >= n + 2 for now, n in zip(self.acknowledged, before, strict=True)))
        return time.monotonic() - start

    async def assert_kept(self) -> None:
        """Stop writing, and check that nothing that was acknowledged is lost."""
        self.ended = True
        for key in [*chain(*self.acknowledged)]:
            assert isinstance(await self.storage.load(key), Stored)


@asynccontextmanager
async def writing(*storages: PostgresStorage) -> AsyncGenerator[list[Writers], None]:
    async with asyncio.TaskGroup() as tasks:
        all_writers = [Writers(storage) for storage in storages]
        for writers in all_writers:
            for mine in writers.acknowledged:
                tasks.create_task(writers.write(mine))
        yield all_writers
        for writers in all_writers:
            writers.ended = True


async def in_another_process(worker: str, *arguments: str) -> str:
    """Run a worker from this folder, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name(worker)), *arguments,
        env=ENVIRONMENT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()
