"""Where a session ID may stand in a request, and whether the response answers there.

An extractor is a frozen value that names one place; a chain is an extractor that
has parts. No framework is known here: an adapter shows its request as a
`RequestView`. Extractors read and never judge: the form of an ID is checked
once, behind all of them.
"""

import re
import string
from collections.abc import Awaitable, Callable, Iterator, Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct

from sessioncore._errors import ConfigError
from sessioncore.http._cookies import AmbiguousID, is_token, read_cookie
from sessioncore.http._ids import consists_of

__all__ = [
    "Extractor",
    "RequestView",
    "Source",
    "chain",
    "from_auth_header",
    "from_cookie",
    "from_form",
    "from_header",
    "from_lookup",
    "from_param",
    "from_query",
    "places",
]

_TOKEN68 = (string.ascii_letters + string.digits + "-._~+/").encode()  # RFC 9110, section 11.2, with "=" at the end


class RequestView(Protocol):
    """What an adapter shows of a request."""

    @property
    def method(self) -> str:
        """The request method, in capitals; `GET` for a WebSocket handshake."""
        ...

    @property
    def path(self) -> str:
        """The path, percent-decoded, without the query string."""
        ...

    @property
    def scheme(self) -> str:
        """`http`, `https`, `ws` or `wss`, as the server saw it: no forwarded header is trusted."""
        ...

    def cookie_headers(self) -> Sequence[bytes]:
        """Return every Cookie header as raw bytes, in order."""
        ...

    def header(self, name: str) -> Sequence[str]:
        """Return the values of every header `name` (compared without case), in order."""
        ...

    def query(self, name: str) -> str | None:
        """Return the first query parameter `name`, decoded."""
        ...

    def path_param(self, name: str) -> str | None:
        """Return the path parameter `name` of the matched route."""
        ...

    async def form(self, name: str) -> str | None:
        """Return the field `name` of an urlencoded or multipart body; the handler can still read the body."""
        ...


class Source(Enum):
    """How the response answers an ID that was found in a place."""

    COOKIE = "cookie"  # with Set-Cookie
    HEADER = "header"  # with a header of the same name
    OTHER = "other"  # not at all: what stands in a URL or a form ends up in logs and histories


COOKIE, HEADER, OTHER = Source


class Extractor(Struct, frozen=True):
    """One place in a request and the way to read it.

    `extract` returns the text found there or None, at once or as an awaitable;
    `key` is the cookie's or header's name. `vary` names the request headers that
    it reads, where `source` and `key` do not say so. `parts` is for `chain`.
    """

    extract: Callable[[RequestView], str | None | Awaitable[str | None]]
    source: Source
    key: str
    parts: tuple["Extractor", ...] = ()
    vary: tuple[str, ...] = ()


def from_cookie(key: str = "__Host-session_id") -> Extractor:
    """Read the ID from the cookie `key`, and answer with Set-Cookie.

    Raises:
        ConfigError: `key` cannot be a cookie name.
    """
    if not is_token(key):
        raise ConfigError(f"{key!r} cannot be a cookie name: use letters, digits, '-' and '_'")
    name = key.encode("ascii")

    def extract(request: RequestView) -> str | None:
        headers = request.cookie_headers()
        return read_cookie(headers, name) if headers else None

    return Extractor(extract, Source.COOKIE, key, vary=("Cookie",))


def from_header(key: str) -> Extractor:
    """Read the ID from the header `key`, and answer with the same header.

    Raises:
        ConfigError: `key` cannot be a header name.
    """
    _check_header(key)

    def extract(request: RequestView) -> str | None:
        values = request.header(key)
        if len(values) > 1 and len(set(values)) > 1:
            raise AmbiguousID
        return values[0] if values else None

    return Extractor(extract, Source.HEADER, key, vary=(key,))


def from_auth_header(scheme: str = "Bearer") -> Extractor:
    """Read the ID from `Authorization: <scheme> <token68>`; read-only, and only where there is one such header.

    Raises:
        ConfigError: `scheme` is no token.
    """
    if not is_token(scheme):
        raise ConfigError(f"{scheme!r} cannot be an authentication scheme: use 'Bearer' or another token")
    expected = scheme.lower()

    def extract(request: RequestView) -> str | None:
        values = request.header("Authorization")
        if len(values) != 1:
            return None
        given, _, token = values[0].partition(" ")
        if given.lower() != expected:
            return None
        token = token.lstrip(" ")  # 1*SP, RFC 9110, section 11.4
        body = token.rstrip("=")
        return token if body and consists_of(body, _TOKEN68) else None

    return Extractor(extract, Source.OTHER, "Authorization", vary=("Authorization",))


