"""The storage's calls on a cluster, where a record, its owner's index and a new key are on different servers.

Each record still changes by one script. Steps on several servers are ordered so that
stopping between any two of them does no harm: the index is written before the record, so
no record is missing from it; a new key is written, with a minute to live, before the old
one ends. Such a sequence always runs to its end, even if its caller is cancelled.

If a server refuses a step, the steps before it are taken back where one call can do that.
What may remain is an index entry without a record, or one that stays longer than needed;
and when several records are ended at once, some may have ended.
"""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from redis.crc import key_slot

from sessioncore._errors import KeyTaken, StorageError, StorageUnavailable
from sessioncore._shield import run_shielded
from sessioncore._storage_protocol import Written
from sessioncore.storage.redis._commands import KEYS_PER_COMMAND, ReplicaAcks, outcome_of, run_command, run_script
from sessioncore.storage.redis._errors import ForeignValue
from sessioncore.storage.redis._format import MARK, fresh_version, head_of, index_of, millis, pack, unpack
from sessioncore.storage.redis._scripts import ENLIST, ON_A_CLUSTER, RETIRE
from sessioncore.storage.redis._transport import Reply, Transport

__all__ = ["Cluster"]

_LOG = logging.getLogger("sessioncore.storage.redis")
_T = TypeVar("_T")
_UNSETTLED = 60.0  # seconds that a new key lives until its move is done


