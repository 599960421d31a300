"""Moving a record between two servers of a cluster.

The new record is written first, as one that is arriving; then the old one is replaced by a
tombstone, by compare-and-set, which decides; then the new one is settled. What is arriving
is no session until the old key leads to it. So a deletion of the old key finds either the
old record, and the move fails, or the way to the new one.
"""

import asyncio
import logging

from sessioncore._errors import KeyTaken, StorageError, StorageUnavailable
from sessioncore._storage_protocol import Written
from sessioncore.storage._versions import random_version
from sessioncore.storage.redis._errors import ForeignValue
from sessioncore.storage.redis.connection._transport import Reply, Transport
from sessioncore.storage.redis.records._cluster_steps import Steps
from sessioncore.storage.redis.records._commands import Move, outcome_of, run_command, run_script
from sessioncore.storage.redis.records._format import (
    ARRIVING,
    LEAVING,
    TOMBSTONE,
    arriving,
    arriving_from,
    head_of,
    millis,
    pack,
)
from sessioncore.storage.redis.records._scripts import ON_A_CLUSTER, RETIRE, SHORTEN, Script

__all__ = ["Moves"]

_LOG = logging.getLogger("sessioncore.storage.redis")
_UNSETTLED = 60.0  # seconds that an arriving record lives until its move is done


class Moves:
    """The moves on one cluster."""

    def __init__(self, transport: Transport, steps: Steps, silence_timeout: float) -> None:
        self._transport = transport
        self._steps = steps
        self._silence_timeout = silence_timeout

    async def resolve(self, key: bytes, value: Reply) -> Reply:
        """Return the record of an arriving one if its old key leads here, so that the move is decided; else None."""
        mark = value[:2] if isinstance(value, bytes) else b""
        if mark == LEAVING:
            return None
        if mark != ARRIVING:
            return value
        old, record = arriving_from(value)
        try:
            there = await run_command(self._transport.read, old, b"GET", old)
        except ForeignValue:
            return None
        return record if there in {TOMBSTONE + key, LEAVING + key} else None

    async def within_a_slot(self, move: Move) -> Written:
        """Move in one step, between two keys of one slot."""
        new = random_version()
        await self._steps.enlist(move.owner, move.new_key, move.ttl)
        marker = TOMBSTONE + move.new_key, millis(move.tombstone) if move.tombstone else 0
        args = pack(new, move.owner, move.data), millis(move.ttl), *marker, head_of(move.version)
        reply = await self.on_record(ON_A_CLUSTER.move, (move.key, move.new_key), args)
        await self._steps.delist_former(reply, move.key, None)
        return outcome_of(reply, new)

    async def across(self, move: Move) -> Written:
        """Move between two servers.

        A refusal before the old record has ended leaves an index entry without a record,
        and nothing else. A reply that is lost may leave an arriving record for a minute.
        """
        new = random_version()
        value = pack(new, move.owner, move.data)
        await self._arrive(move, value)
        # The deciding step: of several callers only the one that finds its version still there goes on.
        # Until the new record is settled, its old key must lead to it.
        marker = (TOMBSTONE if move.tombstone else LEAVING) + move.new_key
        args = marker, millis(max(move.tombstone, self._silence_timeout)), head_of(move.version)
        try:
            reply = await self.on_record(RETIRE, (move.key,), args)
        except StorageUnavailable:
            raise
        except StorageError:
            await self._drop(move.new_key)
            raise
        outcome = outcome_of(reply, new)
        if not isinstance(outcome, int):
            await self._drop(move.new_key)
            return outcome
        # Not settled: another call has ended the new record, which it found by the old key or by its owner's index.
        settled, delisted = await asyncio.gather(
            self.settle(move.new_key, value, move.ttl),
            self._steps.delist_former(reply, move.key, None),
            return_exceptions=True,
        )
        if isinstance(failure := settled if isinstance(settled, BaseException) else delisted, BaseException):
            raise failure
        if move.tombstone < self._silence_timeout:
            await self._shorten(move.key, marker, move.tombstone)
        return outcome if settled else None

    async def _arrive(self, move: Move, value: bytes) -> None:
        """Write the new record and its index entry, in either order: it is no session yet."""
        # Long enough for the last step, which sets `ttl`.
        unsettled = max(min(move.ttl, _UNSETTLED), self._silence_timeout)
        listed, written = await asyncio.gather(
            self._steps.enlist(move.owner, move.new_key, move.ttl),
            self._steps.set_new(move.new_key, arriving(value, move.key), unsettled),
            return_exceptions=True,
        )
        if isinstance(listed, BaseException):
            if written is True and not isinstance(listed, StorageUnavailable):
                await self._drop(move.new_key)
            raise listed
        if isinstance(written, BaseException):
            raise written
        if not written:
            raise KeyTaken

    async def on_record(self, script: Script, keys: tuple[bytes, ...], args: tuple[bytes | int, ...]) -> Reply:
        """Run a script that compares versions; what it finds arriving it finds settled when it runs again."""
        reply = await run_script(self._transport.write, script, keys, args)
        if reply is None or reply[0] != 0 or (record := await self.resolve(keys[0], reply[1])) == reply[1]:
            return reply
        if record is None or not await self.settle(keys[0], record, reply[2] / 1000):
            return None
        return await run_script(self._transport.write, script, keys, args)

    async def settle(self, key: bytes, value: bytes, ttl: float) -> bool:
        """Make an arriving record an ordinary one; False if it was deleted."""
        # Only a deletion can have come between: nothing replaces what is arriving.
        return await self._steps.set_existing(key, value, b"PX", millis(ttl))

    async def _drop(self, key: bytes) -> None:
        await self._steps.set_existing(key, b"", b"PXAT", 1)  # gone at once; UNLINK may be what was refused

    async def _shorten(self, key: bytes, tombstone: bytes, ttl: float) -> None:
        try:
            await run_script(self._transport.write, SHORTEN, (key,), (tombstone, millis(ttl) if ttl else 0))
        except StorageError as exc:
            _LOG.debug("a tombstone will expire by itself: %s", exc)
