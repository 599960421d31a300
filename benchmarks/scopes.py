"""A browser's requests as ASGI scopes, and the cookie that it would send back."""

from collections.abc import Iterable
from typing import Any

__all__ = ["REQUEST_HEADERS", "Headers", "cookie_line", "http_scope", "kept_cookies"]

Headers = list[tuple[bytes, bytes]]

REQUEST_HEADERS: Headers = [
    (b"host", b"127.0.0.1:8000"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    (b"accept-language", b"en-GB,en;q=0.7"),
    (b"accept-encoding", b"gzip, deflate, br"),
]


def cookie_line(cookie: bytes) -> bytes:
    """A session's cookie between those of others, as most sites have them."""
    return b"lang=en; " + cookie + b"; theme=dark"


def kept_cookies(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The Cookie header that a browser would send after a response with these headers."""
    lines = [value for name, value in headers if name.lower() == b"set-cookie"]
    return b"; ".join(
        line.partition(b";")[0] for line in lines if b"01 Jan 1970" not in line and b"Max-Age=0" not in line
    )


def http_scope(path: str, cookie: bytes = b"") -> dict[str, Any]:
    headers = list(REQUEST_HEADERS)
    if cookie:
        headers.append((b"cookie", cookie))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "https",  # what the Secure cookies of all contenders are made for
        "method": "GET",
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
        "state": {},
    }
