"""The keys that are watched on one server, and who is told when they change.

A server that pushes says itself which keys have changed. Where it does not, by its rights, its
protocol or a proxy, the values are read again whenever a watcher asks for a confirmation.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sessioncore._watchers import Changed, Watchers
from sessioncore.storage.redis._format import bytes_of, text_of

__all__ = ["WatchedKeys"]

_AT_ONCE = 64  # reads; a client with a pool of its own takes a connection for each


class WatchedKeys:
    """The watchers of one server's keys; what is read again is remembered by its hash."""

    def __init__(self) -> None:
        self._watchers = Watchers()
        self._polled: dict[str, int] = {}

    def add(self, key: bytes, changed: Changed) -> None:
        """Watch a key. Do so before it is read: the push may come in one packet with the reply."""
        self._watchers.add((text_of(key),), changed)

    def remove(self, key: str, changed: Changed) -> None:
        """Do not call `changed` for this key any more."""
        self._watchers.remove(key, changed)
        if key not in self._watchers.by_key:
            self._polled.pop(key, None)

    def answered(self, key: bytes, value: Any, *, pushed: bool) -> None:
        """Note what a watched key holds if its next change will not be pushed."""
        name = text_of(key)
        if pushed:
            self._polled.pop(name, None)
        elif name in self._watchers.by_key:
            self._polled[name] = hash(value)

    def invalidated(self, keys: list[bytes] | None) -> None:
        """Tell that these keys have changed; None: that any may have."""
        if keys is None:
            self._polled.clear()
            self._watchers.tell_all()
        else:
            for key in keys:
                self._watchers.tell(text_of(key))

    def names(self) -> list[str]:
        """Return the keys."""
        return list(self._watchers.by_key)

    async def poll(self, get: Callable[[bytes], Awaitable[list[Any]]]) -> None:
        """Read what is not pushed, and tell of each key that does not hold what it held."""
        polled = list(self._polled.items())
        for start in range(0, len(polled), _AT_ONCE):
            some = polled[start : start + _AT_ONCE]
            for (key, known), (value, _) in zip(
                some, await asyncio.gather(*(get(bytes_of(key)) for key, _ in some)), strict=True
            ):
                if hash(value) != known:
                    self._polled.pop(key, None)
                    self._watchers.tell(key)
