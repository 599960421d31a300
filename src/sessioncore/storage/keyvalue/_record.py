"""The form of a record in a plain key-value store.

Such a store keeps small dictionaries under text keys and knows no versions. So each
record holds its own version, end and owner, all as text: not every backend keeps numbers
and bytes. Nothing here talks to a store.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from contextlib import suppress
from math import isfinite
from typing import Any
from urllib.parse import quote, unquote

from msgspec import Struct

from sessioncore._opaque import Opaque
from sessioncore._storage_calls import Stored, Unreadable
from sessioncore._storage_protocol import PROBE_SUFFIX

__all__ = ["Record", "keys_of", "name_of", "session_keys"]


def name_of(key: str) -> str:
    """Return the name of a key in the store: printable ASCII, reversible."""
    return quote(key, safe=":", errors="surrogatepass")


def keys_of(names: Iterable[str]) -> list[str]:
    """Return the keys that `name_of` was given; names that it cannot have made are left out."""
    keys: list[str] = []
    for name in names:
        with suppress(UnicodeDecodeError):
            keys.append(unquote(name, errors="surrogatepass"))
    return keys


def session_keys(names: Iterable[str], prefix: str) -> list[str]:
    """Return the keys with these names that begin with `prefix`, without those of a `check`."""
    return [key for key in keys_of(names) if key.startswith(prefix) and not key.endswith(PROBE_SUFFIX)]


class Record(Opaque, Struct, frozen=True):
    """A record with what the store does not keep for us; `expires_at` is in seconds since the epoch."""

    data: bytes
    version: int
    expires_at: float
    owner: str | None
    # While a move is under way, the new record names the old key, and counts only if the old record names the new key.
    replaces: str | None = None  # the old key
    moved_to: str | None = None  # the new key
    not_ours: bool = False  # something else is at the key: it is Unreadable, and never overwritten

    def has(self, version: int) -> bool:
        """Return whether a write that expects this version may overwrite it."""
        return self.version == version and not self.not_ours

    def stored(self, now: float) -> Stored | Unreadable:
        """Return what the caller of the storage sees."""
        return Unreadable() if self.not_ours else Stored(self.data, self.version, self.expires_at - now)

    def pack(self) -> dict[str, Any]:
        """Return the dictionary for the store."""
        return {
            "data": b64encode(self.data).decode(),
            "version": str(self.version),
            "expires_at": repr(self.expires_at),
            "owner": self.owner or "",
            "behind": self.replaces or "",  # its name in records that exist already
            "moved_to": self.moved_to or "",
        }

    @classmethod
    def unpack(cls, value: Mapping[str, Any], now: float) -> "Record":
        """Read what `pack` made; anything else becomes a record that is not ours."""
        try:
            record = cls(
                b64decode(value["data"], validate=True),
                int(value["version"]),
                float(value["expires_at"]),
                str(value["owner"]) or None,
                str(value["behind"]) or None,
                str(value["moved_to"]) or None,
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            pass
        else:
            if isfinite(record.expires_at):  # every record of ours has an end
                return record
        return cls(b"", 0, now + 1.0, None, not_ours=True)
