"""Opens a storage, and checks with a record of its own that logins will work.

A missing right, a replica or a missing table is noticed only when something is written.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from secrets import token_hex
from typing import Final
from weakref import WeakKeyDictionary

from anyio import CancelScope

from sessioncore._config import SessionConfig
from sessioncore._cross_loop import CrossLoopLock, event_loop, has_ended
from sessioncore._errors import StorageError, WritesRefused
from sessioncore._gather import gather
from sessioncore._storage_calls import Create, Delete, Load, Move, Replace, Stored, Touch
from sessioncore._storage_capabilities import Opens, SpreadsKeys
from sessioncore._storage_protocol import PROBE_SUFFIX, Storage, capability
from sessioncore.persistence._driver import Driver

__all__ = ["Opening", "check_storage"]

_logger = logging.getLogger("sessioncore")

_TTL: Final = 45.0  # seconds; a storage may keep an owner's entry for some seconds more, and both end within a minute


class Opening:
    """Opens and closes the storage. Of `async with store` blocks that are open at a time, the last one closes it."""

    __slots__ = ("_blocks", "_config", "_driver", "_stop_watching", "_turns")

    def __init__(self, config: SessionConfig, driver: Driver, stop_watching: Callable[[], None]) -> None:
        self._config = config
        self._driver = driver
        self._stop_watching = stop_watching  # open connections, in this event loop
        self._blocks = WeakKeyDictionary[object, int]()  # how many are open, by event loop
        self._turns = CrossLoopLock()

    async def open(self, *, block: bool) -> None:
        """Open and check the storage; if it takes no writes at the moment, log that.

        `block`: begin a block, which keeps those that end from closing the storage, until `leave`.

        Raises:
            StorageError: it cannot be used.
        """
        try:
            async with self._turns:  # a block that ends in another thread must not close what this one has opened
                await self._open_and_check()
                if block:
                    loop = event_loop()
                    self._blocks[loop] = self._blocks.get(loop, 0) + 1
        except BaseException:
            with suppress(Exception):  # what has stopped the start says more
                await self._close_unless_used()
            raise

    async def leave(self) -> None:
        """End a block."""
        loop = event_loop()
        others = self._blocks.pop(loop, 0) - 1
        if others > 0:
            self._blocks[loop] = others
        else:
            self._stop_watching()
            await self._close_unless_used()

    async def close(self) -> None:
        """Close the storage at once, also if a block is open."""
        self._stop_watching()
        if (storage := capability(self._config.storage, Opens)) is not None:
            await storage.aclose()

    async def _close_unless_used(self) -> None:
        with CancelScope(shield=True):
            async with self._turns:
                loops = [loop() for loop in self._blocks.keyrefs()]  # in one step: other threads begin and end blocks
                if all(loop is None or has_ended(loop) for loop in loops):
                    await self.close()

    async def _open_and_check(self) -> None:
        if (storage := capability(self._config.storage, Opens)) is None:
            return
        try:
            await storage.open()
            await check_storage(self._config, self._driver)
        except WritesRefused as exc:
            _logger.error(  # noqa: TRY400 - the text says it all
                "the storage takes no writes: until it does, they are answered with status 503: %s", exc
            )


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
    refused: WritesRefused | None = None
    for server, names in servers.items():
        try:
            await _probe(config.storage, driver, *names)
        except StorageError as exc:
            named = type(exc)(f"{exc} (at {server})") if server else exc
            if not isinstance(named, WritesRefused):
                raise named from exc.__cause__
            refused = refused or named
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
