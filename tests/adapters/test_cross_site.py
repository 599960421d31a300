"""Requests of other sites, through real servers: every adapter judges those of the core's table alike."""

import pytest
from tests.adapters.browser import ask
from tests.adapters.conftest import Site, Sites
from tests.cross_site_cases import CASES, Case
from tests.stores import SpyStorage

TRUSTED = ("https://pay.example", "capacitor://localhost")
METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"}  # accepted by the routes of every framework
HANDSHAKE = [
    ("Connection", "Upgrade"), ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]  # fmt: skip


@pytest.fixture
def site(adapter: str, sites: Sites) -> Site:
    # Without look-ups for open sockets, which would come at any time and be counted.
    return sites(adapter, SpyStorage, trusted_origins=TRUSTED, end_connections=False).reset()


def status(site: Site, case: Case, path: str, sid: str | None) -> int:
    """Send the request of a case, with the cookie if there is one."""
    headers = [*case.headers]
    if case.scheme.startswith("ws"):
        path, headers = f"/ws{path[path.find('?') :]}" if "?" in path else "/ws", [*headers, *HANDSHAKE]
    headers += [] if sid is None else [("Cookie", f"__Host-session_id={sid}")]
    lines = [f"{case.method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if not case.scheme.startswith("ws"):
        lines.append("Content-Length: 0")
    return ask(site.address, "\r\n".join([*lines, "", ""]).encode()).status


SAMPLE = slice(None, None, 5)  # enough of the table where only the use differs


def on_the_wire(case: Case) -> bool:
    """Whether every server passes the request on: not with another method, or with Upgrade but no handshake."""
    return case.method in METHODS and case.scheme != "ws" and all(name != "Upgrade" for name, _ in case.headers)


PAGES = [case for case in CASES if on_the_wire(case) and case.scheme == "https"][SAMPLE]


@pytest.mark.proves("P8", "AT-37", "ASVS 3.5.1")
def test_a_session_in_a_cookie_is_refused_to_other_sites_and_to_nobody_else(site: Site) -> None:
    sid = site.make({"n": 1})
    wrong: list[str] = []
    for case in filter(on_the_wire, CASES):
        found = status(site, case, "/read", sid)
        allowed = 101 if case.scheme == "wss" else 200
        if found != (403 if case.judged == "other" else allowed):
            wrong.append(f"{case}: {found}")
        assert (site.calls(0 if case.judged == "other" else 1) == []) == (case.judged == "other"), str(case)
        assert site.kinds() == ["cross_site"] * (case.judged == "other")
    assert wrong == []


@pytest.mark.proves("P8")
def test_without_a_cookie_other_sites_may_read_that_there_is_none_and_begin_nothing(site: Site) -> None:
    for case in PAGES:
        assert status(site, case, "/read", None) == 200, str(case)
        assert status(site, case, "/counter", None) == (403 if case.judged == "other" else 200), str(case)
        own = case.judged == "own"
        assert site.calls(int(own)) == ["create"] * own, str(case)
    assert site.count() == [case.judged for case in PAGES].count("own")


def test_a_page_that_uses_no_session_answers_every_site(site: Site) -> None:
    sid = site.make({"n": 1})
    assert {status(site, case, "/peek", sid) for case in PAGES} == {200}
