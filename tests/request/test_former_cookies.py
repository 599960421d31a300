"""`former_cookies`: a cookie that a deploy has moved is expired at its old place, so that browsers send one again."""

import dataclasses
import re
from typing import Any

import pytest
from tests.kit import Lab, Work, destroy, login, mutate, read, regenerate, serve, write
from tests.views import PlainView

from sessioncore import ConfigError, EventKind, Session, SessionConfig, chain, from_cookie, from_header

pytestmark = pytest.mark.anyio

GONE = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
OLD = f"sid=; {GONE}; Path=/app; HttpOnly; Secure; SameSite=Lax"
OLD_DOMAIN = f"sid=; {GONE}; Path=/; Domain=example.com; HttpOnly; Secure; SameSite=Lax"


def moved(**config: Any) -> Lab:
    given: dict[str, Any] = {"extractor": from_cookie("sid"), "former_cookies": [("/app", None)], **config}
    return Lab(**given)


async def touch_nothing(session: Session) -> None:
    assert not session.modified


REFUSED: list[tuple[list[Any], dict[str, Any], str]] = [
    ([[("/", None)], [("/a", None), ("/", None)]], {}, "present cookie_path"),
    ([[("/", "Example.COM")]], {"cookie_domain": ".example.com"}, "present cookie_path"),
    ([[("/", ".example.com")]], {"cookie_domain": "EXAMPLE.com"}, "present cookie_path"),
    ([[("/app", None)]], {"extractor": from_cookie("__Host-sid")}, "__Host-"),
    ([[("/app", None)]], {"extractor": from_cookie("__hOsT-sid")}, "__Host-"),
    ([[("/app", None)]], {"extractor": from_header("X-Sid")}, "needs a cookie"),
    ([[("app", None)]], {}, "path of a former cookie must begin with '/'"),
    ([[("/a;b", None)], [(None, None)]], {}, "path of a former cookie"),
    ([[("/", "a b")], [("/", "")]], {}, "domain of a former cookie"),
    ([[("/app",)], ["/app"], [None]], {}, "each entry"),
    (["/app", None, 5], {}, "list of"),
]


def test_a_place_where_no_cookie_can_have_been_is_refused() -> None:
    for places, settings, text in REFUSED:
        for former in places:
            with pytest.raises(ConfigError, match=text):
                moved(**{"former_cookies": former, **settings})


@pytest.mark.parametrize("kind", [list, tuple, set, frozenset])
def test_any_collection_will_do_and_what_is_given_twice_counts_once(kind: Any) -> None:
    config = SessionConfig(extractor=from_cookie("sid"), former_cookies=kind([("/a", None), ("/a", None)]))
    assert config.former_cookies == (("/a", None),)
    assert dataclasses.replace(config, cookie_path="/b").former_cookies == (("/a", None),)
    assert hash(config)
    same = [("/", "a.example"), ("/", ".A.example")]
    assert len(SessionConfig(extractor=from_cookie("sid"), former_cookies=same).former_cookies) == 1
    SessionConfig(extractor=from_cookie("sid"), cookie_domain="a.example", former_cookies=[("/", None)])
    assert SessionConfig().former_cookies == ()


@pytest.mark.parametrize("work", [write, login, mutate])
async def test_a_new_cookie_comes_after_the_end_of_the_former_ones(work: Work) -> None:
    reply = await serve(moved(former_cookies=[("/app", None), ("/", "example.com")]).store, PlainView(), work)
    assert reply.all("set-cookie")[:2] == [OLD, OLD_DOMAIN]
    assert reply.cookies["sid"]
    assert len(reply.all("set-cookie")) == 3


async def known(lab: Lab, *more: bytes) -> PlainView:
    session = await lab.store.create({"n": 1}, owner="ada")
    return PlainView([b"sid=" + session.id.encode(), *more])


