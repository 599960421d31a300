"""The keys that are watched on one server, whether it pushes their changes or not."""

from collections.abc import Awaitable, Callable
from typing import Any

from sessioncore._warnings import Warnings
from sessioncore._watchers import Changed, Watchers
from sessioncore.storage._text import bytes_of, text_of
from sessioncore.storage.redis.connection._waiting import for_each

__all__ = ["WatchedKeys"]

_IN_VAIN = 3  # reports of a key that had not changed, after which it is not tracked any more until a `confirm`
_FORGETS = (
    "Redis keeps reporting changes of sessions that have not changed, so open connections notice an end only once in "
    "each watch_interval: raise tracking-table-max-keys (docs/server-settings.md)"
)


class WatchedKeys(Watchers):
    """The keys that are watched on one server, and the functions to call when they change.

    A server that pushes reports changes itself. Where it does not push, because of the user's
    rights, the protocol or a proxy, each `confirm` reads the values again, and compares their
    hashes with the former ones.

    A server whose tracking table is full forgets one key for each new one, and reports it. If every
    key was then read and tracked again, that would go on without end. So a key that was often
    reported in vain is not tracked any more; the next `confirm` reports it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pushed: set[str] = set()  # the keys that the server has reported, and that were not read since
        self._in_vain: dict[str, tuple[int, int]] = {}  # a hash of the value, and the number of such reports
        self._warnings = Warnings()

    def watch(self, key: bytes, changed: Changed) -> bool:
        """Watch a key; return whether it should be tracked.

        Do so before it is read: the push may come in one packet with the reply.
        """
        name = text_of(key)
        self.add((name,), changed)
        return name not in self._in_vain or self._in_vain[name][1] < _IN_VAIN

    def answered(self, key: bytes, value: Any, *, pushed: bool) -> None:
        """Note what a watched key holds if its next change will not be pushed."""
        name, held = text_of(key), hash(value)
        if name in self._pushed:
            self._pushed.discard(name)
            former, times = self._in_vain.get(name, (held, -1))
            self._in_vain[name] = held, times + 1 if former == held else 0
        if pushed:
            self.stop_comparing(name)
        else:
            self.note(name, held)

    def invalidated(self, keys: list[bytes] | None) -> None:
        """Report that these keys have changed; None: that any may have."""
        if keys is None:
            self.notify_all()
        else:
            for name in map(text_of, keys):
                if name in self.by_key:
                    self._pushed.add(name)
                self.notify(name)

    async def poll(self, get: Callable[[bytes], Awaitable[list[Any]]]) -> None:
        """Read what is not pushed, and report each key that does not hold what it held, or is not tracked for now."""
        untracked = {name: (held, _IN_VAIN - 1) for name, (held, times) in self._in_vain.items() if times >= _IN_VAIN}
        self._in_vain = untracked  # one more report in vain, and these are not tracked again
        self._pushed.clear()  # of keys that are not watched any more
        if untracked:
            self._warnings.warn(_FORGETS)
        for name in untracked:
            self.notify(name)
        keys = self.compared
        replies = await for_each(keys, lambda key: get(bytes_of(key)))
        self.compare(keys, {key: hash(value) for key, (value, _) in zip(keys, replies, strict=True)})
