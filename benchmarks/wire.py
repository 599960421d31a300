"""What one request costs the storage: commands, round trips and bytes, counted on the wire.

A proxy stands between client and server, in this process. A round trip is a
burst from the client that the server answers; commands are read out of the
protocol: RESP arrays for Redis, Execute and Query messages for PostgreSQL.
SQLite has no wire; its statements are counted by its own trace.
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["Tally", "proxy", "traced_sqlite"]


@dataclass
class Tally:
    """What has passed through a proxy, or a trace."""

    commands: int = 0
    trips: int = 0
    sent: int = 0
    received: int = 0
    answered: bool = True  # the next bytes from the client begin a new round trip

    def reset(self) -> None:
        self.commands = self.trips = self.sent = self.received = 0
        self.answered = True


class _Resp:
    """Counts the commands in a stream of RESP arrays of bulk strings."""

    def __init__(self) -> None:
        self._data = b""
        self._parts = 0  # of the current command still to come

    def feed(self, data: bytes) -> int:
        self._data += data
        found = 0
        while (end := self._data.find(b"\r\n")) >= 0:
            kind, size = self._data[:1], int(self._data[1:end])
            if kind == b"*":
                self._data, self._parts = self._data[end + 2 :], size
                found += 1
                continue
            if len(self._data) < end + 4 + size:
                break
            self._data = self._data[end + 4 + size :]
        return found


class _Postgres:
    """Counts Execute and Query in PostgreSQL's frontend messages; the first one has no type."""

    def __init__(self) -> None:
        self._data = b""
        self._begun = False

    def feed(self, data: bytes) -> int:
        self._data += data
        found = 0
        while True:
            head = 1 if self._begun else 0
            if len(self._data) < head + 4:
                return found
            size = head + int.from_bytes(self._data[head : head + 4], "big")
            if len(self._data) < size:
                return found
            found += self._begun and self._data[:1] in {b"E", b"Q"}
            self._data, self._begun = self._data[size:], True


@asynccontextmanager
async def proxy(port: int, kind: str) -> AsyncGenerator[tuple[int, Tally]]:
    """Listen on a free port and pass everything on to `port`; yield the port and the tally."""
    tally = Tally()
    counter: Callable[[], Any] = _Resp if kind == "redis" else _Postgres
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        count = counter()

        async def up() -> None:
            while data := await reader.read(1 << 20):
                tally.commands += count.feed(data)
                tally.sent += len(data)
                tally.trips += tally.answered
                tally.answered = False
                back.write(data)
            back.close()

        async def down() -> None:
            while data := await there.read(1 << 20):
                tally.received += len(data)
                tally.answered = True
                writer.write(data)
            writer.close()

        await asyncio.gather(up(), down(), return_exceptions=True)

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], tally
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()


@contextmanager
def traced_sqlite() -> Generator[Tally]:
    """Count the statements of every SQLite connection that is opened meanwhile."""
    tally = Tally()
    connect = sqlite3.connect

    def traced(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)

        def count(_: str) -> None:
            tally.commands += 1

        connection.set_trace_callback(count)
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]  # for the time of the count
    try:
        yield tally
    finally:
        sqlite3.connect = connect
