"""What the calls on a single server and on a cluster have in common.

The functions send one script or one command, and turn the reply into an answer of the
storage, or into an error.
"""

import logging
from collections.abc import Awaitable, Callable
from math import inf
from typing import Protocol, TypeAlias

from msgspec import Struct

from sessioncore._errors import KeyTaken, StorageUnavailable, WritesRefused
from sessioncore._opaque import Opaque
from sessioncore._storage_calls import Moved, Stored, Unreadable, Written
from sessioncore.storage._text import moved_to
from sessioncore.storage.redis._errors import ConnectionLost, ErrorReply, ForeignValue, error_of, unavailable
from sessioncore.storage.redis.connection._transport import Command, RedisReply, Transport
from sessioncore.storage.redis.records._format import TOMBSTONE, head_of, millis, pack, unpack
from sessioncore.storage.redis.records._scripts import Script

__all__ = [
    "KEYS_PER_COMMAND", "MoveArguments", "Records", "ReplicaAcks", "answer_of", "checked", "outcome_of", "run_command",
    "run_ending", "run_script", "stored_of",
]  # fmt: skip

_logger = logging.getLogger("sessioncore.storage.redis")

KEYS_PER_COMMAND = 500  # a command with that many keys takes the server some milliseconds at most

Send: TypeAlias = Callable[..., Awaitable[list[RedisReply]]]
"""The `write` of a transport, or its `read` for what may be carried out twice."""


class MoveArguments(Opaque, Struct, frozen=True):
    """The arguments of one `Storage.move`, with keys and owner as bytes."""

    key: bytes
    new_key: bytes
    data: bytes
    ttl: float
    version: int
    owner: bytes | None
    tombstone: float

    def for_script(self, new_version: int) -> tuple[bytes | int, ...]:
        """Return the arguments of the script that moves the record in one step."""
        value, lasts = pack(new_version, self.owner, self.data), millis(self.tombstone) if self.tombstone else 0
        return value, millis(self.ttl), TOMBSTONE + self.new_key, lasts, head_of(self.version)


class Records(Protocol):
    """The calls of `Storage` on records: on a single server, on a cluster, or through a near cache.

    Keys and owners are bytes. `renew` returns what a load of the renewed record does, and `owned` the live keys.
    """

    async def create(self, key: bytes, data: bytes, ttl: float, owner: bytes | None) -> int | None: ...
    async def replace(self, key: bytes, data: bytes, ttl: float, version: int, owner: bytes | None) -> Written: ...
    async def move(self, move: MoveArguments) -> Written: ...
    async def renew(self, key: bytes, ttl: float) -> Stored | Moved | Unreadable | None: ...
    async def touch(self, key: bytes, ttl: float) -> bool: ...
    async def delete(self, keys: list[bytes]) -> int: ...
    async def owned(self, owner: bytes) -> list[bytes]: ...


def checked(reply: RedisReply, script: Script | None = None) -> RedisReply:
    """Return a reply, of `script` or of a command; raise the error that an error reply stands for."""
    if isinstance(reply, ErrorReply):
        raise error_of(reply, b"" if script is None else script.text) from reply
    return reply


async def run_command(send: Send, key: bytes, *command: bytes | int, deadline: float = inf) -> RedisReply:
    """Send one command to the server of `key`, and return its reply."""
    try:
        [reply] = await send(key, command, deadline=deadline)
    except ConnectionLost as exc:
        raise unavailable(exc) from exc
    return checked(reply)


async def run_script(
    send: Send, script: Script, keys: tuple[bytes, ...], args: tuple[bytes | int, ...] = (), deadline: float = inf
) -> RedisReply:
    """Run a script on the server of its first key, and return its reply."""
    try:
        [reply] = await send(keys[0], (b"EVALSHA", script.sha, len(keys), *keys, *args), deadline=deadline)
        if isinstance(reply, ErrorReply):
            if reply.code != "NOSCRIPT":
                raise error_of(reply, script.text) from reply
            # The server has forgotten the script, so nothing was carried out: sending its text repeats nothing.
            [reply] = await send(keys[0], (b"EVAL", script.text, len(keys), *keys, *args), deadline=deadline)
    except ConnectionLost as exc:
        raise unavailable(exc) from exc
    return checked(reply, script)


def stored_of(value: RedisReply, left: int) -> Stored | Moved | Unreadable:
    """Return the record or the tombstone in a value that has `left` milliseconds to live.

    A value that would live for ever was not written by this storage either.
    """
    try:
        value = checked(value)
        if left < 0:
            raise ForeignValue("a record in Redis has no time to live: something else wrote it; delete that key")
        if value[:2] == TOMBSTONE:
            return moved_to(value[2:])
        version, _, data = unpack(value)
    except ForeignValue as exc:
        _logger.debug("%s", exc)
        return Unreadable()
    return Stored(data=data, version=version, ttl=left / 1000)


def answer_of(value: RedisReply, left: RedisReply) -> Stored | Moved | Unreadable | None:
    """Return what a GET and a PTTL have found."""
    return None if value is None or left == -2 else stored_of(value, checked(left))


def outcome_of(reply: RedisReply, version: int) -> Written:
    """Return the result of a conditional write."""
    if reply is None:
        return None
    match reply[0]:
        case 1:
            return version
        case 0:
            return stored_of(reply[1], reply[2])
        case _:
            raise KeyTaken


class ReplicaAcks(Struct, frozen=True):
    """How many replicas must confirm a deletion, within how many milliseconds, and the transport to ask on.

    WAIT is about the connection that sends it, and blocks it, so it has a transport of its own.
    """

    transport: Transport
    replicas: int
    millis: int

    async def end(self, script: Script, keys: tuple[bytes, ...]) -> RedisReply:
        """Run a deleting script and wait for the replicas, in one packet on one connection.

        Raises:
            WritesRefused: too few replicas confirmed it.
        """
        # EVAL, not EVALSHA: after NOSCRIPT a second attempt might be sent on another connection than the WAIT.
        run: Command = (b"EVAL", script.text, len(keys), *keys)
        try:
            reply, confirmed = await self.transport.write(keys[0], run, (b"WAIT", self.replicas, self.millis))
        except ConnectionLost as exc:
            raise unavailable(exc) from exc
        checked(reply, script)
        if isinstance(confirmed, ErrorReply):
            raise StorageUnavailable(f"the deletion is done, but not confirmed: {error_of(confirmed)}") from confirmed
        if confirmed < self.replicas:
            raise WritesRefused(
                f"the deletion is done, but only {confirmed} of {self.replicas} replicas have confirmed it: "
                "a failover now may undo it; delete again to ask again"
            )
        return reply


async def run_ending(send: Send, acks: ReplicaAcks | None, script: Script, keys: tuple[bytes, ...]) -> RedisReply:
    """Run a script that ends records; with `acks`, return when the replicas have it, too."""
    return await run_script(send, script, keys) if acks is None else await acks.end(script, keys)
