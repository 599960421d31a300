"""WebSockets and event streams end with their session, on every server; other open responses go on."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta

import pytest
from tests.adapters.browser import PATIENCE, until
from tests.adapters.conftest import OpenSite, Site, Tls, start
from tests.adapters.open_kit import ReportingStorage, feed, hears_the_end, raw_socket, socket
from tests.adapters.servers import SERVERS
from tests.adapters.socket_page import LEFT
from tests.stores import SpyStorage
from websockets.exceptions import ConnectionClosed

pytestmark = [  # of uvicorn's older implementation
    pytest.mark.filterwarnings("ignore:websockets.legacy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The `websockets` implementation is deprecated"),
    pytest.mark.filterwarnings("ignore:remove second argument of ws_handler:DeprecationWarning"),
]

SOON = 1.0  # seconds
Act = Callable[[Site, str], object]


@pytest.fixture(scope="module", params=SERVERS)
def shared(request: pytest.FixtureRequest, tls: Tls) -> Iterator[Site]:
    with ExitStack() as stack:
        yield start(
            stack, request.param, tls, plain=True, storage=ReportingStorage(), idle_timeout=timedelta(minutes=1)
        )


@pytest.fixture
def site(shared: Site) -> Site:
    return shared.reset()


def _revoke_all(site: Site, _: str) -> None:
    assert site.server.run(lambda: site.store.revoke_all("ada")) == 1


def _visit(path: str) -> Act:
    def visit(site: Site, sid: str) -> None:
        assert site.raw(path, ("Cookie", f"session_id={sid}")).status == 200

    return visit


def _expire_soon(site: Site, sid: str) -> None:
    async def shorten() -> None:
        async with site.store.open(sid) as session:
            session.set_idle_timeout(timedelta(seconds=0.3))

    site.server.run(shorten)
    time.sleep(0.3)  # the session expires


ENDS: dict[str, Act] = {
    "revoke_all": _revoke_all,
    "logout": _visit("/logout"),
    "expiry": _expire_soon,
    "another owner's login": _visit("/login?owner=bob"),
}
STAYS: dict[str, Act] = {
    "nothing": lambda _site, _sid: None,
    "regenerate": _visit("/regenerate"),
    "login of the same owner": _visit("/login?owner=ada"),
    "a write": _visit("/counter"),
}


@pytest.mark.proves("P2", "AT-122", "AT-132", "ASVS 7.4.1")
@pytest.mark.parametrize("end", ENDS)
def test_they_alone_end_with_the_session(site: Site, end: str, caplog: pytest.LogCaptureFixture) -> None:
    sid = site.make({"n": 1}, owner="ada")
    with (
        socket(site, sid) as talking, socket(site, sid, "how=none") as late, feed(site, sid) as events,
        feed(site, sid, "/feed?how=silent") as silent, feed(site, sid, "/feed?how=later") as later,
        feed(site, sid, "/download") as download,
    ):  # fmt: skip
        late.send("get n")
        assert (late.recv(), events.part(), download.part()) == ("1", b"data: begun\n\n", b"begun ")
        while later.part() != b"data: used\n\n":
            pass
        ENDS[end](site, sid)
        began = time.monotonic()
        for connection in (talking, late):
            hears_the_end(connection)
        assert (events.rest(), silent.rest(), later.rest()) == (b"", b"", b"")
        assert time.monotonic() - began < SOON
        site.raw("/download?go=on")
        assert download.rest() == b"done"
    assert site.count() == (end == "another owner's login")
    assert [record for record in caplog.records if record.exc_info or record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("act", STAYS)
def test_they_stay_while_the_session_lives(site: Site, act: str) -> None:
    sid = site.make({"n": 1}, owner="ada")
    with socket(site, sid) as talking, feed(site, sid) as events:
        assert events.part() == b"data: begun\n\n"
        STAYS[act](site, sid)
        site.server.run(lambda: site.store.create({}))  # by then what was reported has been looked up
        talking.send("get n")
        assert talking.recv() == "1"
        _revoke_all(site, sid)
        hears_the_end(talking)
        assert events.rest() == b""


def test_a_socket_whose_client_has_left_is_watched_no_longer(site: Site) -> None:
    watched = site.storage.inner._table.watchers.by_key  # pyright: ignore[reportPrivateUsage]
    with socket(site, site.make({"n": 1})) as talking:
        for _ in range(2):
            talking.send("get n")
            assert talking.recv() == "1"
        until(lambda: bool(watched))
    until(lambda: not watched)


def test_a_handler_that_sleeps_and_a_client_that_never_answers_hold_nothing_up(site: Site) -> None:
    sid = site.make({"n": 1}, owner="ada")
    with socket(site, sid) as asleep, raw_socket(site, sid) as mute:
        asleep.send("wait")
        assert asleep.recv() == "waits"
        LEFT.clear()
        _revoke_all(site, sid)
        assert hears_the_end(asleep) < SOON
        assert mute.recv(1000) == b"\x88\x0f\x03\xf0session ended"
        until(lambda: bool(LEFT))
        assert LEFT == ["how=read"]  # the handler gets the disconnect without waiting for the client
    site.raw("/download?go=on")


def test_an_unanswered_end_is_401_or_1008_without_traceback(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    sid = site.make({"n": 1})
    assert site.raw("/end-alive", ("Cookie", f"session_id={sid}")).status == 401
    sid = site.make({"n": 1})
    for command in ("end", "destroy"):  # each is the first use of the session
        with socket(site, sid, "how=none") as talking:
            talking.send(command)
            with suppress(ConnectionClosed):
                talking.recv(PATIENCE)  # perhaps there is an answer first
            hears_the_end(talking)
        sid = site.make({"n": 1})
    assert [record for record in caplog.records if record.exc_info] == []


def test_an_outage_longer_than_the_window_closes_with_1013_and_a_shorter_one_nobody(open_site: OpenSite) -> None:
    times = {"watch_interval": 0.1, "storage_timeout": 0.5, "stale_id_window": 1}
    site = open_site(plain=True, **{name: timedelta(seconds=seconds) for name, seconds in times.items()})
    sid = site.make({"n": 1})
    with socket(site, sid) as talking, feed(site, sid) as events:
        assert events.part() == b"data: begun\n\n"
        with site.storage.fail("load") as outage:
            site.server.run(outage.entered.wait)
            time.sleep(0.4)
        seen, began = site.storage.done.count("load"), time.monotonic()
        until(lambda: site.storage.done.count("load") > seen)
        talking.send("get n")
        assert talking.recv() == "1"
        site.storage.fail("load")
        assert hears_the_end(talking, 1013, "try again later") < 5
        assert time.monotonic() - began > 0.8
        assert events.rest() == b""


def test_it_can_be_turned_off(open_site: OpenSite) -> None:
    site = open_site(plain=True, storage=ReportingStorage(), end_connections=False)
    sid = site.make({"n": 1}, owner="ada")
    with socket(site, sid) as talking, feed(site, sid):
        _revoke_all(site, sid)
        talking.send("get n")
        assert talking.recv() == "1"
    assert "watch" not in site.storage.calls


@pytest.mark.proves("AT-133")
@pytest.mark.parametrize("storage", [ReportingStorage, SpyStorage])
def test_a_clients_message_is_a_use_once_in_each_touch_interval(open_site: OpenSite, storage: type[SpyStorage]) -> None:
    site = open_site(
        plain=True, storage=storage(), idle_timeout=timedelta(seconds=2.4), touch_interval=timedelta(seconds=0.8)
    )
    sid = site.make({"n": 1})
    with socket(site, sid, "how=none") as talking:
        began = said = time.monotonic()
        while said < began + 3.5:  # longer than an unused session lives
            said = time.monotonic()
            talking.send("get n")
            assert talking.recv() == "1"
            time.sleep(0.1)
        touches = site.storage.calls.count("touch")
        assert 3 <= touches <= 5
        with suppress(ConnectionClosed):  # not to the end: granian may close without a frame as one arrives
            while time.monotonic() < said + 1.2:
                talking.ping()
                time.sleep(0.1)
        hears_the_end(talking)
        assert site.storage.calls.count("touch") == touches  # pings of the protocol are no use
        assert 1.5 < time.monotonic() - said < 4  # the last use is at most a touch interval older than the last message
