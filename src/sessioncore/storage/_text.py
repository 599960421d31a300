"""Keys and owners as bytes: any str can be one, also one that is not valid Unicode."""

__all__ = ["bytes_of", "text_of"]


def bytes_of(text: str) -> bytes:
    """Return a key or an owner as it is stored."""
    return text.encode("utf-8", "surrogatepass")


def text_of(raw: bytes) -> str:
    """Return the key or the owner that is stored as `raw`."""
    return raw.decode("utf-8", "surrogatepass")
