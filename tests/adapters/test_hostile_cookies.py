"""Cookies and IDs that an attacker chose, byte by byte, on every adapter.

The frameworks' own parsers unquote, decode and split cookies each in its way, and some
take one cookie's value for another cookie. The outcome here must not depend on them.
"""

import json
import re
import time
from collections.abc import Iterable
from typing import Final

import pytest
from tests.adapters.asgi import Wire, http_scope
from tests.adapters.conftest import Site
from tests.http.cookie_headers import AMBIGUOUS, FOUND, MALFORMED, RESEMBLING, filled
from tests.numbers import scaled

from sessioncore_asgi._view import AsgiView

NAME: Final = b"__Host-session_id"
OTHER: Final = "A" * 43  # well-formed, never issued
CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

UNKNOWN: Final = [(b"#=" + b"A" * length,) for length in (22, 42, 43, 44, 256)]


def _headers(templates: Iterable[bytes], sid: str) -> list[tuple[bytes | str, bytes | str]]:
    return [("Cookie", header) for header in filled(tuple(templates), NAME, sid)]


@pytest.mark.proves(
    "AT-3", "AT-4", "AT-7", "AT-9", "AT-10", "AT-11", "AT-12", "AT-13", "AT-14", "AT-15", "AT-16", "AT-18"
)
@pytest.mark.parametrize(
    ("table", "body", "calls", "kinds"),
    [
        pytest.param(FOUND, '{"n":7}', ["load"], [], id="a live ID is found"),
        pytest.param(RESEMBLING, "{}", [], [], id="what no browser sends under this name is not seen"),
        pytest.param([row for row, _ in MALFORMED], "{}", [], ["malformed"], id="a malformed ID costs no storage call"),
        pytest.param(UNKNOWN, "{}", ["load"], ["unknown"], id="an unknown ID costs one load"),
        pytest.param(AMBIGUOUS, "{}", [], ["ambiguous"], id="two IDs are none"),
    ],
)
def test_the_cookie_header_is_read_byte_by_byte(
    site: Site, table: list[tuple[bytes, ...]], body: str, calls: list[str], kinds: list[str]
) -> None:
    sid = site.make({"n": 7})
    for row in table:
        reply = site.raw("/read", *_headers(row, sid))
        if reply.status != 400 or not CONTROL.search(b"".join(row)):  # servers may refuse control characters
            assert (reply.status, reply.text, reply.one("vary")) == (200, body, "Cookie"), row
            assert (site.calls(), site.kinds()) == (calls, kinds), row
        assert reply.set_cookies == [], row
    assert site.count() == 1


def test_the_name_of_the_header_may_be_in_any_case(site: Site) -> None:
    sid = site.make({"n": 7})
    for name in ("cookie", "COOKIE", "Cookie"):
        assert site.raw("/read", (name, b"a=\xe9\xff; " + NAME + b"=" + sid.encode())).text == '{"n":7}'


@pytest.mark.proves("AT-17")
def test_thirty_thousand_cookie_headers_are_read_in_a_moment() -> None:
    view = AsgiView(http_scope(headers=[(b"cookie", b"a=1")] * 30_000), Wire([]).receive, "GET")
    begin = time.thread_time()
    assert len(view.cookie_headers()) == 30_000
    assert time.thread_time() - begin < 0.2  # it takes a hundredth of this


@pytest.mark.proves("P1", "P6", "AT-5", "AT-6", "AT-8")
def test_what_the_storage_knows_is_no_id(site: Site) -> None:
    sid = site.make({"n": 7})
    handle = json.loads(site.raw("/who", *_headers([b"#=@"], sid)).body)["handle"]
    for planted in (handle, f"session:{handle}", sid.swapcase(), sid[:-1] + chr(ord(sid[-1]) ^ 1), sid + "=", sid * 2):
        assert site.raw("/read", *_headers([b"#=@"], planted)).text == "{}"


@pytest.mark.proves("P1", "AT-2", "AT-4", "AT-23", "ASVS 7.2.1")
def test_an_id_that_was_not_issued_is_never_adopted_and_never_repeated(site: Site) -> None:
    for value in (b"canary" * 8, b"canary<script>", b"canary%0d%0aX-Injected: 1"):
        planted = ("Cookie", NAME + b"=" + value)
        for path in ("/counter", "/login", "/regenerate", "/logout", "/destroy?v=1", "/redirect-login"):
            reply = site.raw(path, planted)
            assert b"canary" not in reply.body
            assert all("canary" not in line for _, line in reply.headers), path
            assert site.raw("/read", planted).text == "{}"


@pytest.mark.proves("P1", "AT-24", "ASVS 7.2.4")
def test_a_planted_session_is_dead_after_login(site: Site) -> None:
    attacker, victim = site.browser(), site.browser()
    attacker.get("/set?k=bait&v=1")
    planted = site.cookie(attacker)
    assert planted is not None
    victim.plant("__Host-session_id", planted)
    assert victim.get("/login?owner=victim").status == 200
    assert json.loads(attacker.get("/who").body)["owner"] is None
    assert json.loads(victim.get("/who").body)["owner"] == "victim"
    assert site.count() == 1


@pytest.mark.proves("P5", "AT-31", "AT-114", "ASVS 7.6.2")
def test_a_thousand_strangers_leave_nothing(site: Site) -> None:
    for number in range(scaled(1000)):
        path = ("/read", "/logout", "/peek", "/destroy", "/regenerate")[number % 5]
        assert site.raw(path).set_cookies == []
    assert site.count() == 0
    assert site.calls() == []


@pytest.mark.proves("AT-51")
def test_one_session_is_not_shared_by_requests_of_one_connection(site: Site) -> None:
    sids = [site.make({"user": str(number)}) for number in range(5)]
    site.raw("/peek")
    [connection] = site.address.idle or []
    for number in list(range(5)) * scaled(20):
        assert site.raw("/read", *_headers([b"#=@"], sids[number])).body == b'{"user":"%d"}' % number
    assert site.address.idle == [connection]
