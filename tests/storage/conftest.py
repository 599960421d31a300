"""The event loops that the storages run on, and the servers that only these tests share."""

from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any, cast

import pytest
from servers.postgres_server import PostgresServer
from servers.redis_server import Server, cluster
from tests.storage.postgres_rigs import new_table, way_to
from tests.stores import SpyStorage

from sessioncore import MemoryStorage, SQLiteStorage, Storage
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.storage.redis import RedisStorage


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests that need no server on both event loops; the servers' drivers support asyncio only."""
    test = metafunc.definition
    module = cast("Any", metafunc).module
    chosen = hasattr(module, "anyio_backend") or any(
        "anyio_backend" in mark.args[0] for mark in test.iter_markers("parametrize")
    )
    of_a_server = test.get_closest_marker("redis") or test.get_closest_marker("postgres")
    if "anyio_backend" in metafunc.fixturenames and not chosen and not of_a_server:
        metafunc.parametrize("anyio_backend", ["asyncio", "trio"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a SQLite file that does not exist yet."""
    return tmp_path / "sessions.db"


@pytest.fixture
async def storage(request: pytest.FixtureRequest) -> AsyncGenerator[Storage]:
    """One of `rigs.KINDS`, with no session in it."""
    given = request.getfixturevalue
    kinds: dict[str, Callable[[], Any]] = {
        "memory": MemoryStorage,
        "spy": SpyStorage,
        "sqlite": lambda: SQLiteStorage(given("path")),
        "redis": lambda: RedisStorage.from_url(given("server").url),
        "redis-cluster": lambda: RedisStorage.from_url(f"redis+cluster://127.0.0.1:{given('nodes')[0].port}"),
        "postgres": lambda: PostgresStorage(given("postgres").dsn(), table=new_table()),
    }
    made = kinds[request.param]()
    if request.param == "redis":
        given("emptied")
    yield made
    await made.aclose()


@pytest.fixture
def emptied(server: Server) -> None:
    server.do("FLUSHALL")


@pytest.fixture(scope="session")
def running_nodes() -> Generator[list[Server]]:
    with cluster() as nodes:
        yield nodes


@pytest.fixture
def nodes(running_nodes: list[Server]) -> list[Server]:
    """The masters of a cluster, all empty."""
    for node in running_nodes:
        node.do("FLUSHALL")
    return running_nodes


@pytest.fixture(params=["one server", "cluster"])
def servers(request: pytest.FixtureRequest) -> list[Server]:
    """One server, or the masters of a cluster, all empty."""
    if request.param == "cluster":
        return cast("list[Server]", request.getfixturevalue("nodes"))
    request.getfixturevalue("emptied")
    return [request.getfixturevalue("server")]


@pytest.fixture(scope="module", params=["direct", "transaction", "session"])
def postgres_dsn(request: pytest.FixtureRequest, postgres: PostgresServer) -> Generator[str]:
    """A DSN of the server: direct, or through a pgbouncer in transaction or session mode."""
    with way_to(postgres, request.param) as dsn:
        yield dsn
