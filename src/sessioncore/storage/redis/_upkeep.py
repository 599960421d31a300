"""Calls that go through all keys of each server, by SCAN, in batches of some hundred: others are served in between."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from sessioncore._storage_protocol import PROBE_SUFFIX
from sessioncore.storage.redis._commands import KEYS_PER_COMMAND, run_script, scan
from sessioncore.storage.redis._errors import AclDenied
from sessioncore.storage.redis._format import INDEX_SUFFIX, glob_of
from sessioncore.storage.redis._scripts import PRUNE
from sessioncore.storage.redis._transport import Transport

__all__ = ["clear", "purge"]

_LOG = logging.getLogger("sessioncore.storage.redis")
_PROBE = PROBE_SUFFIX.encode()


async def clear(
    servers: Mapping[str, Transport], prefix: bytes, delete: Callable[[list[bytes]], Awaitable[int]]
) -> int:
    """End the records whose keys begin with `prefix`; return how many."""
    ended = 0
    for server in servers.values():
        async for batch in scan(server, glob_of(prefix), b"string"):
            ended += await delete([key for key in batch if key.startswith(prefix) and not key.endswith(_PROBE)])
            _LOG.debug("cleared %d records so far", ended)
    return ended


async def purge(servers: Mapping[str, Transport]) -> int:
    """Drop the index entries of expired records; return how many."""
    dropped = 0
    for server in servers.values():
        async for batch in scan(server, b"*" + INDEX_SUFFIX, b"zset"):
            for index in batch:
                # SCAN also returns keys that the ACL denies, such as an index of a store with another prefix.
                with suppress(AclDenied):
                    while (some := await run_script(server.read, PRUNE, (index,), (KEYS_PER_COMMAND,))) > 0:
                        dropped += some
                        _LOG.debug("dropped %d index entries so far", dropped)
    return dropped
