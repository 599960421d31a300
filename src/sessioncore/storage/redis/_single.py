"""The storage's calls on one server: each is one script or one native command.

A record and its owner's index change in the same atomic step here. `_cluster` has the
same calls for the case that the two are on different servers.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from math import inf
from time import monotonic
from typing import Protocol, TypeAlias

from msgspec import Struct
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from sessioncore._errors import KeyTaken, StorageUnavailable
from sessioncore._storage_protocol import Stored, Unreadable, Written
from sessioncore.storage.redis._errors import ConnectionLost, ErrorReply, ForeignValue, error_of
from sessioncore.storage.redis._format import fresh_version, head_of, index_of, millis, pack, unpack
from sessioncore.storage.redis._scripts import ON_ONE_SERVER, OWNED, VERIFY, Script
from sessioncore.storage.redis._transport import Command, Reply, Transport, error_reply_of

__all__ = [
    "KEYS_PER_COMMAND",
    "CallLimit",
    "RecordCommands",
    "ReplicaAcks",
    "SingleServer",
    "checked",
    "outcome_of",
    "run",
    "stored_of",
    "unavailable",
]

_LOG = logging.getLogger("sessioncore.storage.redis")

KEYS_PER_COMMAND = 500  # keys in one command: some milliseconds of the server's time at most

Send: TypeAlias = Callable[..., Awaitable[list[Reply]]]


class CallLimit(Struct):
    """How long a load, a create, a replace or a move may take: the shortest `storage_timeout` of the stores."""

    seconds: float = inf

    def deadline(self) -> float:
        """Return the deadline of a call that begins now, by the monotonic clock."""
        return monotonic() + self.seconds


class RecordCommands(Protocol):
    """The calls that change a record or depend on its owner."""

    async def create(self, key: bytes, data: bytes, ttl: float, owner: bytes | None) -> int | None:
        """Store a new record."""
        ...

    async def replace(self, key: bytes, data: bytes, ttl: float, version: int, owner: bytes | None) -> Written:
        """Write if the record still has this version."""
        ...

    async def move(
        self, key: bytes, new_key: bytes, data: bytes, ttl: float, *, version: int, owner: bytes | None
    ) -> Written:
        """Write under a new key and end the old one."""
        ...

    async def renew(self, key: bytes, ttl: float) -> bytes | None:
        """Return the value, and set its ttl."""
        ...

    async def touch(self, key: bytes, ttl: float) -> bool:
        """Set the ttl."""
        ...

    async def delete(self, keys: list[bytes]) -> int:
        """End records."""
        ...

    async def owned(self, owner: bytes) -> list[bytes]:
        """Return the live keys of an owner."""
        ...

    async def aclose(self) -> None:
        """Wait for calls of several steps to end."""
        ...


def unavailable(exc: ConnectionLost) -> StorageUnavailable:
    """Return the error for a reply that never came, or a connection that the server refused."""
    reason = str(exc)
    for cause in _causes(exc):
        if isinstance(cause, AuthenticationError | NoPermissionError):
            return StorageUnavailable(str(error_of(error_reply_of(cause))))
        if isinstance(cause, ResponseError):  # of the handshake, which selects the database
            said = ErrorReply(f"ERR {cause}")
            return StorageUnavailable(f"Redis refused the connection ({said}); check the URL or the client")
        if isinstance(cause, OSError):
            reason = f"{exc} ({str(cause) or type(cause).__name__})"
    return StorageUnavailable(f"Redis did not answer: {reason}; look at the server, its address and the network")


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def checked(reply: Reply) -> Reply:
    """Return a reply; raise the error that an error reply stands for."""
    if isinstance(reply, ErrorReply):
        raise error_of(reply) from reply
    return reply


async def run(send: Send, script: Script, keys: tuple[bytes, ...], *args: bytes | int, deadline: float = inf) -> Reply:
    """Run a script where its first key lives; `send` is a transport's `write`, or `read` if it may run twice.

    NOSCRIPT means that nothing was carried out, so sending the text is no repetition.
    """
    try:
        [reply] = await send(keys[0], script.by_sha(keys, args), deadline=deadline)
        if isinstance(reply, ErrorReply) and reply.code == "NOSCRIPT":
            [reply] = await send(keys[0], script.by_text(keys, args), deadline=deadline)
    except ConnectionLost as exc:
        raise unavailable(exc) from exc
    return checked(reply)


def stored_of(value: Reply, left: int) -> Stored | Unreadable:
    """Return the record in a value that has `left` milliseconds to live.

    A value that would live for ever was not written by this storage either.
    """
    try:
        version, _, data = unpack(checked(value))
        if left < 0:
            raise ForeignValue("a record in Redis has no time to live: something else wrote it; delete that key")
    except ForeignValue as exc:
        _LOG.debug("%s", exc)
        return Unreadable()
    return Stored(data=data, version=version, ttl=left / 1000)


def outcome_of(reply: Reply, version: int) -> Written:
    """Return what a conditional write came to."""
    if reply is None:
        return None
    match reply[0]:
        case 1:
            return version
        case 0:
            return stored_of(reply[1], reply[2])
        case _:
            raise KeyTaken("the new key is taken; nothing was changed: move to a key that was never used")


class ReplicaAcks(Struct, frozen=True):
    """How many replicas must confirm a deletion, within how many milliseconds, and the transport to ask on.

    WAIT is about the connection that sends it, and blocks it, so it has a transport of its own.
    """

    transport: Transport
    replicas: int
    millis: int

    async def end(self, script: Script, keys: tuple[bytes, ...]) -> list[bytes]:
        """Run a deleting script and wait for the replicas, in one packet on one connection.

        Raises:
            StorageUnavailable: too few of them answered.
        """
        # By its text: were NOSCRIPT the answer, the connection might be another one by the second try.
        wait: Command = (b"WAIT", self.replicas, self.millis)
        try:
            owners, confirmed = await self.transport.write(keys[0], script.by_text(keys, ()), wait)
        except ConnectionLost as exc:
            raise unavailable(exc) from exc
        checked(owners)
        if isinstance(confirmed, ErrorReply):
            raise StorageUnavailable(f"the deletion is done, but not confirmed: {error_of(confirmed)}") from confirmed
        if confirmed < self.replicas:
            raise StorageUnavailable(
                f"the deletion is done, but only {confirmed} of {self.replicas} replicas have confirmed it: "
                "a failover now may undo it; delete again to ask again"
            )
        return list(owners)


class SingleServer:
    """The calls on a single server, or a master and its replicas."""

    def __init__(self, transport: Transport, acks: ReplicaAcks | None, limit: CallLimit) -> None:
        self._transport = transport
        self._acks = acks
        self._limit = limit

    async def create(self, key: bytes, data: bytes, ttl: float, owner: bytes | None) -> int | None:
        """Store a new record: `SET NX PX`, in a script where there is an index to keep."""
        version, deadline = fresh_version(), self._limit.deadline()
        value, lasts = pack(version, owner, data), millis(ttl)
        if owner is not None:
            made = await run(
                self._transport.write, ON_ONE_SERVER.create, (key, index_of(owner)), value, lasts, deadline=deadline
            )
            return version if made else None
        try:
            [reply] = await self._transport.write(key, (b"SET", key, value, b"NX", b"PX", lasts), deadline=deadline)
        except ConnectionLost as exc:
            raise unavailable(exc) from exc
        return version if checked(reply) is not None else None

    async def replace(self, key: bytes, data: bytes, ttl: float, version: int, owner: bytes | None) -> Written:
        """Write if the record still has this version."""
        new, deadline = fresh_version(), self._limit.deadline()
        args = pack(new, owner, data), millis(ttl), head_of(version)
        reply = await run(self._transport.write, ON_ONE_SERVER.replace, (key, *_index(owner)), *args, deadline=deadline)
        return outcome_of(reply, new)

    async def move(
        self, key: bytes, new_key: bytes, data: bytes, ttl: float, *, version: int, owner: bytes | None
    ) -> Written:
        """Write under a new key and end the old one, in one step."""
        new, deadline = fresh_version(), self._limit.deadline()
        args = pack(new, owner, data), millis(ttl), head_of(version)
        reply = await run(
            self._transport.write, ON_ONE_SERVER.move, (key, new_key, *_index(owner)), *args, deadline=deadline
        )
        return outcome_of(reply, new)

    async def renew(self, key: bytes, ttl: float) -> bytes | None:
        """Return the value, and set its ttl and that of the index."""
        found = await run(
            self._transport.read, ON_ONE_SERVER.renew, (key,), millis(ttl), deadline=self._limit.deadline()
        )
        return None if found is None else found[0]

    async def touch(self, key: bytes, ttl: float) -> bool:
        """Set the ttl, and that of the index."""
        return await run(self._transport.read, ON_ONE_SERVER.touch, (key,), millis(ttl)) is not None

    async def delete(self, keys: list[bytes]) -> int:
        """End records, a bounded number in each step; one that fails leaves what those before it have ended."""
        ended = 0
        for start in range(0, len(keys), KEYS_PER_COMMAND):
            some = tuple(keys[start : start + KEYS_PER_COMMAND])
            if self._acks is not None:
                ended += len(await self._acks.end(ON_ONE_SERVER.delete, some))
            else:
                ended += len(await run(self._transport.write, ON_ONE_SERVER.delete, some))
        return ended

    async def owned(self, owner: bytes) -> list[bytes]:
        """Return the live keys, and drop the dead ones from the index."""
        index = index_of(owner)
        verified, members = await run(self._transport.read, OWNED, (index,), owner, KEYS_PER_COMMAND)
        if verified:
            return list(members)
        live: list[bytes] = []
        for start in range(0, len(members), KEYS_PER_COMMAND):
            live += await run(self._transport.read, VERIFY, (index, *members[start : start + KEYS_PER_COMMAND]), owner)
        return live

    async def aclose(self) -> None:
        """Do nothing: no call here has several steps."""


def _index(owner: bytes | None) -> tuple[bytes, ...]:
    """Return the index of `owner` as what a script declares, nothing if there is none."""
    return () if owner is None else (index_of(owner),)
