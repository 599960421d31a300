"""What every test runs under: event loops, servers, and asserts that explain themselves.

Our code may neither block an event loop nor log an ID.
"""

import functools
import gc
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import redis.utils
from _pytest.runner import runtestprotocol
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings
from servers.postgres_server import PostgresServer, postgres_server
from servers.redis_server import Server, one_server
from tests.numbers import scaled

# redis-py reads its own version from a file whenever it makes a connection.
redis.utils.get_lib_version = functools.partial(str, version("redis"))
# asyncpg prepares for TLS whenever it makes a connection, unless it is told not to; see test_postgres.py.
os.environ["PGSSLMODE"] = "disable"
# httpx and aiohttp read all authorities that the machine trusts, httpx for each client: here it trusts none but this.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("authority.pem"))
# Temporary files go to memory if it has room: creating a file on a disk takes several times as long.
if "TMPDIR" not in os.environ and Path("/dev/shm").is_dir() and shutil.disk_usage("/dev/shm").free > 4 << 30:
    os.environ["TMPDIR"] = tempfile.tempdir = "/dev/shm"

pytest.register_assert_rewrite("sessioncore.testing")
pytest_plugins = ["tests.kit"]

# A slow example is not a failure: the machine may be busy with something else.
settings.register_profile(
    "patient", max_examples=scaled(100), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Exempt everything that was imported from garbage collection, and let the collector run less often.

    With Python's defaults it takes a tenth of the suite's time. Tests that depend on it call `gc.collect`.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()
        gc.set_threshold(10_000)


@pytest.hookimpl
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Let a worker of xdist report each test once; setup and teardown only if they do not pass.

    xdist's usual five messages for each test take as long as many of the tests. -v, --durations and --junitxml get all.
    """
    option: Any = item.config.option
    more = option.verbose > 0 or option.durations is not None or getattr(option, "xmlpath", None)
    if more or not hasattr(item.config, "workerinput"):
        return None
    for report in runtestprotocol(item, nextitem=nextitem, log=False):
        if report.when == "call" or not report.passed:
            item.ihook.pytest_runtest_logreport(report=report)
    return True


@pytest.fixture(scope="session")
def server() -> Generator[Server]:
    """A Redis server for all tests of a process."""
    with one_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Generator[PostgresServer]:
    """A server for all tests of a process, each with its own table. Without fsync a killed server loses nothing."""
    with postgres_server(fsync="off", full_page_writes="off", jit="off", autovacuum="off") as server:
        yield server


PACKAGES = ("sessioncore", "sessioncore_asgi", "sessioncore_aiohttp", "sessioncore_litestar")
# What may block asyncio's loop, and why: the end of a path, and functions in it.
MAY_BLOCK = (
    ("storage/rigs.py", ("remaining", "make_unreadable")),  # called by the kit, to look into the storage's file
    # Our packages call none of these; naming them saves the detector a walk up the whole stack.
    ("servers/redis_server.py", ("do", "_folder")),
    ("servers/postgres_server.py", ("postgres_server",)),
    ("storage/test_redis_rights.py", ("furnish", "world", "meaning")),
    ("tests/threads.py", ("trace",)),  # lets another thread overtake this one
    ("sqlite/_storage.py", ("__init__",)),  # asks for the working directory, and for no file
    ("<frozen importlib._bootstrap>", ("_find_and_load",)),  # an import reads files, once
    ("jinja2/loaders.py", ("get_source", "uptodate")),  # the example shop's templates, on the shop's side
    ("asyncpg/connect_utils.py", ("_parse_connect_arguments",)),  # asyncpg reads ~/.pgpass and certificates to connect
)


@pytest.fixture(scope="session", autouse=True)
def no_blocking_calls() -> Iterator[BlockBuster]:
    """Make our code raise BlockingError if it sleeps, waits for a lock, or uses files or sockets in asyncio's loop.

    A test may block the loop itself: some read a storage's file directly.
    """
    detector = BlockBuster([*PACKAGES])
    if sys.gettrace() is not None:  # coverage takes a lock of its own inside the functions that it measures
        del detector.functions["threading.Lock.acquire"]
    for function in detector.functions.values():
        for path, callers in MAY_BLOCK:
            function.can_block_in(path, callers)
    detector.activate()
    yield detector
    detector.deactivate()


AN_ID = re.compile(r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[a-z])(?=[\w-]*[A-Z])[\w-]{43}(?![\w-])", re.ASCII)


class Log(logging.Handler):
    """Keeps what is logged, tracebacks included, as a log file would."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def ids(self) -> list[str]:
        return [line for line in self.lines if AN_ID.search(line)]


@pytest.fixture(autouse=True)
def no_id_in_a_log() -> Iterator[Log]:
    """Fail each test during which the library logs anything that looks like one of its IDs."""
    log = Log()
    logging.getLogger("sessioncore").addHandler(log)
    yield log
    logging.getLogger("sessioncore").removeHandler(log)
    assert log.ids() == []
