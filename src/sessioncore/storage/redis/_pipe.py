"""The life of one connection: what was sent and not answered yet, in order.

What the requests of one loop tick want is written in one go, and the replies are
handed out in the order of the requests. One timer sees to a server that falls silent
and to every request that has waited too long.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, TypeAlias

from hiredis import ProtocolError, PushNotification, Reader

from sessioncore.storage.redis._errors import Lost, Refusal, Stalled

__all__ = ["LATE", "YOUNG", "Opened", "Pipe"]

Opened: TypeAlias = tuple[asyncio.Transport, object]
"""A transport whose handshake is done, and what must live as long as it does."""

LATE = "no answer in time (see storage_timeout)"
YOUNG = 0.5  # seconds after its opening in which the end of a connection may be due to the server's start or end
_PENDING = object()  # hiredis' own word for "not yet" is False, which RESP3 uses as a value
_ROOM = 2000  # requests in flight; the next ones wait for a place instead of failing
_GRAIN = 0.002  # seconds between two looks at what is overdue


class Pipe(asyncio.Protocol):
    """One connection."""

    def __init__(self, patience: float, on_end: "Callable[[Pipe], None]") -> None:
        self.full = False
        self.ended: asyncio.Future[None]
        self._loop = asyncio.get_running_loop()
        self.ended = self._loop.create_future()
        self._patience = patience
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._companion: object = None
        self._reader = Reader(replyError=Refusal, notEnoughData=_PENDING)
        # A request's future, how many replies it waits for, and when it has waited long enough.
        self._flight: deque[tuple[asyncio.Future[list[Any]], int, float]] = deque()
        self._got: list[Any] = []  # replies to the first in flight: only that one can be answered in part
        self._outbox: list[bytes] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._choked = False
        self._born = self._heard = monotonic()
        self._watch: asyncio.TimerHandle | None = None
        self._look_at = inf

    def start(self, opened: Opened) -> None:
        # The companion is redis-py's StreamWriter: it would close the transport when collected.
        self._transport, self._companion = opened

    def under_way(self) -> "list[asyncio.Future[list[Any]]]":
        return [future for future, _, _ in self._flight if not future.done()]

    def send(self, payload: bytes, replies: int, due: float) -> "asyncio.Future[list[Any]]":
        """Send packed commands; the future bears their replies, or `Stalled` if they are not here when it is `due`."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self._transport is None:
            future.set_exception(Lost("the connection is closed"))
            return future
        if not self._flight:
            # Nobody else is on the way, so waiting for company would only cost time.
            self._heard = now = monotonic()
            self._flight.append((future, replies, due))
            alarm = min(due, now + self._patience)
            if alarm < self._look_at:
                self._watch_until(alarm)
            self._transport.write(payload)
            return future
        self._flight.append((future, replies, due))
        if due < self._look_at:
            self._watch_until(due)
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append(payload)
        self.full = self._choked or len(self._flight) >= _ROOM
        return future

    def age(self) -> float:
        """Return the seconds since it was opened."""
        return monotonic() - self._born

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
        self._heard = monotonic()
        self._reader.feed(data)
        try:
            demoted = self._hand_out()
        except (ProtocolError, IndexError) as exc:  # IndexError: a reply that nobody asked for
            self.end(Lost(f"the server broke the protocol ({type(exc).__name__})"))
            return
        if demoted and self.age() > YOUNG:
            # After a failover the old master is a replica: only a new connection finds the new master.
            self.end(Lost("the server has become a replica"))
        elif self.full or self._waiting:
            self._make_room()

    def _hand_out(self) -> bool:
        flight, got, demoted = self._flight, self._got, False
        gets: Callable[[], Any] = self._reader.gets
        while (reply := gets()) is not _PENDING:
            if isinstance(reply, PushNotification):
                continue
            if isinstance(reply, Refusal) and reply.code == "READONLY":
                demoted = True
            future, replies, _ = flight[0]
            got.append(reply)
            if len(got) == replies:
                flight.popleft()
                if not future.done():  # a cancelled caller drops its reply and nothing else
                    future.set_result(got)
                got = self._got = []
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

    def _watch_until(self, moment: float) -> None:
        # One timer for the whole connection, however many requests are in flight.
        if self._watch is not None:
            self._watch.cancel()
        self._look_at = moment
        self._watch = self._loop.call_later(max(moment - monotonic(), _GRAIN), self._look)

    def _look(self) -> None:
        self._watch, self._look_at = None, inf
        if not self._flight:
            return
        now = monotonic()
        quiet = now - self._heard
        if quiet >= self._patience:
            self.end(Stalled(f"the server has not answered for {quiet:.1f} s"))
            return
        # A server that answers, but slowly: who has waited too long gives up alone, and the rest may hope.
        upcoming = self._heard + self._patience
        for future, _, due in self._flight:
            if not future.done():
                if due <= now:
                    future.set_exception(Stalled(LATE))
                else:
                    upcoming = min(upcoming, due)
        self._watch_until(upcoming)

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
