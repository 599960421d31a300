"""Clients for real servers: a browser that keeps cookies as browsers do, and requests as raw bytes.

Nothing here depends on a framework or on sessioncore: responses are read from the
socket, and cookies are judged by `http.cookiejar` and by the rules of RFC 6265bis
that it lacks.
"""

import http.client
import socket
import ssl
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from typing import Final

from msgspec import Struct

__all__ = ["PATIENCE", "Address", "Browser", "Reply", "ask", "chunked", "compose", "until"]

PATIENCE: Final = 10.0  # seconds until a server that does not answer fails the test


class Address(Struct, frozen=True):
    """Where a server listens; `trust` is set if it speaks TLS, `idle` if connections are kept for the next request."""

    port: int
    trust: ssl.SSLContext | None = None
    idle: list[socket.socket] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.trust else 'http'}://localhost:{self.port}"

    def connect(self) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        if self.trust is None:
            return plain
        try:
            return self.trust.wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise

    def hang_up(self) -> None:
        """Close the connections that are kept; a server that stops would wait for them."""
        while self.idle:
            self.idle.pop().close()


class Reply(Struct, frozen=True):
    """A response: every header line as it came, the body with its framing undone."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of every header of that name, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def one(self, name: str) -> str | None:
        """The value of a header that occurs once at most."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} occurs {len(values)} times"
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def set_cookies(self) -> list[str]:
        return self.all("set-cookie")

    def info(self) -> http.client.HTTPMessage:
        """What http.cookiejar wants to see of a response."""
        message = http.client.HTTPMessage()
        for name, value in self.headers:
            message.add_header(name, value)
        return message


def compose(
    method: str, target: str, headers: Iterable[tuple[bytes | str, bytes | str]] = (), body: bytes = b""
) -> bytes:
    """Write a request; header values may be any bytes, also those that no client library would send."""
    lines = [f"{method} {target} HTTP/1.1".encode(), b"Host: localhost"]
    given = [(_bytes(name), _bytes(value)) for name, value in headers]
    if body and not any(name.lower() in {b"content-length", b"transfer-encoding"} for name, _ in given):
        given.append((b"Content-Length", str(len(body)).encode()))
    lines += [name + b": " + value for name, value in given]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def chunked(body: bytes, size: int = 1000) -> bytes:
    """A body of unannounced length, in chunks of `size` bytes."""
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def ask(address: Address, request: bytes) -> Reply:
    """Send a request, over a connection that an earlier one left open if there is one, and read the whole response."""
    kept = None
    if address.idle and b"\r\nConnection:" not in request:
        with suppress(IndexError):
            kept = address.idle.pop()
    with ExitStack() as stack:
        sock = stack.enter_context(kept or address.connect())
        method = request.partition(b" ")[0].decode()
        response = stack.enter_context(closing(http.client.HTTPResponse(sock, method=method)))
        try:
            sock.sendall(request)
            response.begin()
        except (ConnectionError, ssl.SSLError):
            if kept is None:
                raise
            return ask(address, request)  # as browsers do: the server has closed the connection that it had kept open
        reply = Reply(response.status, list(response.msg.items()), response.read())
        if address.idle is not None and not response.will_close and reply.status != 101:
            stack.pop_all()
            address.idle.append(sock)
        return reply


class Browser:
    """One visitor: sends the cookies that a browser would send, keeps those that it would keep."""

    def __init__(self, address: Address, headers: Iterable[tuple[str, str]] = ()) -> None:
        self.address = address
        self.headers = list(headers)
        self._jar = CookieJar(DefaultCookiePolicy(strict_ns_domain=DefaultCookiePolicy.DomainLiberal))

    def another(self) -> "Browser":
        """Another visitor of the same server."""
        return Browser(self.address, self.headers)

    def get(self, path: str, headers: Iterable[tuple[bytes | str, bytes | str]] = ()) -> Reply:
        return self.request("GET", path, headers)

    def post(self, path: str, body: bytes, content_type: str = "application/x-www-form-urlencoded") -> Reply:
        return self.request("POST", path, [("Content-Type", content_type)], body)

    def request(
        self, method: str, path: str, headers: Iterable[tuple[bytes | str, bytes | str]] = (), body: bytes = b""
    ) -> Reply:
        """Send a request and obey the Set-Cookie lines of the response."""
        asked = urllib.request.Request(self.address.url + path)
        cookie = self.cookie_header(path)
        own: list[tuple[bytes | str, bytes | str]] = [*self.headers, *headers]
        if cookie:
            own.append(("Cookie", cookie))
        reply = ask(self.address, compose(method, path, own, body))
        self.obey(reply, asked)
        return reply

    def cookie_header(self, path: str = "/") -> str:
        """What the browser would send as its Cookie header to that path."""
        asked = urllib.request.Request(self.address.url + path)
        self._jar.add_cookie_header(asked)
        return asked.get_header("Cookie") or ""

    def obey(self, reply: Reply, asked: urllib.request.Request) -> None:
        """Keep the response's cookies, except those that a browser refuses."""
        for cookie in self._jar.make_cookies(reply, asked):  # type: ignore[arg-type]  # it asks for info() only
            if self._acceptable(cookie):
                self._jar.set_cookie(cookie)
        if any("max-age=0" in line.lower() for line in reply.set_cookies):
            # make_cookies deletes the cookie whatever the other attributes are. A browser compares name,
            # domain and path, so the line must repeat them.
            assert all("path=/" in line.lower() for line in reply.set_cookies)

    def _acceptable(self, cookie: Cookie) -> bool:
        """Apply the rules of RFC 6265bis, sections 4.1.3 and 5.7, that http.cookiejar lacks."""
        secure_place = self.address.trust is not None
        name = cookie.name.lower()
        if cookie.secure and not secure_place:
            return False
        if name.startswith(("__host-", "__secure-")) and not cookie.secure:
            return False
        return not name.startswith("__host-") or (cookie.path == "/" and not cookie.domain_specified)

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies in the jar that have not expired."""
        return {cookie.name: cookie.value or "" for cookie in self._jar if not cookie.is_expired(int(time.time()))}

    def plant(self, name: str, value: str) -> None:
        """Keep a cookie as if a response over this connection had set it."""
        reply = Reply(200, [("Set-Cookie", f"{name}={value}; Path=/{'; Secure' if self.address.trust else ''}")], b"")
        self.obey(reply, urllib.request.Request(self.address.url + "/"))


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    give_up_at = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up_at, "the condition never held"
        time.sleep(0.005)


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")
