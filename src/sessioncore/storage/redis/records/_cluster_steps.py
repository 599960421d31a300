"""The steps that make up the calls on a cluster: each is one command or one script on one server."""

import logging

from sessioncore._errors import StorageError, StorageUnavailable
from sessioncore.storage.redis._errors import ForeignValue
from sessioncore.storage.redis.connection._transport import RedisReply, Transport
from sessioncore.storage.redis.connection._waiting import all_of
from sessioncore.storage.redis.records._commands import ReplicaAcks, run_command, run_ending, run_script
from sessioncore.storage.redis.records._format import (
    ARRIVING,
    LEAVING,
    MARK,
    TOMBSTONE,
    arriving_from,
    index_of,
    millis,
    pack,
)
from sessioncore.storage.redis.records._scripts import END, ENLIST, ON_A_CLUSTER, SHORTEN, Script

__all__ = ["Steps"]

_logger = logging.getLogger("sessioncore.storage.redis")


class Steps:
    """The steps, over one transport."""

    def __init__(self, transport: Transport, acks: ReplicaAcks | None) -> None:
        self._read, self._write = transport.read, transport.write
        self._acks = acks

    async def end(self, key: bytes) -> tuple[bytes, bytes] | None:
        """End the record to which `key` leads; return its key and its owner. Then remove the tombstones on the way."""
        tombstones: list[bytes] = []
        ended: tuple[bytes, bytes] | None = None
        while key not in tombstones:
            reply = await run_ending(self._write, self._acks, END, (key,))
            if reply is None:
                break
            if reply[0] == 1:
                ended = key, reply[1]
                break
            tombstones.append(key)
            key = reply[1][2:]
        await all_of([run_command(self._write, passed, b"UNLINK", passed) for passed in tombstones])
        return ended

    async def is_owned(self, key: bytes, owner: bytes) -> bool:
        """Return whether the record at `key`, also one that is arriving, names `owner`."""
        try:
            head = await run_command(self._read, key, b"GETRANGE", key, 0, 13 + len(owner))
        except ForeignValue:
            return False
        return bool(head[:2] in {MARK, ARRIVING} and head[10:] == pack(0, owner, b"")[10:])

    async def set_new(self, key: bytes, value: bytes, ttl: float) -> bool:
        """Store a value where there is none."""
        return await run_command(self._write, key, b"SET", key, value, b"NX", b"PX", millis(ttl)) is not None

    async def set_existing(self, key: bytes, value: bytes, *expiry: bytes | int) -> bool:
        """Store a value where there is one."""
        return await run_command(self._write, key, b"SET", key, value, b"XX", *expiry) is not None

    async def enlist(self, owner: bytes | None, key: bytes, ttl: float) -> None:
        """Add an entry to the index of an owner."""
        if owner is not None:
            await run_script(self._read, ENLIST, (index_of(owner),), (key, millis(ttl)))

    async def prolong_index(self, owner: bytes | None, key: bytes, ttl: float, left: int) -> None:
        """Prolong the index of a record that was prolonged; if that is refused, undo the latter."""
        try:
            await self.enlist(owner, key, ttl)
        except StorageUnavailable:
            raise
        except StorageError:
            await run_script(self._read, ON_A_CLUSTER.touch, (key,), (max(left, 1),))
            raise

    async def delist_former(self, reply: RedisReply, key: bytes, owner: bytes | None) -> None:
        """Remove the entry of an owner whom a script has found in the record that it changed."""
        if reply is not None and reply[0] == 1 and reply[1] and (former := reply[1][1:]) != owner:
            await self.delist(former, key)

    async def delist(self, owner: bytes, key: bytes) -> None:
        """Remove an entry from the index of an owner."""
        # The record has ended or names another owner, so an entry that stays does no harm.
        index = index_of(owner)
        try:
            await run_command(self._write, index, b"ZREM", index, key)
        except StorageError as exc:
            _logger.debug("an index entry could not be removed: %s", exc)

    # -- what is arriving, and tombstones

    async def resolve(self, key: bytes, value: RedisReply) -> RedisReply:
        """Return the record of an arriving one if its old key leads here, so that the move is decided; else None."""
        mark = value[:2] if isinstance(value, bytes) else b""
        if mark == LEAVING:
            return None
        arrival = arriving_from(value) if mark == ARRIVING else None
        if arrival is None:
            return value
        old, record = arrival
        try:
            there = await run_command(self._read, old, b"GET", old)
        except ForeignValue:
            return None
        return record if there in {TOMBSTONE + key, LEAVING + key} else None

    async def settle(self, key: bytes, value: bytes, ttl: float) -> bool:
        """Make an arriving record an ordinary one; False if it was deleted."""
        # Only a deletion can have come between: nothing replaces what is arriving.
        return await self.set_existing(key, value, b"PX", millis(ttl))

    async def run_at_version(
        self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes | int, ...]
    ) -> RedisReply:
        """Run a script that compares versions; what it finds arriving it finds settled when it runs again."""
        reply = await run_script(self._write, script, keys, args)
        if reply is None or reply[0] != 0 or (record := await self.resolve(keys[0], reply[1])) == reply[1]:
            return reply
        if record is None or not await self.settle(keys[0], record, reply[2] / 1000):
            return None
        return await run_script(self._write, script, keys, args)

    async def drop(self, key: bytes) -> None:
        """Remove a value at once, by an expiry in the past: UNLINK may be what was refused."""
        await self.set_existing(key, b"", b"PXAT", 1)

    async def shorten(self, key: bytes, tombstone: bytes, ttl: float) -> None:
        """Let a tombstone expire sooner."""
        try:
            await run_script(self._write, SHORTEN, (key,), (tombstone, millis(ttl) if ttl else 0))
        except StorageError as exc:
            _logger.debug("a tombstone will expire by itself: %s", exc)
