"""Cookies and IDs that an attacker chose, byte by byte, on every adapter.

The frameworks' own parsers unquote, decode and split cookies each in its way, and some
take one cookie's value for another cookie. The outcome here must not depend on them.
"""

import itertools
import json
import re
import time
from collections.abc import Iterable
from typing import Final

import pytest
from tests.adapters.browser import exchange
from tests.adapters.conftest import Site
from tests.http.cookie_headers import AMBIGUOUS, FOUND, MALFORMED, RESEMBLING, filled
from tests.numbers import scaled

NAME: Final = b"__Host-session_id"
OTHER: Final = "A" * 43  # well-formed, never issued
CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

UNKNOWN: Final = [(b"#=" + b"A" * length,) for length in (22, 42, 43, 44, 256)]


def _headers(templates: Iterable[bytes], sid: str) -> list[tuple[bytes | str, bytes | str]]:
    return [("Cookie", header) for header in filled(tuple(templates), NAME, sid)]


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
        if reply.status != 400 or not CONTROL.search(b"".join(row)):  # which servers may refuse
            assert (reply.status, reply.text, reply.one("vary")) == (200, body, "Cookie"), row
            assert (site.calls(), site.kinds()) == (calls, kinds), row
        assert reply.set_cookies == [], row
    assert site.count() == 1


def test_the_name_of_the_header_may_be_in_any_case(site: Site) -> None:
    sid = site.make({"n": 7})
    for name in ("cookie", "COOKIE", "Cookie"):
        assert site.raw("/read", (name, b"a=\xe9\xff; " + NAME + b"=" + sid.encode())).text == '{"n":7}'


def test_what_the_storage_knows_is_no_id(site: Site) -> None:
    sid = site.make({"n": 7})
    handle = json.loads(site.raw("/who", *_headers([b"#=@"], sid)).body)["handle"]
    for planted in (handle, f"session:{handle}", sid.swapcase(), sid[:-1] + chr(ord(sid[-1]) ^ 1), sid + "=", sid * 2):
        assert site.raw("/read", *_headers([b"#=@"], planted)).text == "{}"


def test_nothing_of_a_planted_cookie_comes_back(site: Site) -> None:
    for planted in (b"canary" * 8, b"canary<script>", b"canary%0d%0aX-Injected: 1"):
        reply = site.raw("/counter", ("Cookie", NAME + b"=" + planted))
        assert b"canary" not in reply.body
        assert all("canary" not in value for _, value in reply.headers)
        assert len(reply.set_cookies) == 1


def test_many_cookies_take_no_long_time(site: Site) -> None:
    sid = site.make({"n": 7})
    for size, junk in itertools.product((7_000, 60_000), (b"a=1; ", b'"\\"; ', b";", b"=", b"__Host-session_i=; ")):
        began = time.monotonic()
        try:
            reply = site.raw("/read", *_headers([junk * (size // len(junk)) + b"; #=@"], sid))
        except OSError:  # aiohttp refuses what is longer than 8190 bytes, and may close before all of it was sent
            assert size > 8190
        else:
            assert reply.text == '{"n":7}' or reply.status in {400, 431}
        assert time.monotonic() - began < 1, junk


def test_an_unknown_id_is_never_adopted(site: Site) -> None:
    first = site.raw("/login", ("Cookie", NAME + b"=" + OTHER.encode()))
    assert len(first.set_cookies) == 1
    assert OTHER not in first.set_cookies[0]
    assert site.kinds() == ["unknown", "created"]
    assert site.raw("/who", ("Cookie", NAME + b"=" + OTHER.encode())).text.startswith('{"owner":null,"fresh":true')


def test_a_malformed_id_is_never_adopted(site: Site) -> None:
    planted = ("Cookie", NAME + b"=planted")
    for path in ("/counter", "/login", "/regenerate", "/logout", "/destroy?v=1", "/redirect-login"):
        assert all("planted" not in line for line in site.raw(path, planted).set_cookies), path
        assert site.raw("/read", planted).text == "{}"


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


def test_a_thousand_strangers_leave_nothing(site: Site) -> None:
    with site.address.connect() as sock:
        for number in range(scaled(1000)):
            path = ("/read", "/logout", "/peek", "/destroy", "/regenerate")[number % 5]
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert exchange(sock).set_cookies == []
    assert site.count() == 0
    assert site.calls() == []


def test_one_session_is_not_shared_by_requests_of_one_connection(site: Site) -> None:
    sids = [site.make({"user": str(number)}) for number in range(5)]
    with site.address.connect() as sock:
        for number in list(range(5)) * scaled(20):
            request = f"GET /read HTTP/1.1\r\nHost: localhost\r\nCookie: __Host-session_id={sids[number]}\r\n\r\n"
            sock.sendall(request.encode())
            assert exchange(sock).body == b'{"user":"%d"}' % number