class Cluster:
    """The calls on a cluster."""

    def __init__(self, transport: Transport, acks: ReplicaAcks | None, silence_timeout: float) -> None:
        self._read, self._write = transport.read, transport.write
        self._acks = acks
        self._silence_timeout = silence_timeout
        self._running: set[asyncio.Task[Any]] = set()

    async def create(self, key: bytes, data: bytes, ttl: float, owner: bytes | None) -> int | None:
        """Store a new record."""
        return await self._to_its_end(self._create(key, data, ttl, owner))

    async def replace(self, key: bytes, data: bytes, ttl: float, version: int, owner: bytes | None) -> Written:
        """Write if the record still has this version."""
        return await self._to_its_end(self._replace(key, data, ttl, version, owner))

    async def move(
        self, key: bytes, new_key: bytes, data: bytes, ttl: float, *, version: int, owner: bytes | None
    ) -> Written:
        """Write under a new key and end the old one."""
        steps = self._move_within if key_slot(key) == key_slot(new_key) else self._move_across
        return await self._to_its_end(steps(key, new_key, data, ttl, version=version, owner=owner))

    async def renew(self, key: bytes, ttl: float) -> bytes | None:
        """Return the value and set its ttl; then that of the index, if it has an owner."""
        found = await run_script(self._read, ON_A_CLUSTER.renew, (key,), (millis(ttl),))
        if found is None:
            return None
        value: bytes = found[0]
        await self._follow(unpack(value)[1], key, ttl, found[1])
        return value

    async def touch(self, key: bytes, ttl: float) -> bool:
        """Set the ttl; then that of the index, if it has an owner."""
        found = await run_script(self._read, ON_A_CLUSTER.touch, (key,), (millis(ttl),))
        if found is None:
            return False
        await self._follow(found[0][1:] if found[0] else None, key, ttl, found[1])
        return True

    async def delete(self, keys: list[bytes]) -> int:
        """End records, a bounded number at a time; if one fails, others may have ended."""
        ended = 0
        for start in range(0, len(keys), KEYS_PER_COMMAND):
            ended += await self._to_its_end(self._delete(keys[start : start + KEYS_PER_COMMAND]))
        return ended

    async def owned(self, owner: bytes) -> list[bytes]:
        """Return the live keys of an owner.

        Entries without a record are looked up once more: a move writes the new key before it
        ends the old one, so one of two look-ups finds one of them.
        """
        index = index_of(owner)
        members: list[bytes] = await run_command(self._read, index, b"ZRANGE", index, 0, -1)
        live: list[bytes] = []
        for _ in range(2):
            missing: list[bytes] = []
            for start in range(0, len(members), KEYS_PER_COMMAND):
                some = members[start : start + KEYS_PER_COMMAND]
                named = await _all([self._is_owned(key, owner) for key in some])
                for member, is_owned in zip(some, named, strict=True):
                    (live if is_owned else missing).append(member)
            members = missing
        return live

    async def aclose(self) -> None:
        """Wait for the sequences that have begun."""
        if self._running:
            await asyncio.wait(set(self._running), timeout=self._silence_timeout)

    async def _to_its_end(self, steps: Coroutine[Any, Any, _T]) -> _T:
        task = asyncio.get_running_loop().create_task(steps)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            return await asyncio.shield(task)
        finally:
            if not task.done():
                # The caller was cancelled, perhaps not for the last time. It still waits until all steps are done.
                await run_shielded(asyncio.wait([task], timeout=self._silence_timeout))

    async def _create(self, key: bytes, data: bytes, ttl: float, owner: bytes | None) -> int | None:
        version = fresh_version()
        await self._enlist(owner, key, ttl)
        made = await self._set_new(key, pack(version, owner, data), ttl)
        return version if made else None

    async def _replace(self, key: bytes, data: bytes, ttl: float, version: int, owner: bytes | None) -> Written:
        new = fresh_version()
        # Index first: an unindexed record would survive its owner's logout.
        await self._enlist(owner, key, ttl)
        value = pack(new, owner, data)
        reply = await run_script(self._write, ON_A_CLUSTER.replace, (key,), (value, millis(ttl), head_of(version)))
        await self._delist_former(reply, key, owner)
        return outcome_of(reply, new)

    async def _move_within(
        self, key: bytes, new_key: bytes, data: bytes, ttl: float, *, version: int, owner: bytes | None
    ) -> Written:
        new = fresh_version()
        await self._enlist(owner, new_key, ttl)
        value = pack(new, owner, data)
        reply = await run_script(self._write, ON_A_CLUSTER.move, (key, new_key), (value, millis(ttl), head_of(version)))
        await self._delist_former(reply, key, None)
        return outcome_of(reply, new)

    async def _move_across(
        self, key: bytes, new_key: bytes, data: bytes, ttl: float, *, version: int, owner: bytes | None
    ) -> Written:
        """Move between two servers.

        A refusal before the old record has ended leaves an index entry without a record,
        and nothing else. A reply that is lost may leave both records, the new one for a
        minute: no client knows its ID.
        """
        new = fresh_version()
        value = pack(new, owner, data)
        await self._enlist(owner, new_key, ttl)
        # Long enough for the last step, which sets `ttl`.
        unsettled = max(min(ttl, _UNSETTLED), self._silence_timeout)
        if not await self._set_new(new_key, value, unsettled):
            raise KeyTaken("the new key is taken; nothing was changed: move to a key that was never used")
        # The deciding step: of several callers only the one that finds its version still there goes on.
        try:
            reply = await run_script(self._write, RETIRE, (key,), (head_of(version),))
        except StorageUnavailable:
            raise
        except StorageError:
            await self._set_existing(new_key, b"", b"PXAT", 1)  # gone at once; UNLINK may be what was refused
            raise
        outcome = outcome_of(reply, new)
        if not isinstance(outcome, int):
            await run_script(self._write, RETIRE, (new_key,), (head_of(new),))
            return outcome
        settled = await self._settle(new_key, value, ttl)
        await self._delist_former(reply, key, None)
        # Not settled: another call has found the new record in its owner's index, and ended it.
        return outcome if settled else None

    async def _settle(self, key: bytes, value: bytes, ttl: float) -> bool:
        try:
            return await run_script(self._read, ON_A_CLUSTER.touch, (key,), (millis(ttl),)) is not None
        except StorageUnavailable:
            raise
        except StorageError:
            # The old record is gone, so this one must stay: what made it can prolong it, too.
            return await self._set_existing(key, value, b"PX", millis(ttl))

    async def _delete(self, keys: list[bytes]) -> int:
        lists = await _all([self._end(key) for key in keys])
        found = [(key, owners[0]) for key, owners in zip(keys, lists, strict=True) if owners]
        await _all([self._delist(tagged[1:], key) for key, tagged in found if tagged])
        return len(found)

    async def _end(self, key: bytes) -> list[bytes]:
        if self._acks is not None:
            return await self._acks.end(ON_A_CLUSTER.delete, (key,))
        owners: list[bytes] = await run_script(self._write, ON_A_CLUSTER.delete, (key,))
        return owners

    async def _is_owned(self, key: bytes, owner: bytes) -> bool:
        try:
            head = await run_command(self._read, key, b"GETRANGE", key, 0, 13 + len(owner))
        except ForeignValue:
            return False
        return bool(head[:2] == MARK and head[10:] == pack(0, owner, b"")[10:])

    async def _set_new(self, key: bytes, value: bytes, ttl: float) -> bool:
        return await run_command(self._write, key, b"SET", key, value, b"NX", b"PX", millis(ttl)) is not None

    async def _set_existing(self, key: bytes, value: bytes, *expiry: bytes | int) -> bool:
        return await run_command(self._write, key, b"SET", key, value, b"XX", *expiry) is not None

    async def _enlist(self, owner: bytes | None, key: bytes, ttl: float) -> None:
        if owner is not None:
            await run_script(self._read, ENLIST, (index_of(owner),), (key, millis(ttl)))

    async def _follow(self, owner: bytes | None, key: bytes, ttl: float, left: int) -> None:
        """Prolong the index of a record that was prolonged; if that is refused, undo the latter."""
        try:
            await self._enlist(owner, key, ttl)
        except StorageUnavailable:
            raise
        except StorageError:
            await run_script(self._read, ON_A_CLUSTER.touch, (key,), (max(left, 1),))
            raise

    async def _delist_former(self, reply: Reply, key: bytes, owner: bytes | None) -> None:
        if reply is not None and reply[0] == 1 and reply[1] and (former := reply[1][1:]) != owner:
            await self._delist(former, key)

    async def _delist(self, owner: bytes, key: bytes) -> None:
        # The record has ended or names another owner, so an entry that stays does no harm.
        index = index_of(owner)
        try:
            await run_command(self._write, index, b"ZREM", index, key)
        except StorageError as exc:
            _LOG.debug("an index entry could not be removed: %s", exc)


async def _all(steps: list[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Wait for all, then return their results or raise the first error."""
    results = await asyncio.gather(*steps, return_exceptions=True)
    done: list[_T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done
