"""The keys that are watched on one server, whether it pushes their changes or not."""

from collections.abc import Awaitable, Callable
from typing import Any

from sessioncore._watchers import Changed, Watchers
from sessioncore.storage._text import bytes_of, text_of
from sessioncore.storage.redis.connection._waiting import for_each

__all__ = ["WatchedKeys"]


class WatchedKeys(Watchers):
    """The keys that are watched on one server, and the functions to call when they change.

    A server that pushes reports changes itself. Where it does not push, because of the user's
    rights, the protocol or a proxy, each `confirm` reads the values again, and compares their
    hashes with the former ones.
    """

    def watch(self, key: bytes, changed: Changed) -> None:
        """Watch a key. Do so before it is read: the push may come in one packet with the reply."""
        self.add((text_of(key),), changed)

    def answered(self, key: bytes, value: Any, *, pushed: bool) -> None:
        """Note what a watched key holds if its next change will not be pushed."""
        if pushed:
            self.stop_comparing(text_of(key))
        else:
            self.note(text_of(key), hash(value))

    def invalidated(self, keys: list[bytes] | None) -> None:
        """Report that these keys have changed; None: that any may have."""
        if keys is None:
            self.notify_all()
        else:
            for key in keys:
                self.notify(text_of(key))

    async def poll(self, get: Callable[[bytes], Awaitable[list[Any]]]) -> None:
        """Read what is not pushed, and report each key that does not hold what it held."""
        keys = self.compared
        replies = await for_each(keys, lambda key: get(bytes_of(key)))
        self.compare(keys, {key: hash(value) for key, (value, _) in zip(keys, replies, strict=True)})
