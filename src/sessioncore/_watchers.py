"""Who wants to hear of which storage key; for storages with the capability `Watches`."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

__all__ = ["Changed", "Watchers"]

Changed: TypeAlias = Callable[[str], object]


class Watchers:
    """Functions to call when a key changes, each once."""

    __slots__ = ("by_key",)

    def __init__(self) -> None:
        self.by_key: dict[str, list[Changed]] = {}  # empty: nothing is watched

    def add(self, keys: Iterable[str], changed: Changed) -> None:
        """Call `changed` at the next change of each key; a function that is there already is not added again."""
        for key in keys:
            functions = self.by_key.setdefault(key, [])
            if changed not in functions:
                functions.append(changed)

    def remove(self, key: str, changed: Changed) -> None:
        """Do not call `changed` for this key any more."""
        functions = self.by_key.get(key, [])
        if changed in functions:
            functions.remove(changed)
            if not functions:
                del self.by_key[key]

    def tell(self, key: str) -> None:
        """Call the functions for this key, and forget them."""
        for changed in self.by_key.pop(key, ()):
            changed(key)

    def tell_all(self) -> None:
        """Call all functions, because changes may have been missed."""
        for key in list(self.by_key):
            self.tell(key)
