"""Checks that logins will work, by making each call of the storage with a record that is not a session.

A missing right, a missing table or a server that is a replica is noticed only when something is written.
"""

from collections.abc import Mapping
from secrets import token_hex
from typing import Final

from sessioncore._config import SessionConfig
from sessioncore._errors import StorageError, WritesRefused
from sessioncore._storage_calls import Create, Delete, Load, Move, Replace, Stored, Touch
from sessioncore._storage_capabilities import Opens, SpreadsKeys
from sessioncore._storage_protocol import PROBE_SUFFIX, Storage, capability
from sessioncore.concurrency._gather import gather
from sessioncore.persistence._driver import Driver
from sessioncore.persistence._machine import unexpected_answer

__all__ = ["check_storage"]

_TTL: Final = 45.0  # seconds; a storage may keep an owner's entry for some seconds more, and both end within a minute


async def check_storage(config: SessionConfig, driver: Driver) -> None:
    """Let the storage check itself, if it can, and probe each of its servers.

    Raises:
        WritesRefused: a server takes no writes at the moment, and no other is set up wrong.
        StorageError: it cannot be used.
    """
    if (storage := capability(config.storage, Opens)) is not None:
        await driver.bounded("check", storage.check)

    def new_name() -> str:
        return f"{config.key_prefix}{token_hex(16)}{PROBE_SUFFIX}"

    servers: Mapping[str, tuple[str, str, str]] = {"": (new_name(), new_name(), new_name())}
    if (spread := capability(config.storage, SpreadsKeys)) is not None:
        servers = await driver.bounded("names_on_servers", lambda: spread.names_on_servers(new_name))
        try:
            servers = {server: (key, new_key, owner) for server, (key, new_key, owner) in servers.items()}
        except (AttributeError, TypeError, ValueError) as exc:
            raise unexpected_answer(config.storage, "names_on_servers", servers) from exc
    refused: WritesRefused | None = None
    for server, names in servers.items():
        try:
            await _probe(config.storage, driver, *names)
        except StorageError as exc:
            named = type(exc)(f"{exc} (at {server})") if server else exc
            if not isinstance(named, WritesRefused):
                raise named from exc.__cause__
            refused = named
    if refused is not None:
        raise refused


async def _probe(storage: Storage, driver: Driver, key: str, new_key: str, owner: str) -> None:
    """Make each call of the storage once, on a record that no session has.

    Raises:
        StorageUnavailable: the storage did not reply in time, or takes no writes at the moment.
        StorageError: it refused a call, or did not keep what it had confirmed.
    """
    version = _written("create", await driver.call(Create(key, b"created", _TTL, owner)))
    version = _written("replace", await driver.call(Replace(key, b"replaced", _TTL, version, owner)))
    _written("move", await driver.call(Move(key, new_key, b"moved", _TTL, version, owner)))
    listed, touched, loaded = await gather([
        lambda: driver.bounded("owned_keys", lambda: storage.owned_keys(owner)),
        lambda: driver.call(Touch(new_key, _TTL)),
        lambda: driver.call(Load(new_key)),
    ])  # fmt: skip
    _require("owned_keys", listed == [new_key])
    _require("touch", touched is True)
    _require("load", isinstance(loaded, Stored) and loaded.data == b"moved")
    _require("delete", await driver.call(Delete((new_key,))) == 1)


def _written(call: str, reply: object) -> int:
    """Return the version of a write that must succeed: nothing else knows the keys."""
    _require(call, type(reply) is int)
    assert isinstance(reply, int)
    return reply


def _require(call: str, kept: bool) -> None:
    if not kept:
        raise StorageError(
            f"the storage replied, but {call}() did not find what was written just before: see that nothing else "
            "deletes records of this key_prefix, and that all calls reach the same server"
        )
