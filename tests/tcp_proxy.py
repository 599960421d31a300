"""A TCP proxy between a client and a server: it counts requests, and can disturb or redirect connections."""

import asyncio
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Counts packets from the client; swallows, drips, cuts or drops on demand."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.trips = 0
        self.waits = 0  # trips that began when every earlier request had been answered
        self.connections = 0
        self.open_now = 0
        self.most_open = 0
        self.swallow = False
        self.half_open = 0  # connections up to this number are half-open: nothing passes in either direction
        self.drip = 0.0  # seconds between two pieces of a reply
        self.cut_after: int | None = None
        self.cuts = 0  # this many connections are closed at their next request
        self.copies: list[bytes] | None = None  # of all requests, if a test sets a list
        self.hides_ends = False  # a connection that the server has closed stays open for its client
        self._target = target
        self._asked = False
        self._open: set[asyncio.StreamWriter] = set()

    def switch(self, port: int) -> None:
        """Send new connections to another server; open ones stay where they are."""
        self._target = port

    def reset(self) -> None:
        """Abort all open connections."""
        for writer in self._open:
            writer.transport.abort()

    def drop(self) -> None:
        """Close all open connections."""
        for writer in self._open:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        self._open.add(writer)
        back: asyncio.StreamWriter | None = None
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            requests = asyncio.create_task(self._requests(reader, back, number))
            replies = asyncio.create_task(self._replies(there, writer, number))
            done, rest = await asyncio.wait([requests, replies], return_when=asyncio.FIRST_COMPLETED)
            if self.hides_ends and requests in rest:
                back.close()
                await requests  # until the client sends something
            for task in rest:
                task.cancel()
            await asyncio.wait([*done, *rest])
        except ConnectionRefusedError:
            writer.close()  # the server is down
        finally:
            self.open_now -= 1
            self._open.discard(writer)
            if back is not None:
                back.close()
                with suppress(OSError):  # else asyncio logs it, on a Python that frees objects late
                    await back.wait_closed()

    async def _requests(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, number: int) -> None:
        while data := await _some(reader):
            self.trips += 1
            if self.copies is not None:
                self.copies.append(data)
            self.waits += not self._asked
            self._asked = True
            if self.cuts or back.is_closing():
                self.cuts = max(0, self.cuts - 1)
                return
            if not self.swallow and number > self.half_open:
                back.write(data)

    async def _replies(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while data := await _some(there):
            self._asked = False
            if self.swallow or number <= self.half_open:
                continue
            if self.cut_after is not None:
                writer.write(data[: self.cut_after])
                await writer.drain()
                self.cut_after = None
                # With a linger of zero the close is a reset.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            while self.drip and data:
                writer.write(data[:10])
                data = data[10:]
                await asyncio.sleep(self.drip)
            writer.write(data)


async def _some(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(1 << 20)
    except ConnectionError:
        return b""


@asynccontextmanager
async def proxy_to(port: int) -> AsyncGenerator[Proxy]:
    proxy = Proxy(port)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _: writer.close())  # also if it was cancelled before it began

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1 << 20)
    proxy.port = int(server.sockets[0].getsockname()[1])
    try:
        yield proxy
    finally:
        server.close()
        while tasks:
            for task in list(tasks):
                task.cancel()
            await asyncio.wait(list(tasks))
        await server.wait_closed()
