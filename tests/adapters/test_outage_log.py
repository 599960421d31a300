"""While Redis is down the log gets one traceback, whatever uses the sessions; then the number of failures."""

import http.client
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from importlib import import_module

import pytest
from servers.redis_server import one_server
from tests.adapters.browser import ask, compose, until
from tests.adapters.conftest import OpenSite
from tests.adapters.servers import SERVERS, serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from sessioncore import SessionConfig, SessionStore
from sessioncore.storage.redis import RedisStorage

PATHS = ("/read", "/counter", "/login", "/logout", "/save", "/stream", "/feed", "/background", "/hidden", "/revoke")
QUICK = timedelta(seconds=0.2)


class Log(logging.Handler):
    """Everything that is logged, except the lines that servers write about each request."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "access" not in record.name:
            self.records.append(record)

    def lines(self) -> list[str]:
        written: list[str] = []
        for record in self.records:
            written += record.getMessage().splitlines()
            if record.exc_info is not None:
                written += "".join(traceback.format_exception(*record.exc_info)).splitlines()
        return written


@pytest.fixture
def log() -> Iterator[Log]:
    """What is logged. A test adds it to a logger after the start of its server, which may remove handlers."""
    yield (log := Log())
    logging.getLogger().removeHandler(log)


@pytest.mark.redis
@pytest.mark.parametrize("adapter", ["asgi", "asgi-on-hypercorn", "aiohttp", "litestar"])
def test_an_outage_of_redis_writes_one_traceback_whatever_uses_the_sessions(adapter: str, log: Log) -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(one_server())
        config = SessionConfig.development(
            storage=RedisStorage.from_url(redis.url), storage_timeout=QUICK, watch_interval=QUICK
        )
        store = SessionStore(config)
        app = import_module(f"tests.adapters.apps_{adapter.partition('-')[0]}").make_app(store)
        server = stack.enter_context(serve(SERVERS[adapter], app))

        cookie = "Cookie", f"session_id={server.run(lambda: store.create({'n': 1}, owner='ada')).id}"
        uri = f"ws://localhost:{server.address.port}/ws?how=read"
        socket = stack.enter_context(connect(uri, additional_headers=[cookie], close_timeout=1))
        socket.send("read n")
        assert socket.recv(10) == "1"
        logging.getLogger().addHandler(log)

        redis.kill()
        for path in PATHS * 3:
            assert ask(server.address, compose("GET", path, [cookie])).status == 503, path
        socket.send("reload")
        assert socket.recv(10) == "StorageUnavailable"
        with pytest.raises(TimeoutError):
            socket.recv(QUICK.total_seconds() * 3)  # meanwhile its session is looked up, in vain
        traced = [record for record in log.records if record.exc_info is not None]
        assert len(traced) == 1, [record.getMessage() for record in traced]
        # From 3.13 on a traceback shows and underlines more lines of a call that spans several.
        assert len(log.lines()) < (150 if sys.version_info >= (3, 13) else 130)

        redis.start()
        until(lambda: ask(server.address, compose("GET", "/read", [cookie])).status == 200)

        def said() -> list[str]:
            ask(server.address, compose("GET", "/read", [cookie]))
            return [record.getMessage() for record in log.records if "works again" in record.getMessage()]

        until(lambda: len(said()) > 0)
        [line] = said()
        assert int("".join(filter(str.isdigit, line))) >= len(PATHS) * 3 - 1


@pytest.mark.parametrize("adapter", ["asgi", "asgi-on-hypercorn", "aiohttp", "litestar"], indirect=True)
def test_late_changes_that_cannot_be_stored_write_one_traceback_too(open_site: OpenSite, log: Log) -> None:
    site = open_site(plain=True)
    logging.getLogger().addHandler(log)
    cookie = "Cookie", f"session_id={site.make({'n': 1})}"
    site.storage.fail("replace")
    uri = f"ws://localhost:{site.address.port}/ws?how=read"
    for _ in range(3):
        for path in ("/late-first-write", "/events?how=late"):  # the end is missing, so the client notices
            with pytest.raises((http.client.IncompleteRead, ConnectionError)):
                site.raw(path, cookie)
        assert site.raw("/background?how=read", cookie).text == "ok"
        for goodbye in ("go", "stay"):
            with connect(uri, additional_headers=[cookie]) as socket:
                socket.send("set k v")
                assert socket.recv(10) == "ok"
                if goodbye == "stay":  # the application closes the socket
                    socket.send("close")
                    with pytest.raises(ConnectionClosed) as closed:
                        socket.recv(10)
                    assert closed.value.rcvd is not None
                    assert closed.value.rcvd.code == (1000 if site.adapter == "aiohttp" else 1013)
    until(lambda: site.storage.calls.count("replace") == 15)
    ask(site.address, compose("GET", "/peek"))
    traced = [record.getMessage() for record in log.records if record.exc_info]
    assert len(traced) == 1, traced


def test_an_ended_session_breaks_a_stream_off_that_saves_and_writes_no_traceback(open_site: OpenSite, log: Log) -> None:
    site = open_site(plain=True)
    cookie = "Cookie", f"session_id={site.make({'n': 1})}"
    logging.getLogger().addHandler(log)
    site.storage.before["replace"] = partial(site.storage.inner.clear, "")
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        site.raw("/events?how=late", cookie)
    ask(site.address, compose("GET", "/peek"))
    assert [record.getMessage() for record in log.records if record.exc_info] == []
