"""Which names cookies and headers of the session can have."""

import re
from typing import Final, TypeGuard

from sessioncore._errors import ConfigError

__all__ = ["check_cookie_name", "check_header_name", "is_token"]

_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2
_LONGEST_COOKIE_NAME: Final = 256
_RESERVED_HEADERS: Final = frozenset({  # an ID in the response's header of this name would break the response
    "cache-control", "connection", "content-length", "content-type", "cookie", "date", "host", "location", "set-cookie",
    "transfer-encoding", "upgrade", "vary",
})  # fmt: skip


def is_token(text: object) -> TypeGuard[str]:
    """Return whether `text` is a token of RFC 9110, as are the names of cookies and headers."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


def check_cookie_name(name: object) -> None:
    """Raise ConfigError for what cannot be the name of a cookie."""
    if not is_token(name) or len(name) > _LONGEST_COOKIE_NAME:
        raise ConfigError(
            f"{name!r} cannot be a cookie name: use up to {_LONGEST_COOKIE_NAME} letters, digits, '-' and '_'"
        )


def check_header_name(name: object) -> None:
    """Raise ConfigError for what cannot be the name of a header, or has a meaning of its own in HTTP."""
    if not is_token(name):
        raise ConfigError(f"{name!r} cannot be a header name: use letters, digits and '-'")
    if name.lower() in _RESERVED_HEADERS:
        raise ConfigError(f"the header {name} has a meaning of its own: use another name, such as 'X-Session-ID'")
