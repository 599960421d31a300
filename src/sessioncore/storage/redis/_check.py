"""Checks the servers: whether each replies, and whether a setting weakens a promise; and finds a key on each master."""

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import cast

from sessioncore.storage._text import bytes_of
from sessioncore.storage.redis._errors import ConnectionLost, ErrorReply, error_of, unavailable
from sessioncore.storage.redis.client._client_transport import ClientTransport
from sessioncore.storage.redis.connection._transport import Command, RedisReply, Transport
from sessioncore.storage.redis.records._commands import checked
from sessioncore.storage.redis.records._format import INDEX_SUFFIX, index_of

__all__ = ["check_servers", "names_on_masters"]

_logger = logging.getLogger("sessioncore")

_HARMLESS = {"noeviction", "volatile-ttl"}  # an owner's index outlives what it lists, so it would be evicted last

# If so many names in a row are of no use, a hash tag in the key_prefix keeps all keys in one slot. A master with fewer
# than about ten of the 16,384 slots may be missed, too: finding it is not worth more of the event loop's time.
_ENOUGH = 10_000

_PING: Command = (b"PING",)
_INFO: Command = (b"INFO",)

# OPTIN and OPTOUT exclude each other. A server that supports tracking, and allows it to this user, names both in its
# error and changes nothing; any other error means that it does not.
_TRACKING: tuple[Command, ...] = (
    (b"HELLO",),
    (b"CLIENT", b"TRACKING", b"ON", b"OPTIN", b"OPTOUT"),
    (b"CLIENT", b"CACHING", b"YES"),
)

# Commands whose rights no call has needed yet, and what fails without them.
_LATER: dict[Command, str] = {
    (b"EVAL", b"return 1", 0): "after a restart of the server, when it has forgotten its scripts, writes will fail",
    (b"SCAN", 0, b"MATCH", b"*" + INDEX_SUFFIX, b"COUNT", 1): "reset(), purge_expired() and counting will fail",
}


async def check_servers(servers: Mapping[str, Transport], *, first: bool) -> None:
    """Send every server a PING; the first time, warn about settings that weaken a promise.

    Raises:
        StorageUnavailable: a server does not reply.
    """
    warnings: dict[str, None] = {}
    for name, server in servers.items():
        commands: list[Command] = [_PING]
        if first:
            commands += [_INFO] if isinstance(server, ClientTransport) else [_INFO, *_LATER, *_TRACKING]
        try:
            found = dict(zip(commands, await server.read(b"", *commands), strict=True))
        except ConnectionLost as exc:
            raise unavailable(exc, name) from exc
        checked(found[_PING])
        if first:
            warnings |= dict.fromkeys([*_about_settings(found), *_about_rights(found), *_about_tracking(found)])
    for text in warnings:
        _logger.warning(text)


def _about_rights(found: Mapping[Command, RedisReply]) -> list[str]:
    return [
        f"{without}: {error_of(reply)}"
        for command, without in _LATER.items()
        if isinstance(reply := found.get(command), ErrorReply)
    ]


def _about_tracking(found: Mapping[Command, RedisReply]) -> list[str]:
    hello, *replies = map(found.get, _TRACKING)
    if hello is None:
        why = "this client's connections are not redis-py's own"
    elif not isinstance(hello, dict):  # it is a list by RESP2
        why = "the connection speaks RESP2: give the client protocol=3, or take protocol=2 out of the URL"
    elif all(reply == b"OK" or (isinstance(reply, ErrorReply) and "OPTOUT" in reply.text) for reply in replies):
        return []
    else:
        why = "the server, its ACL or a proxy refuses CLIENT TRACKING: grant +client|tracking +client|caching"
    weakened = "alive() and end_connections load sessions once in each watch_interval, because Redis reports no changes"
    return [f"{weakened}: {why} (docs/server-settings.md)"]


def _about_settings(found: Mapping[Command, RedisReply]) -> list[str]:
    settings = _parsed(found[_INFO])
    warnings: list[str] = []
    policy = settings.get("maxmemory_policy", "noeviction")
    if policy not in _HARMLESS:  # even without a maxmemory: an operator can set one at any time, and this is asked once
        warnings.append(
            f"Redis runs with maxmemory-policy {policy}: when memory is full it may drop the index of an owner, and "
            "revoke_all() then misses that owner's sessions until their next use; set noeviction or volatile-ttl "
            "(docs/server-settings.md)"
        )
    if settings.get("aof_enabled") == "0":
        warnings.append(
            "Redis runs without an append-only file: after a restart it has its last snapshot or nothing, so sessions "
            "that ended since then live again, and later logins are lost; set appendonly yes (docs/server-settings.md)"
        )
    return warnings


def _parsed(info: RedisReply) -> dict[str, str]:
    if isinstance(info, ErrorReply):
        return {}  # the right to INFO is not required
    if isinstance(info, dict):  # redis-py's own commands parse it
        return {name: str(value) for name, value in cast("dict[str, object]", info).items()}
    lines = info.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def names_on_masters(
    new_name: Callable[[], str], masters: Iterable[str], master_of: Callable[[bytes], str]
) -> dict[str, tuple[str, str, str]]:
    """Return for each master two keys and an owner whose index is there; see `SpreadsKeys`."""
    found: dict[str, list[str]] = {master: [] for master in masters}  # two keys, then an owner
    useless = 0
    while useless < _ENOUGH and any(len(names) < 3 for names in found.values()):
        name = new_name()
        of_key, of_index = (found.setdefault(master_of(key), []) for key in (bytes_of(name), index_of(bytes_of(name))))
        useless += 1
        if len(of_key) < 2:
            of_key.append(name)
            useless = 0
        elif len(of_index) == 2:
            of_index.append(name)
            useless = 0
    return {master: (names[0], names[1], names[2]) for master, names in found.items() if len(names) == 3}
