"""One open connection: commands are written as they come, replies are matched to them in order.

The commands of one iteration of the event loop are written together. One timer watches for a
server that has gone silent and for requests that have waited too long.

Silence may mean that the server is slow, or that the connection is half open: a firewall
has forgotten it, and no packet will ever come. So after some silence it is doubted, and a
fresh one is opened beside it. Only if that one works does this one retire: requests that may
be carried out twice move over, the others wait here for their replies.

After a tracked read the server pushes a message when the key changes, in order with the replies.
That order ends when this connection ends or is no longer the one in use; then any key may have changed.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, TypeAlias, cast

from hiredis import PushNotification, Reader

from sessioncore.concurrency._forks import in_each_child, part_with_socket
from sessioncore.concurrency._standstill import MORE_TIME, STOOD_STILL
from sessioncore.storage.redis._errors import ConnectionLost, ErrorReply, ReplyTimeout
from sessioncore.storage.redis.connection._room import MAX_IN_FLIGHT, Room
from sessioncore.storage.redis.connection._transport import CallLimit, OpenedSocket
from sessioncore.storage.redis.connection._waiting import LATE

__all__ = ["YOUNG", "Invalidated", "PipelinedConnection"]

Invalidated: TypeAlias = Callable[[list[bytes] | None], object]
"""Called with the keys of tracked reads that have changed, or with None if any may have."""

YOUNG = 0.5  # seconds: a connection that ends so soon may have met the server's start or stop
_PENDING = object()  # for "no reply yet"; hiredis' default for that is False, which is a value in RESP3
_TIMER_GRAIN = 0.002  # seconds between two checks for overdue requests, at least
_TRACK_NEXT = b"*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n"  # concerns the next command only
# HELLO shows whether the connection has pushes: with RESP2 the server accepts tracking, but pushes nothing.
_TRACK = b"*1\r\n$5\r\nHELLO\r\n*4\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\nON\r\n$5\r\nOPTIN\r\n" + _TRACK_NEXT


class PipelinedConnection(asyncio.Protocol):
    """One connection; calls back when it is doubted, has turned out to be a replica's, or has ended."""

    def __init__(
        self,
        silence_timeout: float,
        limit: CallLimit,
        *,
        on_doubt: "Callable[[PipelinedConnection], None]",
        on_demotion: "Callable[[PipelinedConnection], None]",
        on_end: "Callable[[PipelinedConnection, ConnectionLost], None]",
        on_invalidation: Invalidated,
    ) -> None:
        self.demoted = False  # the server has refused a write, because it is a replica
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._silence_timeout = silence_timeout
        self._limit = limit
        self._patience = limit.doubt_after(silence_timeout)  # kept until the timer goes off: each request needs it
        self._on_doubt = on_doubt
        self._on_demotion = on_demotion
        self._on_end = on_end
        self._on_invalidation = on_invalidation
        self._tracking: asyncio.Future[list[Any]] | None = None  # from the first tracked read on
        self._pushes = True  # until the server has replied that it does not
        self._retired = False
        self._transport: asyncio.Transport | None = None  # None: it is not open yet, or has ended
        self._companion: object = None
        self._reader = Reader(replyError=ErrorReply, notEnoughData=_PENDING)
        # A request's future, how many replies it waits for, when it has waited long enough, and if it may be repeated.
        self._in_flight: deque[tuple[asyncio.Future[list[Any]], int, float, bool]] = deque()
        self.room = Room(self._in_flight)
        self._partial: list[Any] = []  # replies to the first in flight: only that one can be answered in part
        self._unsent: list[bytes] = []
        self._opened_at = self._last_data_at = monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._stood_still_at = -inf  # when a timer was late last, because the event loop stood still

    def start(self, opened: OpenedSocket) -> None:
        # The companion is redis-py's StreamWriter: it would close the transport when collected.
        self._transport, self._companion = opened
        in_each_child(self, PipelinedConnection.after_fork)

    def after_fork(self) -> None:
        """In a child process: leave the connection to the parent."""
        if self._transport is not None:
            part_with_socket(self._transport)

    def age(self) -> float:
        """Return the seconds since it was opened."""
        return monotonic() - self._opened_at

    def in_flight(self) -> "list[asyncio.Future[list[Any]]]":
        return [request[0] for request in self._in_flight if not request[0].done()]

    def silence(self) -> float:
        """Return for how many seconds the server has said nothing while replies were missing."""
        return monotonic() - self._last_data_at if self._in_flight else 0.0

    def is_silent(self) -> bool:
        """Return whether a reply is overdue, so that the connection is doubted."""
        return bool(self._in_flight) and self.silence() >= self._patience

    # -- requests and replies

    def send(
        self, payload: bytes, replies: int, deadline: float, *, repeatable: bool = False
    ) -> "asyncio.Future[list[Any]]":
        """Send packed commands; the future gets their replies, or `ReplyTimeout` after the deadline."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if self._transport is None:
            future.set_exception(ConnectionLost("the connection is closed"))
            return future
        if not self._in_flight:
            # Nothing is in flight, so waiting for other commands to join would only cost time.
            self._last_data_at = now = monotonic()
            self._in_flight.append((future, replies, deadline, repeatable))
            alarm = min(deadline, now + self._patience)
            if alarm < self._timer_at:
                self._set_timer(alarm)
            self._transport.write(payload)
            return future
        self._in_flight.append((future, replies, deadline, repeatable))
        if deadline < self._timer_at:
            self._set_timer(deadline)
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(payload)
        if len(self._in_flight) >= MAX_IN_FLIGHT:
            self.room.update()
        return future

    def _flush(self) -> None:
        payload = b"".join(self._unsent)
        self._unsent.clear()
        if self._transport is not None:
            self._transport.write(payload)

    async def read_tracked(self, payload: bytes, replies: int, deadline: float) -> list[Any]:
        """Send a read, and return first whether the server will push the next change of its key."""
        if self._tracking is None:
            self._tracking = self.send(_TRACK, 3, inf, repeatable=True)
            self._tracking.add_done_callback(self._note_tracking)
        if not self._pushes:
            return [False, *await self.send(payload, replies, deadline, repeatable=True)]
        cached, *answers = await self.send(_TRACK_NEXT + payload, 1 + replies, deadline, repeatable=True)
        return [self._pushes and cached == b"OK", *answers]

    def _note_tracking(self, answered: "asyncio.Future[list[Any]]") -> None:
        if not answered.cancelled() and answered.exception() is None:
            hello, *accepted = answered.result()
            self._pushes = isinstance(hello, dict) and accepted == [b"OK", b"OK"]  # it is a list with RESP2

    def data_received(self, data: bytes) -> None:
        self._last_data_at = monotonic()
        self._reader.feed(data)
        try:
            demoted = self._match_replies()
        except Exception as exc:  # noqa: BLE001 - hiredis cannot read it, a push is malformed, or it replies to nothing
            self.end(ConnectionLost(f"the server broke the protocol ({type(exc).__name__})"))
            return
        if demoted:
            self._note_demotion()
        if self._retired:
            self._end_if_answered()
        elif self.room.full or self.room.waiting:
            self.room.update()

    def _match_replies(self) -> bool:
        flight, got, demoted = self._in_flight, self._partial, False
        gets: Callable[[], Any] = self._reader.gets
        while (reply := gets()) is not _PENDING:
            if isinstance(reply, PushNotification):
                push = cast("list[Any]", reply)
                if push[0] == b"invalidate":
                    self._on_invalidation(push[1])
                continue
            if isinstance(reply, ErrorReply) and reply.code == "READONLY":
                demoted = True
            future, replies, _, _ = flight[0]
            got.append(reply)
            if len(got) == replies:
                flight.popleft()
                if not future.done():  # a cancelled caller drops its reply and nothing else
                    future.set_result(got)
                got = self._partial = []
        return demoted

    def _note_demotion(self) -> None:
        self._on_invalidation(None)
        # A new connection is kept for a moment: if there is no better server, reads can go on meanwhile.
        if self.age() > YOUNG:
            self._on_demotion(self)
        elif not self.demoted:
            self._loop.call_later(YOUNG - self.age(), self._on_demotion, self)
        self.demoted = True

    def pause_writing(self) -> None:
        self.room.pause()

    def resume_writing(self) -> None:
        self.room.resume()

    # -- silence, and the end

    def _set_timer(self, moment: float) -> None:
        # One timer for the whole connection, however many requests are in flight.
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = moment
        self._timer = self._loop.call_later(max(moment - monotonic(), _TIMER_GRAIN), self._on_timer)

    def _on_timer(self) -> None:
        now = monotonic()
        late, self._timer, self._timer_at = now - self._timer_at > STOOD_STILL, None, inf
        if not self._in_flight:
            return
        if late and self._stood_still_at < self._last_data_at:  # uvloop calls timers before it reads
            self._stood_still_at = now
            self._set_timer(now + MORE_TIME)
            return
        quiet = now - self._last_data_at
        if quiet >= self._silence_timeout:
            self.end(ReplyTimeout(f"the server has not answered for {quiet:.1f} s"))
            return
        upcoming = self._last_data_at + self._silence_timeout
        if not self._retired:
            self._patience = self._limit.doubt_after(self._silence_timeout)
            if quiet >= self._patience:
                self._on_doubt(self)
            upcoming = min(upcoming, max(self._last_data_at, now - self._patience / 2) + self._patience)
        # The server answers, but slowly: only the requests past their deadline fail.
        for future, _, deadline, _ in self._in_flight:
            if not future.done():
                if deadline <= now:
                    future.set_exception(ReplyTimeout(LATE))
                else:
                    upcoming = min(upcoming, deadline)
        self._set_timer(upcoming)
        if self._retired:
            self._end_if_answered()

    def retire(self) -> None:
        """Another connection takes over: move what may be repeated, and end when the rest has been answered."""
        self._stop_tracking()
        self._retired = True
        for future, _, _, repeatable in self._in_flight:
            if repeatable and not future.done():
                future.set_exception(ConnectionLost("another connection takes over"))
        self.room.wake_all()
        self._end_if_answered()

    def _end_if_answered(self) -> None:
        """End, since another connection has taken over, unless a reply is still missing here."""
        if not self.in_flight():
            self.end(ConnectionLost("another connection has taken over"))

    def _stop_tracking(self) -> None:
        if self._tracking is not None and not self._retired:
            self._on_invalidation(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(ConnectionLost("the server closed the connection" if exc is None else "the connection broke"))
        if not self.ended.done():
            self.ended.set_result(None)

    def end(self, error: ConnectionLost) -> None:
        """Close the connection; requests in flight fail with this error."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        transport.abort()
        if self._timer is not None:
            self._timer.cancel()
        self._on_end(self, error)
        self._stop_tracking()
        for future in self.in_flight():
            future.set_exception(type(error)(*error.args))
        self._in_flight.clear()
        self._unsent.clear()
        self.room.wake_all()
