"""The storage's calls on a single server: each is one script or one native command.

A record and its owner's index change in the same atomic step here. `_cluster` has the
same calls for records and indexes that are on different servers.
"""

from sessioncore._batched import batched
from sessioncore._storage_calls import Moved, Stored, Unreadable, Written
from sessioncore.storage._versions import random_version
from sessioncore.storage.redis.connection._transport import CallLimit, Transport
from sessioncore.storage.redis.records._commands import (
    KEYS_PER_COMMAND,
    MoveArguments,
    ReplicaAcks,
    outcome_of,
    run_command,
    run_ending,
    run_script,
    stored_of,
)
from sessioncore.storage.redis.records._format import head_of, index_of, millis, pack
from sessioncore.storage.redis.records._scripts import CREATE, DELETE, ON_ONE_SERVER, OWNED, VERIFY

__all__ = ["SingleServerRecords"]


class SingleServerRecords:
    """The calls on a single server, or a master and its replicas; see `Records`."""

    def __init__(self, transport: Transport, acks: ReplicaAcks | None, limit: CallLimit) -> None:
        self._read, self._write = transport.read, transport.write
        self._acks = acks
        self._limit = limit

    async def create(self, key: bytes, data: bytes, ttl: float, owner: bytes | None) -> int | None:
        """Store a new record: by `SET NX PX`, or by a script if there is an index to update."""
        version, deadline = random_version(), self._limit.deadline()
        value, lasts = pack(version, owner, data), millis(ttl)
        if owner is not None:
            made = await run_script(self._write, CREATE, (key, index_of(owner)), (value, lasts), deadline)
            return version if made else None
        set_new = (b"SET", key, value, b"NX", b"PX", lasts)
        made = await run_command(self._write, key, *set_new, deadline=deadline)
        return None if made is None else version

    async def replace(self, key: bytes, data: bytes, ttl: float, version: int, owner: bytes | None) -> Written:
        new, deadline = random_version(), self._limit.deadline()
        keys = (key,) if owner is None else (key, index_of(owner))
        args = pack(new, owner, data), millis(ttl), head_of(version)
        return outcome_of(await run_script(self._write, ON_ONE_SERVER.replace, keys, args, deadline), new)

    async def move(self, move: MoveArguments) -> Written:
        new, deadline = random_version(), self._limit.deadline()
        keys = (move.key, move.new_key) if move.owner is None else (move.key, move.new_key, index_of(move.owner))
        return outcome_of(await run_script(self._write, ON_ONE_SERVER.move, keys, move.for_script(new), deadline), new)

    async def renew(self, key: bytes, ttl: float) -> Stored | Moved | Unreadable | None:
        lasts, deadline = millis(ttl), self._limit.deadline()
        found = await run_script(self._read, ON_ONE_SERVER.renew, (key,), (lasts,), deadline)
        return None if found is None else stored_of(found[0], lasts)

    async def touch(self, key: bytes, ttl: float) -> bool:
        return await run_script(self._read, ON_ONE_SERVER.touch, (key,), (millis(ttl),)) is not None

    async def delete(self, keys: list[bytes]) -> int:
        """End records, a bounded number in each step; if a step fails, the steps before it are done."""
        ended = 0
        for some in batched(keys, KEYS_PER_COMMAND):
            ended += len(await run_ending(self._write, self._acks, DELETE, some))
        return ended

    async def owned(self, owner: bytes) -> list[bytes]:
        """Return the live keys, and drop the dead ones from the index."""
        index = index_of(owner)
        verified, members = await run_script(self._read, OWNED, (index,), (owner, KEYS_PER_COMMAND))
        if verified:
            return list(members)
        live: list[bytes] = []
        for some in batched(members, KEYS_PER_COMMAND):
            live += await run_script(self._read, VERIFY, (index, *some), (owner,))
        return live
