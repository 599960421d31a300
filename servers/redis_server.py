"""Real Redis servers for tests: one, a cluster of three, a master with a replica, and both with sentinels.

Each runs in a folder of its own on free ports, and is killed at the end of its block.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry


def free_port() -> int:
    """A port that was free a moment ago, and low enough for the cluster bus, whose port is 10,000 higher."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55_000:
            return port


def _program() -> str:
    """The server that `make test-matrix` names, or else the installed one."""
    if named := os.environ.get("SESSIONCORE_TEST_REDIS_SERVER"):
        return named
    if found := shutil.which("redis-server") or shutil.which("valkey-server"):
        return found
    raise RuntimeError("these tests need a real server: apt-get install redis-server (or valkey-server)")


def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait until `condition` is true; an error of the server or the socket counts as false."""
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (RedisError, OSError):
            pass
        if time.monotonic() > end:
            raise TimeoutError(f"the servers did not reach the awaited state in {seconds} s")
        time.sleep(0.01)


class ServerExited(Exception):
    """A server's process ended before it served."""


class Server:
    """One redis-server process; `kill` ends it like a crash, and `start` starts it again."""

    def __init__(self, folder: Path, *options: str, find_port: Callable[[], int] = free_port) -> None:
        self.port = 0
        self.folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Any = None  # redis-py's clients have no useful types
        for attempts_left in reversed(range(5)):
            self.port = find_port()
            try:
                self.start()
                break
            except ServerExited:
                if not attempts_left:
                    raise
            except TimeoutError:
                self.kill()
                raise

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True) -> None:
        command = [
            _program(),
            *self._head(),
            "--bind",
            "127.0.0.1",
            "127.0.0.2",
            "--save",
            "",
            "--dir",
            str(self.folder),
        ]
        command += ["--logfile", str(self.folder / f"{self.port}.log"), *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if wait:
            until(self._answers)

    def _answers(self) -> bool:
        """Return whether our process serves: if the port was taken, another server may answer, and ours exits."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise ServerExited(f"{_program()} exited with {self._process.returncode}: see its log, is the port taken?")
        with socket.create_connection(("127.0.0.1", self.port), 5) as plain, plain.makefile("rb") as replies:
            plain.sendall(b"PING\r\nINFO server\r\n")
            first = replies.readline()
            if first.startswith(b"-NOAUTH"):
                return True
            if first != b"+PONG\r\n":
                return False
            info = replies.read(int(replies.readline()[1:]))
            return b"process_id:%d\r\n" % self.pid in info

    def start_with(self, *options: str) -> None:
        """Start with further options, and do not wait until it answers."""
        self._options += options
        self.start(wait=False)

    def _head(self) -> list[str]:
        return ["--port", str(self.port)]

    def do(self, *command: str | int | bytes) -> Any:
        """Run one command on a connection that stays open; a thread that finds it in use opens another one."""
        if self._client is None:
            self._client = Redis(port=self.port, socket_timeout=10, retry=Retry(NoBackoff(), 0), protocol=2)
        return self._client.execute_command(*command)

    def kill(self) -> None:
        """Send SIGKILL, and wait until the process has ended."""
        if self._client is not None:
            self._client.close()
            self._client = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)


class SentinelServer(Server):
    """A sentinel: the same program, with its state in a file."""

    def _head(self) -> list[str]:
        path = self.folder / f"sentinel-{self.port}.conf"
        path.touch()
        return [str(path), "--sentinel", "--port", str(self.port)]


@contextmanager
def _folder() -> Generator[Path]:
    with tempfile.TemporaryDirectory(prefix="redis-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def one_server(*options: str) -> Generator[Server]:
    with _folder() as folder:
        server = Server(folder, *options)
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def pair(*options: str) -> Generator[tuple[Server, Server]]:
    """A master and a replica that follows it."""
    with ExitStack() as stack:
        folder = stack.enter_context(_folder())
        (folder / "m").mkdir()
        (folder / "r").mkdir()
        fast = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
        master = Server(folder / "m", *fast, *options)
        stack.callback(master.kill)
        replica = Server(folder / "r", *fast, "--replicaof", "127.0.0.1", str(master.port), *options)
        stack.callback(replica.kill)
        until(lambda: master.do("SET", "_", "_", "PX", 1) and master.do("WAIT", 1, 100) == 1)
        yield master, replica


@contextmanager
def watched_pair() -> Generator[tuple[Server, Server, list[Server]]]:
    """A master, its replica, and three sentinels, which fail over after two seconds: a busy machine pauses for less."""
    with pair() as (master, replica), ExitStack() as stack:
        folder = stack.enter_context(_folder())
        sentinels: list[Server] = []
        for _ in range(3):
            sentinel = SentinelServer(folder)
            stack.callback(sentinel.kill)
            sentinel.do("SENTINEL", "MONITOR", "main", "127.0.0.1", master.port, 2)
            sentinel.do("SENTINEL", "SET", "main", "down-after-milliseconds", 2000)
            sentinel.do("SENTINEL", "SET", "main", "failover-timeout", 6000)
            sentinels.append(sentinel)
        until(lambda: all(_sees(sentinel) == (2, 1) for sentinel in sentinels))
        yield master, replica, sentinels


def _sees(sentinel: Server) -> tuple[int, int]:
    flat: list[bytes] = sentinel.do("SENTINEL", "MASTER", "main")
    state = dict(zip(flat[::2], flat[1::2], strict=True))
    return int(state[b"num-other-sentinels"]), int(state[b"num-slaves"])


@contextmanager
def cluster() -> Generator[list[Server]]:
    """Three masters that share the slots."""
    with _folder() as folder, ExitStack() as stack:
        nodes: list[Server] = []
        for number in range(3):
            (folder / str(number)).mkdir()
            node = Server(folder / str(number), "--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
            stack.callback(node.kill)
            nodes.append(node)
        bounds = (0, 5461, 10923, 16384)
        for number, node in enumerate(nodes):
            node.do("CLUSTER", "ADDSLOTS", *range(bounds[number], bounds[number + 1]))
            node.do("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in nodes[1:]:
            node.do("CLUSTER", "MEET", "127.0.0.1", nodes[0].port)
        until(lambda: all(_serves(node) for node in nodes))
        yield nodes


def _serves(node: Server) -> bool:
    info = str(node.do("CLUSTER", "INFO"))
    shards = node.do("CLUSTER", "SLOTS")
    return "ok" in info and "fail" not in info.split("cluster_slots", maxsplit=1)[0] and len(shards) == 3
