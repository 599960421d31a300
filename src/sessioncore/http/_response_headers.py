"""Adds the session's headers to a response, and changes its `Vary` and `Cache-Control`.

A response that depends on the session must say so in `Vary`. A response that carries an ID
must not be stored by a shared cache, which would send the ID to other clients. Which
headers send an ID is decided in `persistence/_id_headers`.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any, TypeAlias, TypeVar

from sessioncore._warnings import Warnings

__all__ = ["Pairs", "revise"]

Text = TypeVar("Text", bytes, str)
Pairs: TypeAlias = Iterable[tuple[Text, Text]]  # the headers of a framework, of bytes or of str

# Headers that a session never changes, as frameworks spell them. Most responses have only these, so a fast path
# handles them.
_UNRELATED_HEADERS = frozenset(
    spelling
    for name in (
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"date",
        b"etag",
        b"last-modified",
        b"location",
        b"server",
    )
    for spelling in (name, name.title())
)
_UNSHARED_DIRECTIVES = frozenset({b"private", b"no-store"})
_CDN_HEADERS = frozenset({b"surrogate-control", b"x-accel-expires"})  # cache control for CDNs and for nginx
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"?')


def revise(
    headers: Pairs[Any], added: Pairs[str], vary: bytes, cookies: Collection[str], warnings: Warnings
) -> list[tuple[Any, Any]]:
    """Return `headers` in their order, then `added`; merge Vary, and forbid caching if an ID is sent.

    `headers` are pairs of bytes or of str, and so is what it returns. `vary` holds the header
    names for Vary, or is empty. `cookies` are the names of cookies that only the core may set: if
    the application set one, its header is dropped with a warning.
    """
    result: list[Any] = [*headers]
    for name, _ in result:
        if name not in _UNRELATED_HEADERS:
            if isinstance(name, str):
                pairs = [(_encode(name), _encode(value)) for name, value in result]
                revised = _revise_fully(pairs, added, vary, cookies, warnings)
                return [(_decode(name), _decode(value)) for name, value in revised]
            return _revise_fully(result, added, vary, cookies, warnings)
    extra: tuple[tuple[bytes, bytes], ...] = ()
    if added:
        for key, value in added:
            pair = key.encode("latin-1"), value.encode("latin-1")
            if pair[0] in _UNRELATED_HEADERS:  # the ID is sent in a header that the application may also set
                return _revise_fully(result, added, vary, cookies, warnings)
            extra += (pair,)
        result.append((b"cache-control", b"no-store"))
    if vary:
        result.append((b"vary", vary))
    result += extra
    return result


def _revise_fully(
    headers: list[tuple[bytes, bytes]],
    added: Iterable[tuple[str, str]],
    vary: bytes,
    cookies: Collection[str],
    warnings: Warnings,
) -> list[tuple[bytes, bytes]]:
    result = [(bytes(name), bytes(value)) for name, value in headers]
    names = {name.lower() for name, _ in result}
    if b"set-cookie" in names:
        result = _drop_session_cookies(result, cookies, warnings)
    extra = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in added]
    if extra:
        result = _forbid_caching(result, {name for name, _ in extra if name != b"set-cookie"})
    if vary:
        result = _merge_vary(result, vary) if b"vary" in names else [*result, (b"vary", vary)]
    return result + extra


def _merge_vary(headers: list[tuple[bytes, bytes]], names: bytes) -> list[tuple[bytes, bytes]]:
    present = [value for name, value in headers if name.lower() == b"vary"]
    known = {part.strip(b" \t").lower() for value in present for part in value.split(b",")}
    missing = [name for name in names.split(b", ") if name.lower() not in known]
    if b"*" in known or not missing:
        return headers
    merged = b", ".join([*filter(None, present), *missing])
    result: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name.lower() != b"vary":
            result.append((name, value))
        elif merged:  # replace the first Vary header; the others are merged into it
            result.append((name, merged))
            merged = b""
    return result


def _forbid_caching(headers: list[tuple[bytes, bytes]], replaced: Collection[bytes]) -> list[tuple[bytes, bytes]]:
    """Keep shared caches from storing the response; Set-Cookie alone does not prevent that (RFC 9111).

    Some caches obey a field of their own instead of Cache-Control (RFC 9213), so those fields are removed.
    """
    kept: list[tuple[bytes, bytes]] = []
    cache_control: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"cache-control":
            cache_control.append((name, value))
        elif lowered not in replaced and lowered not in _CDN_HEADERS and not lowered.endswith(b"-cache-control"):
            kept.append((name, value))
    # Ignore quoted strings: a word in one is the argument of another directive.
    directives = _QUOTED.sub(b'""', b",".join(value for _, value in cache_control)).split(b",")
    if _UNSHARED_DIRECTIVES.isdisjoint(part.strip(b" \t").lower() for part in directives):
        cache_control = [(b"cache-control", b"no-store")]
    return kept + cache_control


def _drop_session_cookies(
    headers: list[tuple[bytes, bytes]], names: Collection[str], warnings: Warnings
) -> list[tuple[bytes, bytes]]:
    """Drop the application's own session cookies: no response may set a cookie twice (RFC 6265bis, section 4.1.1)."""
    kept: list[tuple[bytes, bytes]] = []
    for header in headers:
        name = header[1].partition(b"=")[0].strip().decode("latin-1") if header[0].lower() == b"set-cookie" else None
        if name in names:
            warnings.warn(
                "the application sets or deletes the cookie %s, which is the session's, so its header is dropped: to "
                "log a visitor out, await session.destroy(); a cookie of your own needs another name",
                name,
            )
        else:
            kept.append(header)
    return kept


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
