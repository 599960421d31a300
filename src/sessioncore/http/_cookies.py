"""The session cookie: read from raw bytes, written as text.

Frameworks unquote, percent-decode and split cookies each in its own way, and
some let one cookie's value plant another. So the core reads the header bytes
itself (RFC 6265bis, section 5.6.3 without its leniency) and is the only one to
write the Set-Cookie line.
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
_PATH = re.compile(r"/[!-+\--:<-~]*")  # av-octets less comma and space: nothing that could end the attribute
_DOMAIN = re.compile(r"\.?(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")


class AmbiguousID(Exception):
    """One place of the request offers two different IDs; whose is right cannot be known."""


def read_cookie(headers: Sequence[bytes], name: bytes) -> str | None:
    """Return the raw value of the cookie `name`, or None; linear in the length of the headers.

    Split on `;` only, trim SP and HTAB only, compare the name byte by byte, decode
    nothing: what a browser would not have sent under this name is not found.

    Raises:
        AmbiguousID: the name occurs with two different values (a sibling host or
            plain http planted one of them).
    """
    if len(headers) == 1:  # browsers send one header, `a=1; b=2`: then there is no need to split it
        before, equals, rest = headers[0].partition(name + b"=")
        value, _, after = rest.partition(b";")
        # partition() is the cheapest of the searches in bytes.
        if not before.partition(name)[1] and not after.partition(name)[1]:
            if not equals:
                return None
            if not before or before[-2:] == b"; ":
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
    """What the configuration says of every session cookie."""

    path: str
    domain: str | None
    secure: bool
    http_only: bool
    same_site: str
    partitioned: bool
    session_only: bool


class CookieWriter(Struct, frozen=True):
    """Writes the Set-Cookie lines of one cookie; the fields were checked by `check_cookie`."""

    name: str
    attributes: str
    session_only: bool

    @classmethod
    def build(cls, name: str, settings: CookieSettings) -> "CookieWriter":
        """Join the attributes once; a deletion must repeat each of them, or the browser keeps the cookie."""
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
        return cls(name, "; ".join(attributes), settings.session_only)

    def set(self, session_id: str, seconds: float) -> str:
        """Return the line that gives the client this ID for so many seconds (rounded, at most 400 days)."""
        if self.session_only:
            return f"{self.name}={session_id}; {self.attributes}"
        return f"{self.name}={session_id}{_tail(round(seconds), self.attributes)}"

    def clear(self) -> str:
        """Return the line that makes the client forget the cookie (Expires is for what ignores Max-Age)."""
        return f"{self.name}=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; {self.attributes}"


@lru_cache(maxsize=512)  # new sessions all get the same one
def _tail(seconds: int, attributes: str) -> str:
    return f"; Max-Age={min(max(seconds, 0), MAX_AGE_CAP)}; {attributes}"


def check_cookie(name: str, settings: CookieSettings) -> None:
    """Refuse what a browser would drop or an attacker could use.

    Raises:
        ConfigError: a name, path or domain with forbidden characters, a name prefix
            without the attributes that it promises (RFC 6265bis, section 4.1.3),
            SameSite=None or Partitioned without Secure.
    """
    if not is_token(name) or len(name) > 256:
        raise ConfigError(f"{name!r} cannot be a cookie name: use up to 256 letters, digits, '-' and '_'")
    path, domain = cast("tuple[object, object]", (settings.path, settings.domain))  # not every caller is type-checked
    if not isinstance(path, str) or not _PATH.fullmatch(path) or len(path) > 1024:
        raise ConfigError(
            "cookie_path must begin with '/' and hold no space, comma, ';', control or non-ASCII character"
        )
    if domain is not None and (not isinstance(domain, str) or not _DOMAIN.fullmatch(domain) or len(domain) > 253):
        raise ConfigError("cookie_domain must be a plain host name such as 'example.com', or None")
    if settings.same_site not in ("lax", "strict", "none"):
        raise ConfigError(f"cookie_same_site must be 'lax', 'strict' or 'none', not {settings.same_site!r}")
    _check_prefix(name.lower(), settings)
    if settings.same_site == "none" and not settings.secure:
        raise ConfigError("cookie_same_site='none' needs cookie_secure=True: browsers drop the cookie otherwise")
    if settings.partitioned and not settings.secure:
        raise ConfigError("cookie_partitioned=True needs cookie_secure=True: browsers drop the cookie otherwise")


def _check_prefix(lowered: str, settings: CookieSettings) -> None:
    """Hold a cookie to its name's prefix; browsers compare the prefix case-insensitively, so do we."""
    if lowered.startswith(("__host-", "__secure-", "__http-")) and not settings.secure:
        raise ConfigError(
            "a cookie named __Host-, __Secure- or __Http- needs cookie_secure=True; for plain http on your own "
            "machine use SessionConfig.development() with its own cookie name, or with one that has no such prefix"
        )
    if lowered.startswith("__host-") and (settings.path != "/" or settings.domain is not None):
        raise ConfigError("a cookie named __Host- needs cookie_path='/' and no cookie_domain")
    if lowered.startswith(("__http-", "__host-http-")) and not settings.http_only:
        raise ConfigError("a cookie named __Http- or __Host-Http- needs cookie_http_only=True")
