"""Recognises cross-site requests by what the browser says about them (promise P8).

Requests with an unsafe method and WebSocket handshakes are judged:

    Sec-Fetch-Site         Origin                    the request
    same-origin, none      any                       is the site's own
    anything else          one of `trusted_origins`  is not cross-site; perhaps the browser withheld the cookie
    anything else          any other, or none        is cross-site
    absent                 absent                    was not made by a browser: let it pass
    absent                 has the host of `Host`    is the site's own
    absent                 one of `trusted_origins`  is not cross-site; perhaps the browser withheld the cookie
    absent                 any other, `null`         is cross-site

Chromium sends no Sec-Fetch-Site with handshakes, and no browser does over plain http beyond
localhost (W3C Fetch Metadata). The scheme of the request plays no part, because TLS often ends
at a proxy.
"""

import logging
import re
import threading
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct

from sessioncore._errors import ConfigError
from sessioncore.http._request_view import RequestView

__all__ = ["CrossSite", "CrossSiteRule", "RefusedOrigins", "asks_for_websocket", "for_log", "parse_trusted_origins"]

_logger = logging.getLogger("sessioncore")
# RFC 9110, section 9.2.1; and QUERY, of draft-ietf-httpbis-safe-method-w-body.
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
_OWN: Final = frozenset({"same-origin", "none"})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = r"(\[[0-9a-f:.]+\]|[^\s/?#@:\[\]\\%*,]+)(?::([0-9]{0,5}))?"
_HOST_HEADER: Final = re.compile(_HOST, re.IGNORECASE)
_ORIGIN: Final = re.compile(rf"([a-z][a-z0-9+.-]*)://{_HOST}", re.IGNORECASE)
MAX_LOGGED_ORIGINS: Final = 8

Origins: TypeAlias = "frozenset[Origin]"


class Origin(NamedTuple):
    """A parsed origin (RFC 6454): in lower case, with the default port of its scheme filled in."""

    scheme: str
    host: str
    port: int | None  # None: the scheme has no default port


class CrossSite(Struct, frozen=True):
    """A request that another site made.

    `origin` is the Origin header, as the client sent it. `compared`: Origin and Host were
    compared, because there is no Sec-Fetch-Site. `withheld`: the origin is trusted, so the request
    may use the session, but the browser does not send it the cookie.
    """

    method: str
    origin: str
    compared: bool
    withheld: bool


class CrossSiteRule(Struct, frozen=True):
    """Decides for one store what is cross-site. `lax`: browsers withhold the cookie from such requests (SameSite)."""

    trusted: Origins
    lax: bool

    def judge(self, view: RequestView) -> CrossSite | None:
        """Return the request as a `CrossSite`; None: it is not one."""
        if view.method in _SAFE_METHODS:
            try:
                handshake = view.handshake  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # optional
            except AttributeError:
                handshake = view.scheme in {"ws", "wss"} or asks_for_websocket(view.header("upgrade"))
            if not handshake:
                return None
        sites, origins = view.header("sec-fetch-site"), view.header("origin")
        if sites:
            if _OWN.issuperset(site.strip() for site in sites):
                return None
        elif not origins:
            return None
        origin = parse_origin(origins[0]) if len(origins) == 1 else None
        host = _parse_host(view.header("host"), origin)
        if not sites and origin is not None and host == origin[1:] and origin.scheme in _DEFAULT_PORTS:
            return None
        withheld = False
        if origin is not None and origin in self.trusted:
            withheld = self.lax and ("cross-site" in sites if sites else not _related(origin, host))
            if not withheld:
                return None
        return CrossSite(view.method, ", ".join(origins), compared=not sites, withheld=withheld)


class RefusedOrigins:
    """Logs each refused origin of one store once, at most eight of them."""

    __slots__ = ("_logged", "_mutex")

    def __init__(self) -> None:
        self._logged: set[str] = set()
        self._mutex = threading.Lock()

    def log(self, request: CrossSite) -> None:
        """Log the origin of a request that was refused, unless that was done before."""
        with self._mutex:
            if request.origin in self._logged or len(self._logged) == MAX_LOGGED_ORIGINS:
                return
            self._logged.add(request.origin)
            is_last = len(self._logged) == MAX_LOGGED_ORIGINS
        text = "a request from %s was refused the session of its visitor: if this is a site of yours, "
        if request.origin == "null":  # no configuration accepts it
            text += "send its pages without `Referrer-Policy: no-referrer` and unsandboxed; if not, nothing is wrong"
        else:
            text += "add it to SessionConfig.trusted_origins; if not, nothing is wrong"
            if request.compared:
                text += ". Its Origin and Host differ: if a proxy of yours rewrites Host, make it pass Host on"
        if is_last:
            text += ". Further origins are not logged; the events `cross_site` count them"
        _logger.warning(text, for_log(request.origin) or "another site")


def parse_trusted_origins(origins: Collection[str]) -> Origins:
    """Return the parsed `trusted_origins`.

    Raises:
        ConfigError: one of them is not `scheme://host[:port]`, or is no single site (`null`, `file://`, wildcards).
    """
    if isinstance(origins, (str, bytes)) or not isinstance(origins, Collection):  # pyright: ignore[reportUnnecessaryIsInstance]  # not every caller is type-checked
        raise ConfigError("trusted_origins must be a collection of origins, such as ['https://pay.example']")
    parsed: set[Origin] = set()
    for text in origins:
        origin = parse_origin(text) if isinstance(text, str) else None  # pyright: ignore[reportUnnecessaryIsInstance]
        if origin is None or origin.scheme == "file":
            raise ConfigError(
                f"trusted_origins: {text!r} is not an origin: write scheme://host or scheme://host:port, such as "
                "'https://pay.example', without a path or a wildcard"
            )
        parsed.add(origin)
    return frozenset(parsed)


def parse_origin(text: str) -> Origin | None:
    """Parse an origin; None: it is `null`, or not in the form `scheme://host[:port]`."""
    match = _ORIGIN.fullmatch(text)
    if match is None or match[3] == "" or not text.isascii():
        return None
    scheme, host = match[1].lower(), match[2].lower()
    port = int(match[3]) if match[3] else _DEFAULT_PORTS.get(scheme)
    return None if port is not None and port > 65535 else Origin(scheme, host, port)


def for_log(text: str) -> str:
    """Return text of a client, shortened, without anything that a terminal would act on."""
    return "".join(char if char.isprintable() and char.isascii() else "?" for char in text[:100])


def asks_for_websocket(upgrade: Iterable[str]) -> bool:
    """Return whether the values of the header Upgrade ask for a WebSocket."""
    return any("websocket" in value.lower() for value in upgrade)


def _parse_host(values: Sequence[str], origin: Origin | None) -> tuple[str, int | None] | None:
    """Parse the Host header; without a port it has the default port of the origin's scheme."""
    match = _HOST_HEADER.fullmatch(values[0].strip()) if len(values) == 1 else None
    if match is None or origin is None:
        return None
    return match[1].lower(), int(match[2]) if match[2] else _DEFAULT_PORTS.get(origin.scheme)


def _related(origin: Origin, host: tuple[str, int | None] | None) -> bool:
    """Return whether one of the two hosts is the other, or under it: browsers then send the cookie."""
    if host is None:
        return False
    ours, theirs = host[0], origin.host
    return ours == theirs or ours.endswith(f".{theirs}") or theirs.endswith(f".{ours}")
