"""Two processes on one database, by URL: nothing is lost, and what is ended stays ended."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from servers.postgres_server import PostgresServer
from servers.redis_server import Server
from tests.forks import forking
from tests.numbers import scaled
from tests.processes import ENVIRONMENT
from tests.storage.postgres_rigs import connection

from sessioncore import SessionConfig, SessionNotFound, SessionStore
from sessioncore.storage._url import storage_from_url

pytestmark = [pytest.mark.anyio, pytest.mark.redis, pytest.mark.postgres]

WORKER = Path(__file__).with_name("session_worker.py")


@pytest.fixture(params=["sqlite", "redis", "postgresql"])
def url(request: pytest.FixtureRequest, path: Path, server: Server, postgres: PostgresServer) -> str:
    return {"sqlite": f"sqlite:///{path}", "redis": server.url, "postgresql": postgres.dsn()}[request.param]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for all tests that share the processes."""
    return "asyncio"


@pytest.fixture(scope="module")
async def processes() -> AsyncGenerator[list[asyncio.subprocess.Process]]:
    """Two processes that do one job after another."""
    pipe = asyncio.subprocess.PIPE
    with forking("sessioncore.storage.postgres", "sessioncore.storage.redis"):
        started = [
            await asyncio.create_subprocess_exec(
                sys.executable, str(WORKER), f"process-{number}", env=ENVIRONMENT, stdin=pipe, stdout=pipe, stderr=pipe
            )
            for number in range(2)
        ]
    yield started
    for process in started:
        await process.communicate(b"")


async def say(process: asyncio.subprocess.Process, line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    await process.stdin.drain()


async def hear(process: asyncio.subprocess.Process, line: str) -> None:
    assert process.stdout is not None
    if await process.stdout.readline() != f"{line}\n".encode():
        _, error = await process.communicate(b"")
        raise AssertionError(error.decode())


async def run_together(processes: list[asyncio.subprocess.Process], url: str, ids: list[str], *jobs: str) -> None:
    for process, job in zip(processes, jobs, strict=True):
        await say(process, f"{job} {url} {' '.join(ids)}")
        await hear(process, "ready")
    for process in processes:
        await say(process, "")
    await asyncio.gather(*(hear(process, "done") for process in processes))


@asynccontextmanager
async def store_at(url: str) -> AsyncGenerator[SessionStore, None]:
    async with SessionStore(SessionConfig(storage=storage_from_url(url))) as store:
        await store.reset()
        yield store


@pytest.mark.proves("P4", "AT-43", "AT-44")
async def test_parallel_writes_and_increments_are_kept(url: str, processes: list[asyncio.subprocess.Process]) -> None:
    async with store_at(url) as store:
        session = await store.create({"count": 0})
        await run_together(processes, url, [session.id], "write", "write")
        kept = dict(await store.get_by_id(session.id))
        assert kept.pop("count") == 50
        assert set(kept) == {f"process-{name}-{number}" for name in range(2) for number in range(25)}


@pytest.mark.proves("P2", "AT-39", "AT-118", "ASVS 7.4.1")
@pytest.mark.slow
async def test_of_a_thousand_logouts_none_is_undone(url: str, processes: list[asyncio.subprocess.Process]) -> None:
    async with store_at(url) as store:
        ids: list[str] = []
        for _ in range(scaled(1000)):
            ids.append((await store.create({"first": 1}, owner="u")).id)
        await run_together(processes, url, ids, "use", "log_out")
        assert await store.sessions_of("u") == []
        for sid in ids:
            with pytest.raises(SessionNotFound):
                await store.get_by_id(sid)
        assert await store.reset() == 0


@pytest.mark.proves("P6", "AT-136")
async def test_postgres_and_its_log_never_see_a_raw_id(postgres: PostgresServer) -> None:
    async with connection(postgres.dsn()) as plain:
        await plain.execute("ALTER SYSTEM SET log_statement = 'all'")
        await plain.execute("SELECT pg_reload_conf()")
        try:
            async with store_at(postgres.dsn()) as store:
                session = await store.create({"k": "v"}, owner="u")
                sid = session.id
                async with store.open(sid) as again:
                    again["k"] = "w"
                    await again.login("u")
                    ids = [sid, again.id]
                rows = await plain.fetch(
                    "SELECT encode(key, 'escape') || encode(data, 'escape') FROM sessioncore_sessions"
                )
                logged = postgres.log.read_text()
                assert "sessioncore_sessions" in logged
                assert session.handle.encode().hex() in logged, "the log was read too early, or has no statements"
                for raw in ids:
                    assert raw not in logged
                    assert raw.encode().hex() not in logged
                    assert not any(raw in row[0] for row in rows)
                assert await store.delete(ids[-1])
        finally:
            await plain.execute("ALTER SYSTEM RESET log_statement")
            await plain.execute("SELECT pg_reload_conf()")
