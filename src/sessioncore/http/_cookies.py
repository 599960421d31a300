"""Reads the session cookie from raw header bytes and writes the Set-Cookie line.

Frameworks unquote, percent-decode and split cookies differently, and in some of them the
value of one cookie can inject another. So the core parses the header bytes itself (RFC
6265bis, section 5.6.3, but strictly), and only the core writes the Set-Cookie line.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeGuard, cast

from msgspec import Struct

from sessioncore._errors import ConfigError

__all__ = ["AmbiguousID", "CookieSettings", "CookieWriter", "check_cookie", "cookie_pair", "is_token", "read_cookie"]

MAX_AGE_CAP = 400 * 24 * 3600  # seconds; browsers cut longer ones (RFC 6265bis, section 5.5)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")  # RFC 9110, section 5.6.2
_PATH = re.compile(r"/[!-+\--:<-~]*")  # av-octets without comma and space, so that a path cannot end the attribute
_DOMAIN = re.compile(r"\.?(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")


class AmbiguousID(Exception):
    """One place of the request holds two different IDs, and nothing tells which one is right."""


def read_cookie(headers: Sequence[bytes], name: bytes) -> str | None:
    """Return the raw value of the cookie `name`, or None; takes time linear in the length of the headers.

    Headers are split on `;` only, SP and HTAB are trimmed, names are compared byte by byte,
    and nothing is decoded. So only a cookie that a browser stored under this name is found.

    Raises:
        AmbiguousID: the name occurs with two different values; a sibling host or a plain http
            response may have injected one of them.
    """
    if len(headers) == 1:  # browsers send one header, `a=1; b=2`, which need not be split
        before, equals, rest = headers[0].partition(name + b"=")
        value, _, after = rest.partition(b";")
        # partition() is the fastest way to search in bytes.
        if not before.partition(name)[1] and not after.partition(name)[1]:
            if not equals:
                return None
            if not before or before.endswith(b"; "):
                return value.strip(b" \t").decode("latin-1")
    found: bytes | None = None
    for header in headers:
        for pair in header.split(b";"):
            key, equals, value = pair.partition(b"=")
            if equals and key.strip(b" \t") == name:
                value = value.strip(b" \t")
                if found is not None and found != value:
                    raise AmbiguousID
                found = value
    return None if found is None else found.decode("latin-1")


def is_token(text: object) -> TypeGuard[str]:
    """Tell whether `text` can be a cookie or header name (a token of RFC 9110)."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


def cookie_pair(name: str, session_id: str) -> str:
    """Return `name=value` as a client sends it back in its Cookie header."""
    return f"{name}={session_id}"


class CookieSettings(Struct, frozen=True):
    """The configured attributes of every session cookie."""

    path: str
    domain: str | None
    secure: bool
    http_only: bool
    same_site: str
    partitioned: bool


class CookieWriter(Struct, frozen=True):
    """Writes the Set-Cookie lines of one cookie; `check_cookie` has checked the name and the settings."""

    name: str
    attributes: str

    @classmethod
    def build(cls, name: str, settings: CookieSettings) -> "CookieWriter":
        """Join the attributes once; a deletion must repeat them all, or the browser keeps the cookie."""
        attributes = [f"Path={settings.path}"]
        if settings.domain is not None:
            attributes.append(f"Domain={settings.domain}")
        if settings.http_only:
            attributes.append("HttpOnly")
        if settings.secure:
            attributes.append("Secure")
        attributes.append(f"SameSite={settings.same_site.capitalize()}")
        if settings.partitioned:
            attributes.append("Partitioned")
        return cls(name, "; ".join(attributes))

    def set(self, session_id: str, seconds: float | None) -> str:
        """Return the line that sets the cookie to this ID, to expire after `seconds` (rounded, at most 400 days).

        None: the browser drops the cookie when it closes.
        """
        if seconds is None:
            return f"{self.name}={session_id}; {self.attributes}"
        return f"{self.name}={session_id}{_max_age_suffix(round(seconds), self.attributes)}"

    def clear(self) -> str:
        """Return the line that deletes the cookie; Expires is for clients that ignore Max-Age."""
        return f"{self.name}=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; {self.attributes}"


@lru_cache(maxsize=512)  # new sessions all have the same Max-Age
def _max_age_suffix(seconds: int, attributes: str) -> str:
    return f"; Max-Age={min(max(seconds, 0), MAX_AGE_CAP)}; {attributes}"


def check_cookie(name: str, settings: CookieSettings) -> None:
    """Refuse settings with which a browser would reject the cookie or an attacker could inject attributes.

    Raises:
        ConfigError: a name, path or domain has forbidden characters, a name prefix lacks its
            required attributes (RFC 6265bis, section 4.1.3), or SameSite=None or Partitioned
            lacks Secure.
    """
    if not is_token(name) or len(name) > 256:
        raise ConfigError(f"{name!r} cannot be a cookie name: use up to 256 letters, digits, '-' and '_'")
    path, domain = cast("tuple[object, object]", (settings.path, settings.domain))  # not every caller is type-checked
    if not isinstance(path, str) or not _PATH.fullmatch(path) or len(path) > 1024:
        raise ConfigError(
            "cookie_path must begin with '/' and contain no space, comma, ';', control or non-ASCII character"
        )
    if domain is not None and (not isinstance(domain, str) or not _DOMAIN.fullmatch(domain) or len(domain) > 253):
        raise ConfigError("cookie_domain must be a plain host name such as 'example.com', or None")
    if settings.same_site not in ("lax", "strict", "none"):
        raise ConfigError(f"cookie_same_site must be 'lax', 'strict' or 'none', not {settings.same_site!r}")
    _check_prefix(name.lower(), settings)
    if settings.same_site == "none" and not settings.secure:
        raise ConfigError("cookie_same_site='none' needs cookie_secure=True, or browsers reject the cookie")
    if settings.partitioned and not settings.secure:
        raise ConfigError("cookie_partitioned=True needs cookie_secure=True, or browsers reject the cookie")


def _check_prefix(lowered: str, settings: CookieSettings) -> None:
    """Check the attributes that a name prefix requires; like browsers, compare prefixes without case."""
    if lowered.startswith(("__host-", "__secure-", "__http-")) and not settings.secure:
        raise ConfigError(
            "a cookie named __Host-, __Secure- or __Http- needs cookie_secure=True; for plain http on your own "
            "machine use SessionConfig.development(), with its default cookie name or another name without a prefix"
        )
    if lowered.startswith("__host-") and (settings.path != "/" or settings.domain is not None):
        raise ConfigError("a cookie named __Host- needs cookie_path='/' and no cookie_domain")
    if lowered.startswith(("__http-", "__host-http-")) and not settings.http_only:
        raise ConfigError("a cookie named __Http- or __Host-Http- needs cookie_http_only=True")
