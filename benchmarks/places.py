"""Where sessions live during a run: memory, a file, and servers of our own in temp folders on free ports."""

import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.newer_redis import newer_redis
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from servers.postgres_server import postgres_server
from servers.redis_server import one_server

__all__ = ["Place", "Places", "one_cpu", "open_places"]


@dataclass
class Place:
    """One storage for one application; `closers` are awaited when the application stops."""

    name: str
    url: str = ""
    folder: Path = Path()
    closers: list[Callable[[], Awaitable[Any]]] = field(default_factory=list)

    def redis(self) -> Any:
        """Return a client of redis-py with its defaults, for contenders that want one."""
        client: Any = Redis.from_url(self.url)
        self.closers.append(client.aclose)
        return client


@dataclass
class Places:
    """The servers of a run."""

    redis_port: int
    dsn: str
    folder: Path
    newer_port: int = 0  # of the stand-in for Redis 8; 0: there is none
    made: int = 0

    def place(self, name: str, url: str = "") -> Place:
        """Return a place of this kind; each SQLite place is a file of its own."""
        self.made += 1
        if name in {"redis", "redis-near"}:
            url = url or f"redis://127.0.0.1:{self.redis_port}/0"
        elif name == "redis-8":
            url = url or f"redis://127.0.0.1:{self.newer_port}/0"
        elif name == "postgres":
            url = url or self.dsn
        elif name == "sqlite":
            url = url or str(self.folder / f"sessions-{self.made}.db")
        return Place(name, url, self.folder)

    @property
    def postgres_port(self) -> int:
        return int(self.dsn.rpartition(":")[2].partition("/")[0])

    def offers(self, name: str) -> bool:
        """Return whether this kind of place is available here."""
        return (name != "redis-8" or self.newer_port > 0) and (name != "postgres" or bool(self.dsn))

    def flush_redis(self) -> None:
        """Empty the server, which is this run's own."""
        with SyncRedis(port=self.redis_port) as client:
            client.flushall()

    def redis_size(self) -> int:
        with SyncRedis(port=self.redis_port) as client:
            return int(client.dbsize())  # type: ignore[arg-type]


@contextmanager
def one_cpu() -> Generator[None]:
    """Keep this process, and every server and thread that it starts meanwhile, on one CPU where the system can.

    Over a socket, a request to a server on the same CPU costs the client 8 us in the kernel, and one to a server
    that has to be woken on another CPU 25. Without this, the scheduler chooses one or the other by chance.
    """
    if sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def open_places(*, postgres: bool = True) -> Generator[Places]:
    """Start the servers, and stop them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        redis = stack.enter_context(one_server())
        dsn = ""
        if postgres:
            dsn = stack.enter_context(postgres_server(fsync="on")).dsn() + "?sslmode=disable"
        yield Places(redis.port, dsn, folder, stack.enter_context(newer_redis()))
