"""One connection to one server, shared by all requests of an event loop; opened again after it was lost.

An `Opener` connects, with redis-py; a `PipelinedConnection` reads and writes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from time import monotonic
from typing import cast

import hiredis

from sessioncore._watchers import Changed
from sessioncore.storage._backoff import Backoff
from sessioncore.storage.redis._errors import ConnectionLost, ErrorReply, ReplyTimeout, error_of, was_refused
from sessioncore.storage.redis.connection._pipelined import YOUNG, Invalidated, PipelinedConnection
from sessioncore.storage.redis.connection._transport import CallLimit, Command, Opener, RedisReply, Transport
from sessioncore.storage.redis.connection._waiting import cancel_and_wait, within
from sessioncore.storage.redis.connection._watched_keys import WatchedKeys

__all__ = ["ReconnectingConnection"]

_logger = logging.getLogger("sessioncore.storage.redis")
_PING: Command = (b"PING",)

_pack = cast("Callable[[Command], bytes]", hiredis.pack_command)  # pyright: ignore[reportUnknownMemberType] -- its stub is wrong


class ReconnectingConnection:
    """A `Transport` to one server: connects when it is first needed, and again after the connection was lost."""

    def __init__(
        self, opener: Opener, silence_timeout: float, limit: CallLimit, on_silence: Callable[[], object] = lambda: None
    ) -> None:
        self._opener = opener
        self._silence_timeout = silence_timeout
        self._limit = limit
        self._on_silence = on_silence  # called repeatedly: another server may take over from this one
        self._loop = asyncio.get_running_loop()
        self._connection: PipelinedConnection | None = None  # None: none is open
        self._retired: set[PipelinedConnection] = set()  # replaced, but some replies are still missing there
        # The last attempt, which all callers share, and whether it has succeeded.
        self._connecting: asyncio.Task[bool] | None = None
        self._failure: Exception | None = None  # why there is no connection
        self._backoff = Backoff(self._loop.time)
        self._closed = ""  # why it was closed; empty: it was not
        self._next_proof: asyncio.Task[RedisReply] | None = None  # the command that is about to be sent
        self.watched = WatchedKeys()
        self.listeners: list[Invalidated] = [self.watched.invalidated]

    # -- commands

    def read(self, key: bytes, *commands: Command, deadline: float = inf) -> Awaitable[list[RedisReply]]:
        """Send commands that may be carried out twice; if a connection breaks or goes silent, send them on a fresh one.

        Raises:
            ConnectionLost: no connection could be opened, for lack of a server or of the right to use it;
                `ReplyTimeout` after the deadline.
        """
        return self._read(b"".join(map(_pack, commands)), len(commands), deadline)

    def get_with_ttl(self, key: bytes, deadline: float) -> Awaitable[list[RedisReply]]:
        """Send GET and PTTL, packed here: nearly every request sends them, and hiredis takes four times as long."""
        return self._read(_get_with_ttl(key), 2, deadline)

    async def write(self, key: bytes, *commands: Command, deadline: float = inf) -> list[RedisReply]:
        """Send commands exactly once; a single one that a replica refuses is sent once more, on the next connection.

        Raises:
            ConnectionLost: no connection could be opened, or it ended before the replies came;
                `ReplyTimeout` after the deadline.
        """
        connection, payload = self._connection, b"".join(map(_pack, commands))
        if connection is None or connection.room.full:
            connection = await within(deadline, self._usable())
        # An open connection watches the deadlines of its requests: a timer for each would double their cost.
        replies = await connection.send(payload, len(commands), deadline)
        if connection.demoted and self._has_left(connection, replies):
            try:
                connection = await within(deadline, self._usable())
            except ConnectionLost:
                return replies  # which say that nothing was changed
            replies = await connection.send(payload, len(commands), deadline)
        return replies

    async def _read(self, payload: bytes, replies: int, deadline: float, *, tracked: bool = False) -> list[RedisReply]:
        was_sent, give_up = False, inf
        while True:
            try:
                connection = self._connection
                if connection is None or connection.room.full:
                    connection = await within(deadline, self._usable())
                was_sent = True
                if tracked:  # on each connection anew: a former one's tracking ended with it
                    return await connection.read_tracked(payload, replies, deadline)
                got = await connection.send(payload, replies, deadline, repeatable=True)
                if not (connection.demoted and self._has_left(connection, got)):
                    return got
            except ReplyTimeout:
                raise  # the caller has waited long enough
            except ConnectionLost as exc:
                now = monotonic()
                give_up = min(give_up, deadline, now + self._silence_timeout)
                if not was_sent or self._closed or now >= give_up or was_refused(exc):
                    raise
                if self._connection is None:
                    await asyncio.sleep(min(self._backoff.time_left(), give_up - now))

    def _has_left(self, connection: PipelinedConnection, replies: list[RedisReply]) -> bool:
        """Return whether a replica has refused a single command, and the next connection may lead to its master."""
        [reply, *more] = replies
        is_read_only = isinstance(reply, ErrorReply) and reply.code == "READONLY"
        return is_read_only and not more and self._connection is not connection

    # -- changes of keys

    def get_tracked(self, key: bytes, deadline: float) -> Awaitable[list[RedisReply]]:
        """Do what `get_with_ttl` does, and have the key's next change reported to `listeners`.

        The first reply is False if the server will not push that change.
        """
        return self._read(_get_with_ttl(key), 2, deadline, tracked=True)

    async def get_watched(self, key: bytes, changed: Changed, deadline: float) -> list[RedisReply]:
        if not self.watched.watch(key, changed):
            return await self.get_with_ttl(key, deadline)
        pushed, value, left = await self.get_tracked(key, deadline)
        self.watched.answered(key, value, pushed=pushed)
        return [value, left]

    def unwatch(self, key: str, changed: Changed) -> None:
        self.watched.remove(key, changed)

    async def confirm(self, command: Command = _PING) -> None:
        await self.prove(command)
        await self.watched.poll(lambda key: self.get_with_ttl(key, self._limit.deadline()))

    async def prove(self, command: Command = _PING) -> None:
        """Wait for the reply to a command that is sent from now on; all callers of one iteration of the loop share it.

        Every change to a tracked key that was complete before has then been reported to `listeners`.

        Raises:
            ConnectionLost: the connection ended or was replaced, and `listeners` were notified; or the reply is late.
            StorageError: the server refuses the command; `listeners` were notified that any key may have changed.
        """
        proof = self._next_proof
        if proof is None or proof.done():  # done: it was cancelled before it began
            proof = self._next_proof = self._loop.create_task(self._prove(_pack(command)))
        await asyncio.wait([proof])
        if proof.cancelled():
            raise ConnectionLost("the command was cancelled")
        if isinstance(reply := proof.result(), ConnectionLost):
            raise type(reply)(*reply.args) from reply.__cause__
        if isinstance(reply, ErrorReply) and reply.code != "MISCONF":  # this one refuses writes, and PING with them
            self._invalidated(None)
            raise error_of(reply)

    async def _prove(self, payload: bytes) -> RedisReply:
        await asyncio.sleep(0)
        self._next_proof = None  # it is sent now: a later caller may know of a later change, and needs its own
        try:
            connection = self._connection or await self._usable()
            [reply] = await connection.send(payload, 1, self._limit.deadline(), repeatable=True)
        except ConnectionLost as exc:
            return exc
        return reply

    def _invalidated(self, keys: list[bytes] | None) -> None:
        for listener in self.listeners:
            listener(keys)

    async def servers(self) -> Mapping[str, Transport]:
        return {"": self}

    async def authenticate(self, user: bytes, password: bytes) -> None:
        """Authenticate again, between two requests; if refused, the connection lasts as long as its old password."""
        command = _pack((b"AUTH", user, password) if user else (b"AUTH", password))
        for connection in self._open_connections():
            try:
                [reply] = await connection.send(command, 1, inf)
            except ConnectionLost:
                continue  # the next one begins with the new password
            if isinstance(reply, ErrorReply):
                _logger.warning("Redis refused renewed credentials: %s", error_of(reply))

    # -- opening and closing

    async def leave(self) -> None:
        """Close, because the node has left the cluster; if it is silent, reads in flight fail at once."""
        self._closed = "the node has left the cluster"
        for connection in filter(PipelinedConnection.is_silent, self._open_connections()):
            connection.retire()
        await self.aclose()

    async def aclose(self) -> None:
        """Wait for the replies in flight, but not beyond the time that a call may take, and close."""
        self._closed = self._closed or "the storage was closed"
        if self._connecting is not None:
            await cancel_and_wait(self._connecting)
        connections = self._open_connections()
        if in_flight := [future for connection in connections for future in connection.in_flight()]:
            most = min(self._silence_timeout, self._limit.seconds)
            silence = min(connection.silence() for connection in connections)
            await asyncio.wait(in_flight, timeout=max(0.0, most - silence))
        for connection in connections:
            connection.end(ConnectionLost(self._closed))
        if connections:
            await asyncio.wait([connection.ended for connection in connections], timeout=self._silence_timeout)
        self._invalidated(None)

    def _open_connections(self) -> list[PipelinedConnection]:
        return [*self._retired, *([] if self._connection is None else [self._connection])]

    async def _usable(self) -> PipelinedConnection:
        while True:
            if self._closed:
                raise ConnectionLost(self._closed)
            connection = self._connection
            if connection is None:
                await self._connect()
            elif connection.room.full:
                await connection.room.wait()
                # A request that waited goes first; those that came meanwhile may exceed the bound a little.
                if self._connection is connection:
                    return connection
            else:
                return connection

    async def _connect(self) -> None:
        """Wait for the attempt that all callers share; a caller that is cancelled does not cancel it."""
        attempt = self._connecting
        if attempt is None or attempt.done():
            if self._backoff.time_left():
                raise ConnectionLost("there is no connection") from self._failure
            attempt = self._connecting = self._loop.create_task(self._attempt())
        while not (await asyncio.wait([attempt], timeout=self._limit.doubt_after(self._silence_timeout)))[0]:
            self._on_silence()
        if self._connection is None and not (attempt.cancelled() or attempt.result()):
            raise ConnectionLost("no connection could be opened") from self._failure

    async def _attempt(self) -> bool:
        connection = PipelinedConnection(
            self._silence_timeout,
            self._limit,
            on_doubt=self._doubt,
            on_demotion=self._leave,
            on_end=self._forget,
            on_invalidation=self._invalidated,
        )
        try:
            connection.start(await self._opener(connection, self._silence_timeout))
            if self._connection is not None:  # it is doubted; opening this one may have needed no reply of the server
                await connection.send(_pack(_PING), 1, inf)
        except Exception as exc:  # noqa: BLE001 - a credential provider may raise anything; the callers get it
            self._failure = exc
            self._backoff.failed()
            return False
        else:
            self._take(connection)
            return True
        finally:
            if self._connection is not connection:
                connection.end(ConnectionLost("the server did not answer, or the former connection did"))

    def _take(self, connection: PipelinedConnection) -> None:
        if (former := self._connection) is not None and not former.is_silent():
            return
        self._connection, self._failure = connection, None
        self._backoff.succeeded()
        if former is not None:
            self._retired.add(former)
            former.retire()

    def _doubt(self, connection: PipelinedConnection) -> None:
        """Open a fresh connection beside one that has gone silent."""
        self._on_silence()
        idle = self._connecting is None or self._connecting.done()
        if self._connection is connection and idle and not self._backoff.time_left():
            self._connecting = self._loop.create_task(self._attempt())

    def _leave(self, connection: PipelinedConnection) -> None:
        """Turn away from a server that has become a replica: only a new connection finds the new master."""
        if self._connection is connection:
            self._connection = None
            self._retired.add(connection)
            connection.retire()

    def _forget(self, connection: PipelinedConnection, why: ConnectionLost) -> None:
        self._retired.discard(connection)
        if self._connection is connection:
            self._connection, self._failure = None, why
            self._backoff.ended(early=connection.age() < YOUNG)


def _get_with_ttl(key: bytes) -> bytes:
    size = len(key)
    return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n*2\r\n$4\r\nPTTL\r\n$%d\r\n%b\r\n" % (size, key, size, key)
