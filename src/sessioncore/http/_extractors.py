"""Extractors read session IDs from requests, and say where the response writes them.

An extractor is a frozen value for one place in a request; a chain is an extractor with
parts. Extractors do not check what they read; `LoadSteps` checks the form of every ID.
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from enum import Enum

from msgspec import Struct

from sessioncore._errors import ConfigError
from sessioncore.http._cookies import read_cookie
from sessioncore.http._ids import AmbiguousID
from sessioncore.http._names import check_cookie_name, check_header_name, is_token
from sessioncore.http._request_view import RequestView

__all__ = [
    "COOKIE", "HEADER", "OTHER", "Carrier", "Extractor", "Source", "carrier_of", "chain", "flatten",
    "from_auth_header", "from_cookie", "from_form", "from_header", "from_lookup", "from_param", "from_query", "keys_of",
    "vary_names",
]  # fmt: skip

_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 9110, section 11.2


class Source(Enum):
    """Where the response writes an ID that was read from a place."""

    COOKIE = "cookie"  # in Set-Cookie
    HEADER = "header"  # in a header of the same name
    OTHER = "other"  # nowhere: the place is read-only, such as a URL or a form, which end up in logs and histories


COOKIE, HEADER, OTHER = Source  # module globals, because looking up a member on its class is slow


class Carrier(Enum):
    """What carries an ID to the server, which decides whether another site can make a browser send it."""

    COOKIE = "cookie"  # browsers send it with requests that other sites make
    HEADER = "header"  # another site's page can send it only if this site allows it (CORS)
    URL_OR_FORM = "url or form"  # a page can send it if it knows the ID


class Extractor(Struct, frozen=True):
    """One place in a request where an ID can be, and the function that reads it.

    `extract` returns the text or None, directly or as an awaitable. `key` is the name of the
    cookie, header or field. `vary` names the request headers that it reads; without it, they
    follow from `source` and `key`. `parts` is for `chain`.
    """

    extract: Callable[[RequestView], str | None | Awaitable[str | None]]
    source: Source
    key: str
    parts: tuple["Extractor", ...] = ()
    vary: tuple[str, ...] = ()


def from_cookie(key: str = "__Host-session_id") -> Extractor:
    """Read the ID from the cookie `key`, and write it with Set-Cookie.

    Raises:
        ConfigError: `key` cannot be a cookie name.
    """
    check_cookie_name(key)
    name = key.encode("ascii")

    def extract(request: RequestView) -> str | None:
        headers = request.cookie_headers()
        try:
            return read_cookie(headers, name) if headers else None
        except (AttributeError, TypeError) as exc:
            raise ConfigError(f"{type(request).__name__}.cookie_headers must return a sequence of bytes") from exc

    return Extractor(extract, Source.COOKIE, key, vary=("Cookie",))


def from_header(key: str) -> Extractor:
    """Read the ID from the request header `key`, and write it in a response header of the same name.

    Raises:
        ConfigError: `key` cannot be a header name.
    """
    check_header_name(key)

    def extract(request: RequestView) -> str | None:
        values = request.header(key)
        if len(values) > 1 and len(set(values)) > 1:
            raise AmbiguousID
        return values[0] if values else None

    return Extractor(extract, Source.HEADER, key, vary=(key,))


def from_auth_header(scheme: str = "Bearer") -> Extractor:
    """Read the ID from `Authorization: <scheme> <token68>`, if the request has one such header; read-only.

    Raises:
        ConfigError: `scheme` is not a token of RFC 9110.
    """
    if not is_token(scheme):
        raise ConfigError(f"{scheme!r} cannot be an authentication scheme: use 'Bearer' or another token")
    expected = scheme.lower()  # schemes are compared without case

    def extract(request: RequestView) -> str | None:
        values = request.header("Authorization")
        if len(values) != 1:
            return None
        actual, _, token = values[0].partition(" ")
        if actual.lower() != expected:
            return None
        token = token.lstrip(" ")  # 1*SP, RFC 9110, section 11.4
        return token if _TOKEN68.fullmatch(token) else None

    return Extractor(extract, Source.OTHER, "Authorization", vary=("Authorization",))


def from_query(key: str) -> Extractor:
    """Read the ID from the query parameter `key`; read-only. IDs in URLs leak, so read docs/security.md first.

    Raises:
        ConfigError: `key` is empty, or not a str.
    """
    _check_key(key)
    return Extractor(lambda request: request.query(key), Source.OTHER, key)


def from_form(key: str) -> Extractor:
    """Read the ID from the field `key` of a form body, never from the query string; read-only.

    Raises:
        ConfigError: `key` is empty, or not a str.
    """
    _check_key(key)
    return Extractor(lambda request: request.form(key), Source.OTHER, key)


def from_param(key: str, *, path: str | None = None) -> Extractor:
    """Read the ID from the path parameter `key`; read-only.

    If the adapter runs before routing, pass the route as `path`, such as `"/share/{id}"`, with the
    prefix under which the application is mounted; each `{name}` matches one segment, or a part of one.

    Raises:
        ConfigError: `key` is empty, or not a str; or `path` does not begin with `/`, does not contain
            `{key}`, or has two names in one segment.
    """
    _check_key(key)
    if path is None:
        return Extractor(lambda request: request.path_param(key), Source.OTHER, key)
    if not path.startswith("/") or f"{{{key}}}" not in path:
        raise ConfigError(f"from_param({key!r}, path=...) needs a path that begins with / and contains {{{key}}}")
    if re.search(r"\{\w+\}[^/]*\{\w+\}", path):  # trying all ways to divide a long segment takes minutes
        raise ConfigError(f"from_param({key!r}, path=...): a segment of the path can have one {{name}} only")
    # The odd parts are names. If the name occurs twice, the first segment is read.
    parts = re.split(r"\{(\w+)\}", path)
    segments = ["([^/]+)" if part == key else "[^/]+" for part in parts[1::2]]
    literals = map(re.escape, parts[::2])
    pattern = re.compile("".join(a + b for a, b in zip(literals, [*segments, ""], strict=True)))

    def extract(request: RequestView) -> str | None:
        match = pattern.fullmatch(request.path)
        return match[1] if match else None

    return Extractor(extract, Source.OTHER, key)


def chain(*extractors: Extractor) -> Extractor:
    """Try each extractor in order until an ID belongs to a live session; new IDs are written to each cookie and header.

    Raises:
        ConfigError: there is no extractor among the arguments, or something else is.
    """
    if not extractors or not all(isinstance(part, Extractor) for part in extractors):  # pyright: ignore[reportUnnecessaryIsInstance]  # not every caller is type-checked
        raise ConfigError("chain() takes one or more extractors, such as from_cookie()")
    parts = tuple(part for extractor in extractors for part in flatten(extractor))

    async def extract(request: RequestView) -> str | None:
        for part in parts:
            text = part.extract(request)
            if text is not None and not isinstance(text, str):
                text = await text
            if text:
                return text
        return None

    vary = tuple({name.lower(): name for part in parts for name in vary_names(part)}.values())
    return Extractor(extract, Source.OTHER, "", parts, vary)


def from_lookup(lookup: str) -> Extractor:
    """Build an extractor from a Fiber v2 KeyLookup string, such as `"cookie:sid,header:X-Sid"`.

    Raises:
        ConfigError: a part is not `source:name` with a known source.
    """
    factories: dict[str, Callable[[str], Extractor]] = {
        "cookie": from_cookie,
        "header": from_header,
        "query": from_query,
        "form": from_form,
        "param": from_param,
    }
    found: list[Extractor] = []
    for part in str(lookup).split(","):
        source, _, name = part.strip().partition(":")
        if source not in factories or not name:
            raise ConfigError(
                f"{lookup!r} is not a lookup: write 'source:name', where source is cookie, header, query, form or param"
            )
        found.append(factories[source](name))
    return found[0] if len(found) == 1 else chain(*found)


def flatten(extractor: Extractor) -> Iterator[Extractor]:
    """Yield the extractors of single places in `extractor`, in order; chains may be nested."""
    if not extractor.parts:
        yield extractor
    for part in extractor.parts:
        yield from flatten(part)


def keys_of(extractor: Extractor, source: Source) -> list[str]:
    """Return the names of the cookies, or of the headers, in which responses write IDs; each once."""
    return [*dict.fromkeys(part.key for part in flatten(extractor) if part.source is source)]


def vary_names(extractor: Extractor) -> tuple[str, ...]:
    """Return the names of the request headers that `extractor` reads, for the response's Vary header."""
    if extractor.vary or extractor.source is Source.OTHER:
        return extractor.vary
    return ("Cookie",) if extractor.source is Source.COOKIE else (extractor.key,)


def carrier_of(extractor: Extractor) -> Carrier:
    """Return what carries the IDs that `extractor` reads."""
    read = {name.lower() for name in vary_names(extractor)}
    if "cookie" in read:
        return Carrier.COOKIE
    return Carrier.HEADER if read else Carrier.URL_OR_FORM


def _check_key(key: object) -> None:
    if not isinstance(key, str) or not key:
        raise ConfigError("an extractor needs the name of the field that it reads, a non-empty str")
