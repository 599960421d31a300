"""The calls to a key-value store, three that every store of py-key-value has, and two that some have; and its errors.

Declared here, so that the storage need not import py-key-value: errors are known by the names of their classes.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

__all__ = ["NOT_OURS", "REFUSALS", "KeyValueStore", "SupportsCull", "SupportsKeys"]

REFUSALS = frozenset({
    "EntryTooLargeError", "EntryTooSmallError", "InvalidKeyError", "InvalidTTLError", "ReadOnlyError",
    "SerializationError", "ValueTooLargeError",
})  # fmt: skip

NOT_OURS = frozenset({"CorruptedDataError", "DecryptionError", "DeserializationError", "EncryptionVersionError"})
"""Something is at the key, but the store cannot read it: another program wrote it, or it has another encryption key."""


class KeyValueStore(Protocol):
    """A key-value store, such as every `AsyncKeyValue` of py-key-value."""

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
class SupportsKeys(Protocol):
    """A store that can list its keys."""

    async def keys(self, collection: str | None = None, *, limit: int | None = None) -> list[str]:
        """Return the names of the keys, up to `limit`, or up to a limit of the store's own."""
        ...


@runtime_checkable
class SupportsCull(Protocol):
    """A store that removes expired values on request."""

    async def cull(self) -> None:
        """Remove what has expired."""
        ...
