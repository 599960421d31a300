"""Keys and owners as bytes: any str can be one, also one that is not valid Unicode."""

from sessioncore._storage_calls import Moved, Unreadable

__all__ = ["bytes_of", "moved_to", "text_of"]


def bytes_of(text: str) -> bytes:
    """Return a key or an owner as it is stored."""
    return text.encode("utf-8", "surrogatepass")


def text_of(raw: bytes) -> str:
    """Return the key or the owner that is stored as `raw`."""
    return raw.decode("utf-8", "surrogatepass")


def moved_to(raw: bytes) -> Moved | Unreadable:
    """Return what a tombstone with the key `raw` says; Unreadable if that is no key, so something else wrote it."""
    try:
        return Moved(text_of(raw))
    except UnicodeDecodeError:
        return Unreadable()