@pytest.mark.parametrize(("work", "lines"), [(regenerate, 2), (login, 2), (destroy, 2), (read, 0), (write, 0)])
async def test_what_writes_no_cookie_ends_none(work: Work, lines: int) -> None:
    lab = moved()
    sent = (await serve(lab.store, await known(lab), work)).all("set-cookie")
    assert len(sent) == lines
    assert sent[:1] == [OLD][:lines]


async def test_each_cookie_of_a_chain_is_ended_but_for_those_that_cannot_have_been_there() -> None:
    lab = moved(extractor=chain(from_cookie("__Host-sid"), from_cookie("sid"), from_cookie("older")))
    sent = (await serve(lab.store, PlainView(), write)).all("set-cookie")
    assert [line.partition("=")[0] for line in sent] == ["sid", "older", "__Host-sid", "sid", "older"]


@pytest.mark.parametrize(
    ("work", "ended"), [(read, True), (write, True), (regenerate, True), (touch_nothing, False), (None, False)]
)
async def test_two_values_end_the_former_cookie_where_the_session_was_used(work: Work | None, ended: bool) -> None:
    lab = moved()
    reply = await serve(lab.store, await known(lab, b"sid=" + b"x" * 43), work)
    assert reply.all("set-cookie") == ([OLD] if ended else [])
    assert reply.all("cache-control") == (["no-store"] if ended else [])
    assert [event.kind for event in lab.sent(EventKind.AMBIGUOUS)] == [EventKind.AMBIGUOUS]


async def test_a_login_among_two_values_begins_a_session_and_a_logout_ends_every_cookie() -> None:
    lab = moved()
    begun = (await serve(lab.store, await known(lab, b"sid=" + b"x" * 43), login)).all("set-cookie")
    assert [begun[0], len(begun)] == [OLD, 2]
    ended = (await serve(lab.store, await known(lab, b"sid=" + b"x" * 43), destroy)).all("set-cookie")
    assert ended == [OLD, OLD.replace("/app", "/")]


async def test_two_values_of_a_header_or_without_former_cookies_end_no_cookie() -> None:
    lab = moved(extractor=chain(from_header("X-Sid"), from_cookie("sid")))
    assert (await serve(lab.store, PlainView(headers=[("X-Sid", "a"), ("X-Sid", "b")]), read)).all("set-cookie") == []
    lab = moved(former_cookies=())
    assert (await serve(lab.store, await known(lab, b"sid=" + b"x" * 43), write)).all("set-cookie") == []


@pytest.mark.parametrize("mode", ["refuse", "report"])
async def test_another_sites_request_ends_no_cookie_unless_it_is_only_reported(mode: str) -> None:
    lab = moved(extractor=chain(from_header("X-Sid"), from_cookie("sid")), cross_site=mode)
    session = await lab.store.create()
    site = ("Sec-Fetch-Site", "cross-site")
    by_header = PlainView([b"sid=a; sid=b"], [("X-Sid", session.id), site], method="POST")
    by_cookies = PlainView([b"sid=a; sid=b"], [site], method="POST")
    sent = [(await serve(lab.store, view, login)).all("set-cookie") for view in (by_header, by_cookies)]
    assert [len(lines) for lines in sent] == ([0, 0] if mode == "refuse" else [2, 2])


@pytest.mark.parametrize(
    ("view", "advice"),
    [
        (PlainView([b"sid=a; sid=b"]), r"cookies sid, .*former_cookies=\[\(path, domain\)\].*another application"),
        (PlainView(headers=[("X-Sid", "a"), ("X-Sid", "b")]), "headers X-Sid, .*client or proxy"),
    ],
)
async def test_each_store_logs_two_values_once(view: PlainView, advice: str, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        lab = Lab(extractor=chain(from_header("X-Sid"), from_cookie("sid")))
        caplog.clear()
        for _ in range(3):
            await serve(lab.store, view, read)
        [record] = caplog.records
        assert (record.name, record.levelname) == ("sessioncore", "WARNING")
        assert re.search(advice, record.getMessage())
        assert len(lab.sent(EventKind.AMBIGUOUS)) == 3
