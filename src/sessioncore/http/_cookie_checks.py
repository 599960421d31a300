"""Refuses cookies that a browser would reject, or whose settings could inject attributes."""

import re
from collections.abc import Iterable, Sequence
from typing import cast

from sessioncore._errors import ConfigError
from sessioncore.http._cookies import CookieSettings, has_host_prefix
from sessioncore.http._names import check_cookie_name

__all__ = ["check_cookie", "check_cookie_place", "check_former_cookies"]

# av-octets without comma and space, so that a path cannot end the attribute, and without what ends a path in a URL.
_PATH = re.compile(r"/[!\"$-+\--:<->@-~]*")
_DOMAIN = re.compile(r"\.?(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")


def check_cookie(name: str, settings: CookieSettings) -> None:
    """Refuse a name and settings with which a browser would reject the cookie, or that could inject attributes.

    Raises:
        ConfigError: the name has forbidden characters, a name prefix lacks its required attributes
            (RFC 6265bis, section 4.1.3), or SameSite=None or Partitioned lacks Secure.
    """
    check_cookie_name(name)
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
            f"{field} must begin with '/', be no longer than 1024 characters and contain no space, comma, ';', '?', "
            "'#', control or non-ASCII character"
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
    if has_host_prefix(lowered) and (settings.path != "/" or settings.domain is not None):
        raise ConfigError(
            "a cookie named __Host- needs cookie_path='/' and no cookie_domain; for another path, or for a domain, "
            "choose a name without __Host-: extractor=from_cookie('__Secure-session_id')"
        )
    if lowered.startswith(("__http-", "__host-http-")) and not settings.http_only:
        raise ConfigError("a cookie named __Http- or __Host-Http- needs cookie_http_only=True")


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
    if places and all(map(has_host_prefix, names)):
        raise ConfigError(
            "former_cookies needs a cookie whose name does not begin with __Host-: one with that name was never at "
            "another path or domain, so leave former_cookies out"
        )
    return tuple(places.values())


def _place(path: str, domain: str | None) -> tuple[str, str | None]:
    """Return what browsers compare: the domain without its leading dot and in lower case."""
    return path, None if domain is None else domain.removeprefix(".").lower()
