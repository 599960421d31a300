"""The storage's calls on a cluster, where a record, its owner's index and a new key are on different servers.

Each record still changes by one script. Steps on several servers are ordered so that
stopping between any two of them does no harm: the index is written before the record, so
no record is missing from it. Such a sequence always runs to its end, even if its caller is
cancelled. The caller waits for that end, but no longer than a call may take.

A move between two servers writes the new record first, as one that is arriving; then it
replaces the old one by a tombstone, by compare-and-set, which decides; then it settles the
new one. An arriving record counts as a session only when the old key leads to it. So a deletion
of the old key finds either the old record, and the move fails, or the way to the new one.

If a server refuses a step, the steps before it are taken back where one call can do that.
What may remain is an index entry without a record, or one that stays longer than needed;
and when a call ends several records, some may have ended.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from time import monotonic
from typing import Any, TypeVar

from redis.crc import key_slot

from sessioncore._batched import batched
from sessioncore._errors import KeyTaken, StorageError, StorageUnavailable
from sessioncore._storage_calls import Moved, Stored, Unreadable, Written
from sessioncore.concurrency._shield import run_shielded
from sessioncore.storage._versions import random_version
from sessioncore.storage.redis._errors import ForeignValue
from sessioncore.storage.redis.connection._transport import CallLimit, Transport
from sessioncore.storage.redis.connection._waiting import all_of, for_each
from sessioncore.storage.redis.records._cluster_steps import Steps
from sessioncore.storage.redis.records._commands import (
    KEYS_PER_COMMAND,
    MoveArguments,
    ReplicaAcks,
    outcome_of,
    run_command,
    run_script,
    stored_of,
)
from sessioncore.storage.redis.records._format import (
    LEAVING,
    TOMBSTONE,
    arriving,
    head_of,
    index_of,
    millis,
    pack,
    unpack,
)
from sessioncore.storage.redis.records._scripts import ON_A_CLUSTER, RETIRE

__all__ = ["ClusterRecords"]

_UNSETTLED = 60.0  # seconds that an arriving record lives until its move is done
_T = TypeVar("_T")


class ClusterRecords:
    """The calls on a cluster; see `Records`."""

    def __init__(
        self, transport: Transport, acks: ReplicaAcks | None, silence_timeout: float, limit: CallLimit
    ) -> None:
        self._read = transport.read
        self._steps = Steps(transport, acks)
        self.resolve = self._steps.resolve
        self._silence_timeout = silence_timeout
        self._limit = limit
        self._running: set[asyncio.Task[Any]] = set()
        self._under_way: dict[bytes, asyncio.Future[None]] = {}  # moves, by their new keys

    async def create(self, key: bytes, data: bytes, ttl: float, owner: bytes | None) -> int | None:
        return await self._to_its_end(self._create(key, data, ttl, owner))

    async def replace(self, key: bytes, data: bytes, ttl: float, version: int, owner: bytes | None) -> Written:
        return await self._to_its_end(self._replace(key, data, ttl, version, owner))

    async def move(self, move: MoveArguments) -> Written:
        one_slot = key_slot(move.key) == key_slot(move.new_key)
        sequence = self._move_within_a_slot if one_slot else self._move_across

        async def announced() -> Written:
            under_way = asyncio.get_running_loop().create_future()
            self._under_way[move.new_key] = under_way
            try:
                return await sequence(move)
            finally:
                under_way.set_result(None)
                if self._under_way.get(move.new_key) is under_way:
                    del self._under_way[move.new_key]

        return await self._to_its_end(announced())

    async def renew(self, key: bytes, ttl: float) -> Stored | Moved | Unreadable | None:
        """Set the ttl; then prolong the index, if the record has an owner."""
        found = await run_script(self._read, ON_A_CLUSTER.renew, (key,), (millis(ttl),))
        if found is None:
            return None
        value: bytes | None = await self._steps.resolve(key, found[0])
        if value is None or (value != found[0] and not await self._steps.settle(key, value, ttl)):
            return None
        if value[:2] != TOMBSTONE:
            await self._steps.prolong_index(unpack(value)[1], key, ttl, found[1])
        return stored_of(value, millis(ttl))

    async def touch(self, key: bytes, ttl: float) -> bool:
        """Set the ttl; then prolong the index, if the record has an owner."""
        found = await run_script(self._read, ON_A_CLUSTER.touch, (key,), (millis(ttl),))
        if found is None:  # unless it is a record whose move lost its last step, which a renewal settles
            try:
                return isinstance(await self.renew(key, ttl), Stored)
            except ForeignValue:
                return False
        await self._steps.prolong_index(found[0][1:] if found[0] else None, key, ttl, found[1])
        return True

    async def delete(self, keys: list[bytes]) -> int:
        """End records, a bounded number at a time; if one fails, others may have ended."""
        ended, began = 0, monotonic()
        for some in batched(keys, KEYS_PER_COMMAND):
            ended += await self._to_its_end(self._delete(some), began)
        return ended

    async def owned(self, owner: bytes) -> list[bytes]:
        """Return the live keys of an owner.

        Entries without a record are looked up once more: a move writes the new key before it
        ends the old one, so one of two look-ups finds one of them.
        """
        index = index_of(owner)
        listed: list[bytes] = await run_command(self._read, index, b"ZRANGE", index, 0, -1)
        live: dict[bytes, None] = {}
        for _ in range(2):
            unsure = [key for key in listed if key not in live]
            named = await for_each(unsure, lambda key: self._steps.is_owned(key, owner))
            live |= {key: None for key, is_owned in zip(unsure, named, strict=True) if is_owned}
        return [*live]

    async def finish(self) -> None:
        """Wait for the sequences that have begun."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=self._silence_timeout)

    async def _to_its_end(self, sequence: Coroutine[Any, Any, _T], began: float | None = None) -> _T:
        deadline = (monotonic() if began is None else began) + self._limit.seconds
        task = asyncio.get_running_loop().create_task(sequence)
        self._running.add(task)
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait([task])  # `shield` would log what fails after that, on Python 3.14.5
        finally:
            if not task.done():
                # The caller was cancelled, perhaps not for the last time. It still waits until all steps are done.
                most = min(self._silence_timeout, max(0.0, deadline - monotonic()))
                await run_shielded(asyncio.wait([task], timeout=most))
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # mark it as retrieved, because the caller may have been cancelled

    async def _create(self, key: bytes, data: bytes, ttl: float, owner: bytes | None) -> int | None:
        version = random_version()
        await self._steps.enlist(owner, key, ttl)
        made = await self._steps.set_new(key, pack(version, owner, data), ttl)
        return version if made else None

    async def _replace(self, key: bytes, data: bytes, ttl: float, version: int, owner: bytes | None) -> Written:
        new = random_version()
        # Index first: `revoke_all` would miss a record without an entry.
        await self._steps.enlist(owner, key, ttl)
        args = pack(new, owner, data), millis(ttl), head_of(version)
        reply = await self._steps.run_at_version(ON_A_CLUSTER.replace, (key,), args)
        await self._steps.delist_former(reply, key, owner)
        return outcome_of(reply, new)

    async def _move_within_a_slot(self, move: MoveArguments) -> Written:
        """Move in one step, between two keys of one slot."""
        new = random_version()
        await self._steps.enlist(move.owner, move.new_key, move.ttl)
        keys = move.key, move.new_key
        reply = await self._steps.run_at_version(ON_A_CLUSTER.move, keys, move.for_script(new))
        await self._steps.delist_former(reply, move.key, None)
        return outcome_of(reply, new)

    async def _move_across(self, move: MoveArguments) -> Written:
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
            reply = await self._steps.run_at_version(RETIRE, (move.key,), args)
        except StorageUnavailable:
            raise
        except StorageError:
            await self._steps.drop(move.new_key)
            raise
        outcome = outcome_of(reply, new)
        if not isinstance(outcome, int):
            await self._steps.drop(move.new_key)
            return outcome
        # Not settled: another call has ended the new record, which it found by the old key or by its owner's index.
        settle = self._steps.settle(move.new_key, value, move.ttl)
        settled, _ = await all_of([settle, self._steps.delist_former(reply, move.key, None)])
        if move.tombstone < self._silence_timeout:
            await self._steps.shorten(move.key, marker, move.tombstone)
        return outcome if settled else None

    async def _arrive(self, move: MoveArguments, value: bytes) -> None:
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
                await self._steps.drop(move.new_key)
            raise listed
        if isinstance(written, BaseException):
            raise written
        if not written:
            raise KeyTaken

    async def _delete(self, keys: Sequence[bytes]) -> int:
        # A caller that names a key to which a move is under way means the record that will be there.
        if moves := [self._under_way[key] for key in keys if key in self._under_way]:
            await asyncio.wait(moves)
        found = [ended for ended in await all_of([self._steps.end(key) for key in keys]) if ended is not None]
        await all_of([self._steps.delist(tagged[1:], key) for key, tagged in found if tagged])
        return len(found)
