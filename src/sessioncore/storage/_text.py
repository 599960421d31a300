"""Keys and owners as bytes: any str can be one, also one that is not valid Unicode."""

from collections.abc import Iterable
from contextlib import suppress

from sessioncore._storage_calls import Moved, Unreadable

__all__ = ["bytes_of", "keys_of", "moved_to", "text_of"]


def bytes_of(text: str) -> bytes:
    """Return a key or an owner as it is stored."""
    return text.encode("utf-8", "surrogatepass")


def text_of(raw: bytes) -> str:
    """Return the key or the owner that is stored as `raw`."""
    return raw.decode("utf-8", "surrogatepass")


def keys_of(raws: Iterable[bytes]) -> list[str]:
    """Return the keys that are stored as `raws`, without those that only another program can have written."""
    keys: list[str] = []
    for raw in raws:
        with suppress(UnicodeDecodeError):
            keys.append(text_of(raw))
    return keys


def moved_to(raw: bytes) -> Moved | Unreadable:
    """Return what a tombstone with the key `raw` says; Unreadable if that is no key, so something else wrote it."""
    try:
        return Moved(text_of(raw))
    except UnicodeDecodeError:
        return Unreadable()
