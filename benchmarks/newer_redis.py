"""A stand-in for Redis 8 where there is none: fakeredis, behind a socket, in a process of its own.

Its own CPU does not count; the client's does, and the commands and round trips are real.
"""

import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from redis import Redis
from redis.exceptions import RedisError
from servers.redis_server import free_port

__all__ = ["newer_redis"]

PROGRAM = """
import sys
from fakeredis import TcpFakeServer
TcpFakeServer(("127.0.0.1", int(sys.argv[1])), server_type="redis", server_version=(8, 0)).serve_forever()
"""


@contextmanager
def newer_redis() -> Generator[int]:
    """Start it and yield its port; 0 if fakeredis is not installed."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(port)], stderr=subprocess.DEVNULL)
    try:
        yield port if _answers(port, process) else 0
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    while process.poll() is None:
        try:
            with Redis(port=port) as client:
                client.ping()
            return True
        except (RedisError, OSError):
            time.sleep(0.05)
    return False
