"""What a session does to the headers that a response already has.

A response that depends on the session says so (`Vary`), and one that carries its
cookie is never stored by a shared cache: the cookie would be handed to strangers.
"""

import logging
import re
from collections.abc import Collection, Iterable
from typing import TypeAlias

__all__ = ["Pairs", "revise"]

Pairs: TypeAlias = Iterable[tuple[bytes, bytes]]

_logger = logging.getLogger("sessioncore")
# Headers that a session has nothing to do with, as frameworks spell them. Most responses have no others, and need no
# second look.
_HARMLESS = frozenset(
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
_UNSHARED = frozenset({b"private", b"no-store"})
_CACHES_OWN = frozenset({b"surrogate-control", b"x-accel-expires"})  # of CDNs, and of nginx
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"?')


def revise(
    headers: Pairs, added: Iterable[tuple[str, str]], vary: bytes, cookies: Collection[str]
) -> list[tuple[bytes, bytes]]:
    """Return new headers: `headers` in their order, then `added`; Vary merged, caching forbidden where an ID is sent.

    `vary` are the names for Vary, empty if there are none. `cookies` are the names that only
    the core may set; the application's own are dropped with a warning.
    """
    result = list(headers)
    for name, _ in result:
        if name not in _HARMLESS:
            return _revise_with_care(result, added, vary, cookies)
    extra: list[tuple[bytes, bytes]] = []
    if added:
        for key, value in added:
            pair = key.encode("latin-1"), value.encode("latin-1")
            if pair[0] in _HARMLESS:  # an ID in a header that the application may use, too
                return _revise_with_care(result, added, vary, cookies)
            extra.append(pair)
        result.append((b"cache-control", b"no-store"))
    if vary:
        result.append((b"vary", vary))
    result += extra
    return result


def _revise_with_care(
    headers: list[tuple[bytes, bytes]], added: Iterable[tuple[str, str]], vary: bytes, cookies: Collection[str]
) -> list[tuple[bytes, bytes]]:
    result = [(bytes(name), bytes(value)) for name, value in headers]
    names = {name.lower() for name, _ in result}
    if b"set-cookie" in names:
        result = _without_cookies(result, cookies)
    extra = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in added]
    if extra:
        result = _unshared(result, {name for name, _ in extra if name != b"set-cookie"})
    if vary:
        result = _vary(result, vary) if b"vary" in names else [*result, (b"vary", vary)]
    return result + extra


def _vary(headers: list[tuple[bytes, bytes]], names: bytes) -> list[tuple[bytes, bytes]]:
    present = [value for name, value in headers if name.lower() == b"vary"]
    known = {part.strip().lower() for value in present for part in value.split(b",")}
    missing = [name for name in names.split(b", ") if name.lower() not in known]
    if b"*" in known or not missing:
        return headers
    merged = b", ".join([*filter(None, present), *missing])
    result: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name.lower() != b"vary":
            result.append((name, value))
        elif merged:  # in the place of the first one; the others are part of it
            result.append((name, merged))
            merged = b""
    return result


def _unshared(headers: list[tuple[bytes, bytes]], replaced: Collection[bytes]) -> list[tuple[bytes, bytes]]:
    """RFC 9111: Set-Cookie alone does not keep a shared cache from storing a response.

    Nor does Cache-Control where a cache was given a field of its own (RFC 9213).
    """
    kept: list[tuple[bytes, bytes]] = []
    given: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"cache-control":
            given.append((name, value))
        elif lowered not in replaced and lowered not in _CACHES_OWN and not lowered.endswith(b"-cache-control"):
            kept.append((name, value))
    # Not within quotes: a word in there is an argument of something else.
    directives = _QUOTED.sub(b'""', b",".join(value for _, value in given)).split(b",")
    if _UNSHARED.isdisjoint(part.strip().lower() for part in directives):
        given = [(b"cache-control", b"no-store")]
    return kept + given


def _without_cookies(headers: list[tuple[bytes, bytes]], names: Collection[str]) -> list[tuple[bytes, bytes]]:
    """RFC 6265bis, section 4.1.1: one response must not set one cookie twice; and only the core sets this one."""
    kept: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name.lower() == b"set-cookie" and value.partition(b"=")[0].strip().decode("latin-1") in names:
            _logger.warning("the application set the session's own cookie; that header was dropped")
        else:
            kept.append((name, value))
    return kept
