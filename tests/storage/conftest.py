"""The real Redis servers that many files test against: each file has its own."""

from collections.abc import Generator

import pytest
from servers.redis_server import Server, cluster, one_server


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    with one_server() as server:
        yield server


@pytest.fixture
def emptied(server: Server) -> None:
    server.do("FLUSHALL")


@pytest.fixture(scope="module")
def nodes() -> Generator[list[Server]]:
    with cluster() as nodes:
        yield nodes