def from_query(key: str) -> Extractor:
    """Read the ID from the query parameter `key`; read-only. IDs in URLs leak: see the security page first."""
    _check_key(key)
    return Extractor(lambda request: request.query(key), Source.OTHER, key)


def from_form(key: str) -> Extractor:
    """Read the ID from the form field `key` of the body, never from the query string; read-only."""
    _check_key(key)
    return Extractor(lambda request: request.form(key), Source.OTHER, key)


def from_param(key: str, *, path: str | None = None) -> Extractor:
    """Read the ID from the path parameter `key`; read-only.

    Where the adapter runs before routing, give the route as `path`, such as
    `"/share/{id}"`; each `{name}` stands for one segment.

    Raises:
        ConfigError: `path` does not contain `{key}`.
    """
    _check_key(key)
    if path is None:
        return Extractor(lambda request: request.path_param(key), Source.OTHER, key)
    if f"{{{key}}}" not in path:
        raise ConfigError(f"from_param({key!r}, path=...) needs {{{key}}} in the path")
    # Odd parts are the names; a name that occurs twice is read where it stands first.
    parts = re.split(r"\{(\w+)\}", path)
    segments = ["([^/]+)" if part == key else "[^/]+" for part in parts[1::2]]
    literals = map(re.escape, parts[::2])
    pattern = re.compile("".join(a + b for a, b in zip(literals, [*segments, ""], strict=True)))

    def extract(request: RequestView) -> str | None:
        match = pattern.fullmatch(request.path)
        return match[1] if match else None

    return Extractor(extract, Source.OTHER, key)


def chain(*extractors: Extractor) -> Extractor:
    """Try each place in order until an ID resolves to a live session; new IDs go to every cookie and header place.

    Raises:
        ConfigError: no extractor was given.
    """
    if not extractors or not all(isinstance(part, Extractor) for part in extractors):  # pyright: ignore[reportUnnecessaryIsInstance]  # not every caller is type-checked
        raise ConfigError("chain() needs at least one extractor, such as from_cookie(), and nothing else")
    parts = tuple(place for extractor in extractors for place in places(extractor))

    async def extract(request: RequestView) -> str | None:
        for part in parts:
            text = part.extract(request)
            if text is not None and not isinstance(text, str):
                text = await text
            if text:
                return text
        return None

    vary = tuple(dict.fromkeys(name for part in parts for name in vary_names(part)))
    return Extractor(extract, Source.OTHER, "", parts, vary)


def from_lookup(lookup: str) -> Extractor:
    """Build the extractor that a Fiber v2 KeyLookup describes, such as `"cookie:sid,header:X-Sid"`.

    Raises:
        ConfigError: a part is not `source:name` with a known source.
    """
    makers: dict[str, Callable[[str], Extractor]] = {
        "cookie": from_cookie,
        "header": from_header,
        "query": from_query,
        "form": from_form,
        "param": from_param,
    }
    found: list[Extractor] = []
    for part in str(lookup).split(","):
        source, _, name = part.strip().partition(":")
        if source not in makers or not name:
            raise ConfigError(
                f"not a lookup: {lookup!r}; write 'cookie:name', with cookie, header, query, form or param"
            )
        found.append(makers[source](name))
    return found[0] if len(found) == 1 else chain(*found)


def places(extractor: Extractor) -> Iterator[Extractor]:
    """Yield the single places of an extractor, in order, out of any nesting."""
    if not extractor.parts:
        yield extractor
    for part in extractor.parts:
        yield from places(part)


def vary_names(place: Extractor) -> tuple[str, ...]:
    """Return the request headers that `place` reads, for the response's Vary header."""
    if place.vary or place.source is Source.OTHER:
        return place.vary
    return ("Cookie",) if place.source is Source.COOKIE else (place.key,)


def _check_header(key: object) -> None:
    if not is_token(key):
        raise ConfigError(f"{key!r} cannot be a header name: use letters, digits and '-'")


def _check_key(key: object) -> None:
    if not isinstance(key, str) or not key:
        raise ConfigError("an extractor needs the name of the field that it reads")
