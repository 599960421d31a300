"""Calls that go through all keys of each server, by SCAN, in batches of a few hundred; other calls run in between."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress

from sessioncore._batched import batched
from sessioncore._storage_protocol import PROBE_SUFFIX
from sessioncore.storage.redis._errors import AclDenied, ConnectionLost, unavailable
from sessioncore.storage.redis.connection._transport import Command, Transport
from sessioncore.storage.redis.records._commands import KEYS_PER_COMMAND, checked, run_command, run_script
from sessioncore.storage.redis.records._format import INDEX_SUFFIX, MARK, glob_of
from sessioncore.storage.redis.records._scripts import PRUNE

__all__ = ["clear", "live_keys", "purge"]

_logger = logging.getLogger("sessioncore.storage.redis")
_PROBE = PROBE_SUFFIX.encode()


async def clear(
    servers: Mapping[str, Transport], prefix: bytes, delete: Callable[[list[bytes]], Awaitable[int]]
) -> int:
    """End the records whose keys begin with `prefix`; return how many."""
    ended = 0
    async for _, batch in _values(servers, prefix):
        ended += await delete(batch)
        _logger.debug("cleared %d records so far", ended)
    return ended


async def live_keys(servers: Mapping[str, Transport], prefix: bytes) -> AsyncIterator[list[bytes]]:
    """Yield the keys of records that begin with `prefix`, which their first bytes tell from tombstones."""
    async for server, batch in _values(servers, prefix):
        for some in batched(batch, KEYS_PER_COMMAND):
            commands: list[Command] = [(b"GETRANGE", key, 0, len(MARK) - 1) for key in some]
            try:
                heads = await server.read(some[0], *commands)
            except ConnectionLost as exc:
                raise unavailable(exc) from exc
            yield [key for key, head in zip(some, heads, strict=True) if checked(head) == MARK]


async def purge(servers: Mapping[str, Transport]) -> int:
    """Drop the index entries of expired records; return how many."""
    dropped = 0
    async for server, batch in _scan(servers, b"*" + INDEX_SUFFIX, b"zset"):
        for index in batch:
            # SCAN also returns keys that the ACL denies, such as an index of a store with another prefix.
            with suppress(AclDenied):
                while (some := await run_script(server.read, PRUNE, (index,), (KEYS_PER_COMMAND,))) > 0:
                    dropped += some
                    _logger.debug("dropped %d index entries so far", dropped)
    return dropped


async def _values(servers: Mapping[str, Transport], prefix: bytes) -> AsyncIterator[tuple[Transport, list[bytes]]]:
    """Yield the keys of records and tombstones that begin with `prefix`, and the server that has them."""
    async for server, batch in _scan(servers, glob_of(prefix), b"string"):
        yield server, [key for key in batch if key.startswith(prefix) and not key.endswith(_PROBE)]


async def _scan(
    servers: Mapping[str, Transport], pattern: bytes, kind: bytes
) -> AsyncIterator[tuple[Transport, list[bytes]]]:
    """Yield the keys that match `pattern` and are of this type, in batches, and the server that has them."""
    for server in servers.values():
        cursor: bytes | int = b"0"
        while True:
            command = (b"SCAN", cursor, b"MATCH", pattern, b"COUNT", KEYS_PER_COMMAND, b"TYPE", kind)
            cursor, batch = await run_command(server.read, b"", *command)
            if batch:
                yield server, batch
            if int(cursor) == 0:
                break
