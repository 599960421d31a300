"""A proxy between a client and a server that counts the round trips, can go silent, and can lead elsewhere."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Passes bytes on; a round trip is a client that speaks after the server did."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.round_trips = 0
        self.connections = 0
        self.hides_ends = False  # a connection that the server has closed stays open for its client
        self._target = port
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()

    def go_silent(self) -> None:
        """Pass nothing on any more, but keep all connections: a black hole."""
        self._open.clear()

    def speak_again(self) -> None:
        self._open.set()

    def switch(self, port: int) -> None:
        """Lead new connections to another server; those that there are stay where they are."""
        self._target = port

    def reset(self) -> None:
        """Break all connections off."""
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, to_writer}
        # One cell per connection: whether the server spoke last.
        last = {"server": True}
        with suppress(ConnectionError):
            await asyncio.gather(
                self._pass_on(reader, to_writer, last, True), self._pass_on(to_reader, writer, last, False)
            )
        writer.close()
        self._writers -= {writer, to_writer}

    async def _pass_on(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, last: dict[str, bool], client: bool
    ) -> None:
        try:
            while data := await source.read(65536):
                if client and last["server"]:
                    self.round_trips += 1
                last["server"] = not client
                await self._open.wait()
                target.write(data)
                await target.drain()
        finally:
            if client or not self.hides_ends:
                target.close()


@asynccontextmanager
async def tcp_proxy(port: int) -> AsyncGenerator[Proxy, None]:
    """Run a proxy before `port` of 127.0.0.1."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.reset()
        proxy.speak_again()
