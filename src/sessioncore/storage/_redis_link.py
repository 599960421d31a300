"""One connection to one server, shared by all requests of an event loop.

redis-py opens the connection: address, TLS, password, Sentinel, protocol version
are its business. Then the link takes the socket over, writes what the requests of
one loop tick want in one go, and hands the replies out in order. Nothing here knows
a session, or what a command means.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from hiredis import ProtocolError, PushNotification, Reader

from sessioncore.storage._redis_errors import Lost, Refusal, Stalled

__all__ = ["Link", "Opened"]

Opened: TypeAlias = tuple[asyncio.Transport, object]
"""A transport whose handshake is done, and what must live as long as it does."""

_PENDING = object()  # hiredis' own word for "not yet" is False, which RESP3 uses as a value
_ROOM = 2000  # requests in flight; the next ones wait for a place instead of failing
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5  # seconds between two attempts to connect
_ACCIDENTS = 3  # connections in a row that may end at once before the next has to wait


class _Pipe(asyncio.Protocol):
    """The life of one connection: what was sent and not answered yet, in order."""

    def __init__(self, patience: float, on_end: "Callable[[_Pipe], None]") -> None:
        self.full = False
        self.ended: asyncio.Future[None]
        self._loop = asyncio.get_running_loop()
        self.ended = self._loop.create_future()
        self._patience = patience
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._companion: object = None
        self._reader = Reader(replyError=Refusal, notEnoughData=_PENDING)
        self._flight: deque[tuple[asyncio.Future[list[Any]], int, list[Any]]] = deque()
        self._outbox: list[bytes] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._choked = False
        self._born = self._heard = self._loop.time()
        self._watch: asyncio.TimerHandle | None = None

    def start(self, opened: Opened) -> None:
        # The companion is redis-py's StreamWriter: it would close the transport when collected.
        self._transport, self._companion = opened

    def under_way(self) -> "list[asyncio.Future[list[Any]]]":
        return [future for future, _, _ in self._flight if not future.done()]

    def send(self, payload: bytes, replies: int) -> "asyncio.Future[list[Any]]":
        """Send packed commands; the future bears their replies."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self._transport is None:
            future.set_exception(Lost("the connection is closed"))
            return future
        if not self._flight:
            # Nobody else is on the way, so waiting for company would only cost time.
            self._heard = self._loop.time()
            if self._watch is None:
                self._watch = self._loop.call_later(self._patience, self._look)
            self._flight.append((future, replies, []))
            self._transport.write(payload)
            return future
        self._flight.append((future, replies, []))
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(payload)
        self.full = self._choked or len(self._flight) >= _ROOM
        return future

    def age(self) -> float:
        """Return the seconds since it was opened."""
        return self._loop.time() - self._born

    async def room(self) -> None:
        """Wait until there is a place, or until the connection has ended."""
        turn = self._loop.create_future()
        self._waiting.append(turn)
        await turn

    def _flush(self) -> None:
        payload = b"".join(self._outbox)
        self._outbox.clear()
        if self._transport is not None:
            self._transport.write(payload)

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._reader.feed(data)
        try:
            demoted = self._hand_out()
        except (ProtocolError, IndexError) as exc:  # IndexError: a reply that nobody asked for
            self.end(Lost(f"the server broke the protocol ({type(exc).__name__})"))
            return
        if demoted and self.age() > _LONGEST_PAUSE:
            # After a failover the old master is a replica: only a new connection finds the new master.
            self.end(Lost("the server has become a replica"))
        elif self.full or self._waiting:
            self._make_room()

    def _hand_out(self) -> bool:
        flight, demoted = self._flight, False
        gets: Callable[[], Any] = self._reader.gets
        while (reply := gets()) is not _PENDING:
            if isinstance(reply, PushNotification):
                continue
            if isinstance(reply, Refusal) and reply.code == "READONLY":
                demoted = True
            future, replies, got = flight[0]
            got.append(reply)
            if len(got) == replies:
                flight.popleft()
                if not future.done():  # a cancelled caller drops its reply and nothing else
                    future.set_result(got)
        return demoted

    def _make_room(self) -> None:
        self.full = self._choked or len(self._flight) >= _ROOM
        places = 0 if self.full else _ROOM - len(self._flight)
        while places > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                places -= 1
        if self._waiting and not self.full:
            # Whoever was called may have been cancelled meanwhile: then the next one is.
            self._loop.call_soon(self._make_room)

    def _look(self) -> None:
        # One timer for the whole connection, however many commands are in flight.
        self._watch = None
        if not self._flight:
            return
        quiet = self._loop.time() - self._heard
        if quiet >= self._patience:
            self.end(Stalled(f"the server has not answered for {quiet:.1f} s"))
        else:
            self._watch = self._loop.call_later(self._patience - quiet, self._look)

    def pause_writing(self) -> None:
        self._choked = self.full = True

    def resume_writing(self) -> None:
        self._choked = False
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(Lost("the server closed the connection" if exc is None else "the connection broke"))
        if not self.ended.done():
            self.ended.set_result(None)

    def end(self, error: Lost) -> None:
        """Give the connection up; whatever is in flight fails."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        transport.abort()
        if self._watch is not None:
            self._watch.cancel()
        self._on_end(self)
        for future, _, _ in self._flight:
            if not future.done():
                future.set_exception(type(error)(*error.args))
        self._flight.clear()
        self._outbox.clear()
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)


class Link:
    """A connection that comes back: opened when first needed, and anew after it was lost."""

    def __init__(self, connect: Callable[[Callable[[], asyncio.Protocol]], Awaitable[Opened]], patience: float) -> None:
        self._connect = connect
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._pipe: _Pipe | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._pause = 0.0
        self._not_before = 0.0
        self._early_ends = 0
        self._closed = False

    async def ask(self, payload: bytes, replies: int) -> list[Any]:
        """Send packed commands, and return their replies.

        Raises:
            Lost: the connection could not be had, or ended before the replies came.
        """
        pipe = self._pipe
        if pipe is None or pipe.full:
            pipe = await self._usable()
        return await pipe.send(payload, replies)

    async def ask_again(self, payload: bytes, replies: int) -> list[Any]:
        """Do what `ask` does, and once more if the connection breaks: for commands that change nothing.

        Raises:
            Lost: the connection could not be had, or ended before the replies came, twice.
        """
        pipe = self._pipe
        if pipe is None or pipe.full:
            pipe = await self._usable()
        try:
            return await pipe.send(payload, replies)
        except Stalled:
            raise  # the caller has waited long enough
        except Lost:
            return await self.ask(payload, replies)

    async def aclose(self) -> None:
        """Wait for what is in flight, within bounds, and close."""
        self._closed = True
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait([self._dialling])
        pipe = self._pipe
        if pipe is None:
            return
        if under_way := pipe.under_way():
            await asyncio.wait(under_way, timeout=self._patience)
        pipe.end(Lost("the storage was closed"))
        await asyncio.wait([pipe.ended], timeout=self._patience)

    async def _usable(self) -> _Pipe:
        while True:
            if self._closed:
                raise Lost("the storage was closed")
            pipe = self._pipe
            if pipe is None:
                await self._dial()
            elif pipe.full:
                await pipe.room()
                # Whoever waited goes first; the bound is soft by those who came in between.
                if self._pipe is pipe:
                    return pipe
            else:
                return pipe

    async def _dial(self) -> None:
        """Wait for the one attempt that all callers share; a caller that gives up does not end it."""
        if self._dialling is None:
            if self._loop.time() < self._not_before:
                raise Lost("there is no connection") from self._failure
            self._dialling = self._loop.create_task(self._attempt())
        attempt = self._dialling
        await asyncio.wait([attempt])
        if self._pipe is None and self._failure is not None:
            raise Lost("no connection could be opened") from self._failure

    async def _attempt(self) -> None:
        pipe = _Pipe(self._patience, self._forget)
        try:
            async with asyncio.timeout(self._patience):
                opened = await self._connect(lambda: pipe)
        except Exception as exc:  # noqa: BLE001 - a credential provider may raise anything; the callers get it
            self._failure = exc
            self._rest()
        else:
            pipe.start(opened)
            self._pipe, self._failure = pipe, None
            if not self._early_ends:
                self._pause = 0.0
        finally:
            self._dialling = None

    def _forget(self, pipe: _Pipe) -> None:
        if self._pipe is pipe:
            self._pipe = None
            # Some early ends may be accidents; a server that goes on hanging up is left alone for a while.
            self._early_ends = self._early_ends + 1 if pipe.age() < _LONGEST_PAUSE else 0
            if self._early_ends > _ACCIDENTS:
                self._rest()

    def _rest(self) -> None:
        self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
        self._not_before = self._loop.time() + self._pause
