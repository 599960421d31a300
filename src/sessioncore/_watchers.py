"""The functions to call when a storage key changes; for storages with the capability `Watches`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import RLock
from typing import TypeAlias

from sessioncore._storage_calls import Moved, Stored, Unreadable

__all__ = ["Changed", "Held", "Watchers", "held_of"]

Changed: TypeAlias = Callable[[str], object]

Held: TypeAlias = int | str | None
"""What a key holds, in short: the version of its record (or a hash), where a tombstone leads, or nothing."""


class Watchers:
    """Functions to call when a key changes, each once for each key. Any thread may use them.

    A storage to which no changes are reported notes what a watched key holds, and compares.
    """

    __slots__ = ("_held", "_mutex", "by_key")

    def __init__(self) -> None:
        self.by_key: dict[str, list[Changed]] = {}  # empty: nothing is watched
        self._held: dict[str, Held] = {}
        self._mutex = RLock()

    def add(self, keys: Iterable[str], changed: Changed) -> None:
        """Call `changed` at the next change of each key; add it before the keys are read."""
        with self._mutex:
            for key in keys:
                functions = self.by_key.setdefault(key, [])
                if changed not in functions:
                    functions.append(changed)

    def remove(self, key: str, changed: Changed) -> None:
        """Do not call `changed` for this key any more."""
        with self._mutex:
            functions = self.by_key.get(key, [])
            if changed in functions:
                functions.remove(changed)
                if not functions:
                    del self.by_key[key]
                    self._held.pop(key, None)

    def notify(self, key: str) -> None:
        """Call the functions for this key, and forget them."""
        with self._mutex:
            self._held.pop(key, None)
            functions = self.by_key.pop(key, ())
        for changed in functions:
            changed(key)

    def notify_all(self) -> None:
        """Call all functions, because changes may have been missed."""
        with self._mutex:
            for key in list(self.by_key):
                self.notify(key)

    # -- what the keys hold

    @property
    def keys(self) -> list[str]:
        """The keys that are watched."""
        with self._mutex:
            return list(self.by_key)

    @property
    def compared(self) -> list[str]:
        """The keys whose former contents are known."""
        with self._mutex:
            return list(self._held)

    def note_answers(self, keys: Sequence[str], answers: Sequence[Stored | Moved | Unreadable | None]) -> None:
        """Note what the keys hold, as it was just returned to their watchers."""
        for key, answer in zip(keys, answers, strict=True):
            self.note(key, held_of(answer))

    def note(self, key: str, held: Held) -> None:
        """Note what a key holds, as it was just returned to a watcher; nothing if the key is no longer watched."""
        with self._mutex:
            if key in self.by_key and self._held.setdefault(key, held) != held:
                self.notify(key)  # another watcher knows something older

    def stop_comparing(self, key: str) -> None:
        """Forget what a key holds, because its next change will be reported."""
        self._held.pop(key, None)

    def compare(self, keys: Iterable[str], now: Mapping[str, Held]) -> None:
        """Call the functions for each key that no longer holds what it held when it was read."""
        with self._mutex:
            for key in keys:
                if key in self._held and self._held[key] != now.get(key):
                    self.notify(key)


def held_of(answer: Stored | Moved | Unreadable | None) -> Held:
    """Return what a key holds, by the answer to a load: no answer and one that cannot be read are the same."""
    if isinstance(answer, Stored):
        return answer.version
    return answer.key if isinstance(answer, Moved) else None
