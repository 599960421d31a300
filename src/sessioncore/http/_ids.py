"""Generates, checks and hashes session IDs.

Only the client and the memory of a request hold the raw ID. The storage and the logs have
its hash, the *handle*, so a stolen database contains nothing that can be used as an ID.
"""

import re
import secrets
from binascii import b2a_base64
from hashlib import sha256
from typing import Final, TypeGuard

__all__ = ["ID_PATTERN", "AmbiguousID", "handle_of", "is_handle", "is_id", "new_id"]

ID_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{22,256}")  # 22 characters of base64url hold the 128 bits of ASVS 7.2.3
_HANDLE = re.compile(r"[0-9a-f]{64}")
_TO_BASE64URL = bytes.maketrans(b"+/", b"-_")


class AmbiguousID(Exception):
    """One place of the request holds two different IDs, and nothing tells which one is right."""


def new_id() -> str:
    """Return a new ID: 32 bytes of the system's CSPRNG as 43 characters of base64url (ASVS 7.2.3)."""
    return b2a_base64(secrets.token_bytes(32), newline=False).translate(_TO_BASE64URL, b"=").decode()


def is_id(text: str) -> bool:
    """Return whether `text` is well-formed as an ID: 22 to 256 characters of `A-Za-z0-9_-`."""
    return ID_PATTERN.fullmatch(text) is not None


def handle_of(session_id: str) -> str:
    """Return the public name of the session with this ID: the SHA-256 of the ID as 64 hex digits.

    An ID has at least 128 random bits, so even a fast hash cannot be reversed by guessing.
    """
    return sha256(session_id.encode()).hexdigest()


def is_handle(text: object) -> TypeGuard[str]:
    """Return whether `text` is well-formed as a handle; check this before it becomes part of a storage key."""
    return isinstance(text, str) and _HANDLE.fullmatch(text) is not None
