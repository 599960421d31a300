"""The keys of each owner's records."""

from collections.abc import Collection

__all__ = ["OwnedKeys"]


class OwnedKeys:
    """Keys by owner. Most owners have one, and a set for one key takes more memory than the rest of its entry."""

    __slots__ = ("_by_owner",)

    def __init__(self) -> None:
        self._by_owner: dict[str, str | set[str]] = {}

    def of(self, owner: str) -> Collection[str]:
        """Return the owner's keys."""
        owned = self._by_owner.get(owner, ())
        return [owned] if isinstance(owned, str) else owned

    def add(self, owner: str, key: str) -> None:
        """Note a key."""
        owned = self._by_owner.get(owner)
        if owned is None:
            self._by_owner[owner] = key
        elif isinstance(owned, str):
            self._by_owner[owner] = {owned, key}
        else:
            owned.add(key)

    def discard(self, owner: str, key: str) -> None:
        """Forget a key that was added."""
        owned = self._by_owner[owner]
        if isinstance(owned, set):
            owned.discard(key)
            if owned:
                return
        del self._by_owner[owner]
