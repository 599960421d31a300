"""The keys that are watched on one server, and who is told when they change.

A server that pushes says itself which keys have changed. Where it does not, by its rights, its
protocol or a proxy, the values are read again whenever a watcher asks for a confirmation.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from sessioncore._watchers import Changed, ComparedWatchers
from sessioncore.storage._text import bytes_of, text_of

__all__ = ["WatchedKeys"]

_AT_ONCE = 64  # reads; a client with a pool of its own takes a connection for each


class WatchedKeys:
    """The watchers of one server's keys; what is read again is remembered by its hash."""

    def __init__(self) -> None:
        self._watchers = ComparedWatchers()  # it compares the keys whose changes are not pushed

    def add(self, key: bytes, changed: Changed) -> None:
        """Watch a key. Do so before it is read: the push may come in one packet with the reply."""
        self._watchers.add((text_of(key),), changed)

    def remove(self, key: str, changed: Changed) -> None:
        """Do not call `changed` for this key any more."""
        self._watchers.remove(key, changed)

    def answered(self, key: bytes, value: Any, *, pushed: bool) -> None:
        """Note what a watched key holds if its next change will not be pushed."""
        if pushed:
            self._watchers.stop_comparing(text_of(key))
        else:
            self._watchers.note(text_of(key), hash(value))

    def invalidated(self, keys: list[bytes] | None) -> None:
        """Tell that these keys have changed; None: that any may have."""
        if keys is None:
            self._watchers.tell_all()
        else:
            for key in keys:
                self._watchers.tell(text_of(key))

    def names(self) -> list[str]:
        """Return the keys."""
        return self._watchers.keys

    async def poll(self, get: Callable[[bytes], Awaitable[list[Any]]]) -> None:
        """Read what is not pushed, and tell of each key that does not hold what it held."""
        polled = self._watchers.compared
        for start in range(0, len(polled), _AT_ONCE):
            some = polled[start : start + _AT_ONCE]
            replies = await asyncio.gather(*(get(bytes_of(key)) for key in some))
            self._watchers.compare(some, {key: hash(value) for key, (value, _) in zip(some, replies, strict=True)})
