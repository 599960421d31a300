"""Reads the session cookie from raw header bytes and writes the Set-Cookie line.

Frameworks unquote, percent-decode and split cookies differently, and in some of them the
value of one cookie can inject another. So the core parses the header bytes itself (RFC
6265bis, section 5.6.3, but strictly), and only the core writes the Set-Cookie line.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TypeGuard, cast

from msgspec import Struct
from msgspec.structs import replace

from sessioncore._errors import ConfigError

__all__ = [
    "AmbiguousID", "CookieSettings", "CookieWriter", "check_cookie", "check_cookie_place", "check_former_cookies",
    "clear_former_cookies", "is_token", "read_cookie",
]  # fmt: skip

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
    """Return whether `text` can be a cookie or header name (a token of RFC 9110)."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


class CookieSettings(Struct, frozen=True):
    """The configured attributes of every session cookie."""

    path: str
    domain: str | None
    secure: bool
    http_only: bool
    same_site: str
    partitioned: bool


class CookieWriter(Struct, frozen=True):
    """Writes the Set-Cookie lines of one cookie; `check_cookie` and `check_cookie_place` have checked the values."""

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
    """Refuse a name and settings with which a browser would reject the cookie, or that could inject attributes.

    Raises:
        ConfigError: the name has forbidden characters, a name prefix lacks its required attributes
            (RFC 6265bis, section 4.1.3), or SameSite=None or Partitioned lacks Secure.
    """
    if not is_token(name) or len(name) > 256:
        raise ConfigError(f"{name!r} cannot be a cookie name: use up to 256 letters, digits, '-' and '_'")
    _check_prefix(name.lower(), settings)
    if settings.same_site == "none" and not settings.secure:
        raise ConfigError("cookie_same_site='none' needs cookie_secure=True, or browsers reject the cookie")
    if settings.partitioned and not settings.secure:
        raise ConfigError("cookie_partitioned=True needs cookie_secure=True, or browsers reject the cookie")


def check_cookie_place(settings: CookieSettings) -> None:
    """Refuse a path or a domain that could inject attributes.

    Raises:
        ConfigError: it has forbidden characters, or is too long.
    """
    _check_path("cookie_path", settings.path)
    _check_domain("cookie_domain", settings.domain)


def _check_path(field: str, path: object) -> None:
    if not isinstance(path, str) or not _PATH.fullmatch(path) or len(path) > 1024:
        raise ConfigError(
            f"{field} must begin with '/', be no longer than 1024 characters and contain no space, comma, ';', control "
            "or non-ASCII character"
        )


def _check_domain(field: str, domain: object) -> None:
    if domain is not None and (not isinstance(domain, str) or not _DOMAIN.fullmatch(domain) or len(domain) > 253):
        raise ConfigError(f"{field} must be a plain host name such as 'example.com', or None")


def _check_prefix(lowered: str, settings: CookieSettings) -> None:
    """Check the attributes that a name prefix requires; like browsers, compare prefixes without case."""
    if lowered.startswith(("__host-", "__secure-", "__http-")) and not settings.secure:
        raise ConfigError(
            "a cookie named __Host-, __Secure- or __Http- needs cookie_secure=True; for plain http on your own "
            "machine use SessionConfig.development(), with its default cookie name or another name without a prefix"
        )
    if _has_host_prefix(lowered) and (settings.path != "/" or settings.domain is not None):
        raise ConfigError("a cookie named __Host- needs cookie_path='/' and no cookie_domain")
    if lowered.startswith(("__http-", "__host-http-")) and not settings.http_only:
        raise ConfigError("a cookie named __Http- or __Host-Http- needs cookie_http_only=True")


def _has_host_prefix(name: str) -> bool:
    """Return whether browsers keep the cookie `name` at the path "/" of one host only."""
    return name.lower().startswith("__host-")


# -- places where a cookie was before


def check_former_cookies(
    names: Iterable[str], former: object, settings: CookieSettings
) -> tuple[tuple[str, str | None], ...]:
    """Return the places where the cookies `names` were before, each once.

    Raises:
        ConfigError: an entry is not a path and a domain, is the present place, or no cookie can have been there.
    """
    if not isinstance(former, (list, tuple, set, frozenset)):
        raise ConfigError('former_cookies must be a list of (path, domain or None), such as [("/app", None)]')
    places: dict[tuple[str, str | None], tuple[str, str | None]] = {}
    for entry in cast("Iterable[object]", former):
        if not isinstance(entry, (list, tuple)) or len(cast("Sequence[object]", entry)) != 2:
            raise ConfigError('each entry of former_cookies must be (path, domain or None), such as ("/app", None)')
        path, domain = cast("tuple[str, str | None]", entry)
        _check_path("the path of a former cookie", path)
        _check_domain("the domain of a former cookie", domain)
        places.setdefault(_place(path, domain), (path, domain))
    if _place(settings.path, settings.domain) in places:
        raise ConfigError(
            "an entry of former_cookies is the present cookie_path and cookie_domain, so that a login would delete its "
            "own cookie; list only places where the cookie no longer is"
        )
    if places and all(map(_has_host_prefix, names)):
        raise ConfigError(
            "former_cookies needs a cookie whose name does not begin with __Host-: one with that name was never at "
            "another path or domain, so leave former_cookies out"
        )
    return tuple(places.values())


def _place(path: str, domain: str | None) -> tuple[str, str | None]:
    """Return what browsers compare: the domain without its leading dot and in lower case."""
    return path, None if domain is None else domain.removeprefix(".").lower()


def clear_former_cookies(
    names: Iterable[str], former: Iterable[tuple[str, str | None]], settings: CookieSettings
) -> list[tuple[str, str]]:
    """Return the headers that delete the cookies `names` in the places where they were before."""
    return [
        ("set-cookie", CookieWriter.build(name, replace(settings, path=path, domain=domain)).clear())
        for name in names
        if not _has_host_prefix(name)
        for path, domain in former
    ]
