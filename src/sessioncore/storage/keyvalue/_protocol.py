"""What is asked of a key-value store: the calls that every store of py-key-value has, and two that some have.

Described here, so that the storage needs no import of py-key-value.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

__all__ = ["Culls", "KeyValueStore", "Lists"]


class KeyValueStore(Protocol):
    """What is asked of a store; every `AsyncKeyValue` of py-key-value has it."""

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        """Return the value of a key, or None."""
        ...

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: float | None = None
    ) -> None:
        """Set the value of a key for `ttl` seconds."""
        ...

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Remove a key."""
        ...


@runtime_checkable
class Lists(Protocol):
    """A store that can list its keys."""

    async def keys(self, collection: str | None = None, *, limit: int | None = None) -> list[str]:
        """Return the names of the keys, up to a limit that is the store's own business."""
        ...


@runtime_checkable
class Culls(Protocol):
    """A store that can be told to drop what has expired."""

    async def cull(self) -> None:
        """Drop what has expired."""
        ...
