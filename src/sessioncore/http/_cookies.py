"""Reads the session cookie from raw header bytes and writes the Set-Cookie line.

Frameworks unquote, percent-decode and split cookies differently, and in some of them the
value of one cookie can inject another. So the core parses the header bytes itself (RFC
6265bis, section 5.6.3, but strictly), and only the core writes the Set-Cookie line.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from sessioncore.http._ids import AmbiguousID

__all__ = ["CookieSettings", "CookieWriter", "clear_former_cookies", "has_host_prefix", "read_cookie"]

MAX_AGE_CAP = 400 * 24 * 3600  # seconds; browsers cut longer ones (RFC 6265bis, section 5.5)


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


class CookieSettings(Struct, frozen=True):
    """The configured attributes of every session cookie."""

    path: str
    domain: str | None
    secure: bool
    http_only: bool
    same_site: str
    partitioned: bool


class CookieWriter(Struct, frozen=True):
    """Writes the Set-Cookie lines of one cookie; `_cookie_checks` has checked the values."""

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


def has_host_prefix(name: str) -> bool:
    """Return whether browsers keep the cookie `name` at the path "/" of one host only."""
    return name.lower().startswith("__host-")


def clear_former_cookies(
    names: Iterable[str], former: Iterable[tuple[str, str | None]], settings: CookieSettings
) -> list[tuple[str, str]]:
    """Return the headers that delete the cookies `names` in the places where they were before."""
    return [
        ("set-cookie", CookieWriter.build(name, replace(settings, path=path, domain=domain)).clear())
        for name in names
        if not has_host_prefix(name)
        for path, domain in former
    ]
