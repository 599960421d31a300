"""Session IDs: made here, checked here, hashed here.

The raw ID exists in the client and in request memory; the storage and the logs
know its hash only, the *handle*. A stolen database holds nothing that opens a
session.
"""

import re
import secrets
from binascii import b2a_base64
from hashlib import sha256
from typing import Final, TypeGuard

__all__ = ["ID", "consists_of", "handle_of", "is_handle", "is_id", "new_id"]

ID: Final = re.compile(r"[A-Za-z0-9_-]{22,256}")  # 22 characters of base64url hold the 128 bits of ASVS 7.2.3
_TO_URL = bytes.maketrans(b"+/", b"-_")
_HEX = b"0123456789abcdef"


def new_id() -> str:
    """Return a new ID: 32 bytes of the system's CSPRNG as 43 characters of base64url (ASVS 7.2.3)."""
    return b2a_base64(secrets.token_bytes(32), newline=False).translate(_TO_URL, b"=").decode("ascii")


def is_id(text: str) -> bool:
    """Tell whether `text` has the form of an ID: 22 to 256 characters of `A-Za-z0-9_-`."""
    return ID.fullmatch(text) is not None


def handle_of(session_id: str) -> str:
    """Return the public name of the session with this ID: the hex SHA-256 of the ID, 64 characters.

    An ID has at least 128 random bits, so a plain fast hash cannot be reversed by guessing.
    """
    return sha256(session_id.encode("ascii")).hexdigest()


def is_handle(text: object) -> TypeGuard[str]:
    """Tell whether `text` has the form of a handle; checked before it becomes part of a key."""
    return isinstance(text, str) and len(text) == 64 and consists_of(text, _HEX)


def consists_of(text: str, alphabet: bytes) -> bool:
    """Tell whether `text` is ASCII and every character of it stands in `alphabet`."""
    return text.isascii() and not text.encode("ascii").translate(None, alphabet)
