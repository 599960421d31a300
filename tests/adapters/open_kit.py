"""Connections that stay open, to a site whose storage reports changes."""

import http.client
import socket as socket_
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from tests.adapters.browser import PATIENCE, compose
from tests.adapters.conftest import Site
from tests.stores import SpyStorage
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from sessioncore._watchers import Changed
from sessioncore.storage import KeepsTombstones, Moved, Stored, Unreadable, Watches

__all__ = ["Feed", "ReportingStorage", "feed", "hears_the_end", "raw_socket", "socket"]


class ReportingStorage(SpyStorage):
    """A SpyStorage that reports changes, as the memory behind it does."""

    capabilities: ClassVar[frozenset[type]] = SpyStorage.capabilities | {KeepsTombstones, Watches}
    notices_within: float | None = None

    async def watch(self, keys: Sequence[str], changed: Changed) -> list[Stored | Moved | Unreadable | None]:
        return await self._through("watch", lambda: self.inner.watch(keys, changed))

    def unwatch(self, key: str, changed: Changed) -> None:
        self.inner.unwatch(key, changed)

    async def confirm(self) -> None:
        await self._through("confirm", self.inner.confirm)


def _cookie(site: Site, sid: str) -> tuple[str, str]:
    return "Cookie", f"{site.store.config.extractor.key}={sid}"


@contextmanager
def socket(
    site: Site, sid: str | None = None, query: str = "how=read", origin: Any = None
) -> Generator[ClientConnection]:
    """A WebSocket to the scenario application, with the cookie of a session; refusals raise InvalidStatus."""
    uri, cookies = f"ws://localhost:{site.address.port}/ws?{query}", [] if sid is None else [_cookie(site, sid)]
    with connect(uri, additional_headers=cookies, origin=origin, open_timeout=PATIENCE, close_timeout=1) as connection:
        yield connection


@contextmanager
def raw_socket(site: Site, sid: str) -> Generator[socket_.socket]:
    """A WebSocket whose client never answers."""
    upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    key = "Sec-WebSocket-Key", "x" * 22 + "=="
    with site.address.connect() as sock:
        sock.sendall(compose("GET", "/ws?how=read", [_cookie(site, sid), *upgrade, key]))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        assert b"101" in head.partition(b"\r\n")[0]
        yield sock


def hears_the_end(connection: ClientConnection, code: int = 1008, reason: str = "session ended") -> float:
    """Wait for the close frame, and return how long that took."""
    began = time.monotonic()
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(PATIENCE)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)
    return time.monotonic() - began


class Feed:
    """A response that has begun."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response

    def part(self) -> bytes:
        """What has arrived since the last call, at least one byte."""
        return self._response.read1()

    def rest(self) -> bytes:
        """Everything up to the end; raises IncompleteRead if the connection ends before the body is complete."""
        return self._response.read()


@contextmanager
def feed(site: Site, sid: str, path: str = "/feed") -> Generator[Feed]:
    """Ask for a page that stays open."""
    with site.address.connect() as sock:
        sock.sendall(compose("GET", path, [_cookie(site, sid)]))
        response = http.client.HTTPResponse(sock)
        try:
            response.begin()
            assert response.status == 200
            yield Feed(response)
        finally:
            response.close()
