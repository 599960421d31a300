"""The real Redis servers that many files test against, one after another."""

from collections.abc import Generator

import pytest
from servers.redis_server import Server, cluster, one_server


@pytest.fixture(scope="session")
def server() -> Generator[Server]:
    with one_server() as server:
        yield server


@pytest.fixture
def emptied(server: Server) -> None:
    server.do("FLUSHALL")


@pytest.fixture(scope="session")
def nodes() -> Generator[list[Server]]:
    with cluster() as nodes:
        yield nodes
