"""The table of scenarios on every adapter, over TLS, by a browser that obeys cookie rules.

The storage answers each call immediately, no call, or every other one: adapters must behave the same.
"""

import gc
import re
from contextlib import ExitStack
from typing import Final

import pytest
from tests.adapters.browser import Reply, until
from tests.adapters.conftest import OpenSite, Site, Sites, Tls, start
from tests.adapters.scenarios import ANY, SCENARIOS, Scenario, Step
from tests.numbers import scaled
from tests.stores import AlternatingStorage, PromptStorage, SpyStorage, SuspendingStorage, without_checks

from sessioncore import RequestView, Session, SessionConfig, SessionStore, from_cookie

_SET: Final = r"__Host-session_id=[A-Za-z0-9_-]{43}%s; Path=/; HttpOnly; Secure; SameSite=Lax"
_CLEAR: Final = (
    "__Host-session_id=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/; HttpOnly; Secure; SameSite=Lax"
)


EVERYWHERE: Final = [
    ("asgi", PromptStorage), ("asgi", SuspendingStorage), ("asgi-on-trio", SuspendingStorage),
    ("aiohttp", PromptStorage), ("aiohttp", SuspendingStorage),
    ("litestar", PromptStorage), ("litestar", AlternatingStorage),
]  # fmt: skip


@pytest.fixture(scope="module", params=EVERYWHERE, ids=lambda pair: f"{pair[0]}-{pair[1].__name__}")
def everywhere(request: pytest.FixtureRequest, sites: Sites) -> Site:
    return sites(*request.param)


@pytest.mark.proves(
    "P3", "P5", "AT-28", "AT-30", "AT-32", "AT-33", "AT-35", "AT-36", "AT-87", "AT-88", "AT-89", "AT-90", "AT-91",
    "AT-92", "AT-97", "AT-98", "AT-99", "ASVS 14.3.1",
)  # fmt: skip
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_every_adapter_behaves_alike(everywhere: Site, scenario: Scenario) -> None:
    site = everywhere.reset()
    browser = site.browser()
    for number, step in enumerate(scenario.steps):
        if scenario.by_strangers:
            browser = site.browser()
        before = site.cookie(browser)
        site.calls()
        reply = browser.request(step.method, step.path)
        _check(step, reply, f"step {number}, {step.path}")
        _check_cookie(step, reply, before, site.cookie(browser))
        if step.calls is not None:
            assert site.calls(len(step.calls)) == list(step.calls), f"step {number}, {step.path}"
        if step.stored is not None:
            assert site.count() == step.stored, f"step {number}, {step.path}"


def _check(step: Step, reply: Reply, where: str) -> None:
    assert reply.status == step.status, where
    if step.body is not None:
        assert reply.text == step.body, where
    if step.vary != ANY:
        assert reply.one("vary") == step.vary, where
    if step.cache != ANY:
        changes = step.cookie in {"set", "renewed", "cleared"}
        assert reply.one("cache-control") == (step.cache or ("no-store" if changes else None)), where
    if step.cookie in {"set", "renewed", "cleared"}:
        assert reply.one("cdn-cache-control") is None, where


def _check_cookie(step: Step, reply: Reply, before: str | None, after: str | None) -> None:
    lines = [line for line in reply.set_cookies if line.startswith("__Host-session_id=")]
    assert [line for line in reply.set_cookies if line not in lines] == list(step.others)
    match step.cookie:
        case "kept":
            assert not lines
            assert after == before
        case "set" | "renewed":
            assert len(lines) == 1
            assert re.fullmatch(_SET % (step.max_age and f"; Max-Age=({step.max_age})"), lines[0])
            assert after is not None
            assert (after == before) is (step.cookie == "renewed")
        case "cleared":
            assert lines == [_CLEAR]
            assert after is None
        case "any":
            pass


@pytest.mark.proves("P2", "AT-29", "ASVS 7.4.1")
def test_the_old_id_is_dead_when_the_response_has_come(site: Site) -> None:
    for path in ("/login", "/regenerate", "/logout", "/destroy", "/redirect-login", "/destroy?v=1"):
        browser = site.browser()
        browser.get("/counter")
        old = site.cookie(browser)
        browser.get(path)
        replay = site.raw("/read", ("Cookie", f"__Host-session_id={old}"))
        assert (replay.text, replay.set_cookies) == ("{}", [])


@pytest.mark.proves("P6", "AT-35", "ASVS 3.3.4")
def test_an_id_that_comes_back_is_sent_in_no_header_and_no_body(site: Site) -> None:
    browser = site.browser()
    browser.get("/counter")
    sid = site.cookie(browser)
    assert sid is not None
    for path in ("/read", "/counter", "/who", "/peek", "/stream", "/file", "/boom", "/nowhere"):
        reply = browser.get(path)
        assert sid not in reply.body.decode("latin-1")
        assert all(sid not in value for _, value in reply.headers)


def test_plain_http_needs_development_settings_and_the_storage_is_open_with_the_site(adapter: str, tls: Tls) -> None:
    with ExitStack() as stack:
        site = start(stack, adapter, tls, plain=True)
        browser = site.browser()
        first = browser.get("/counter")
        assert first.set_cookies[0].startswith("session_id=")
        assert "Secure" not in first.set_cookies[0]
        assert browser.get("/counter").text == "2"
    assert without_checks(site.storage.calls) == ["open", "create", "load", "replace", "aclose"]


@pytest.mark.proves("AT-96")
def test_forwarded_headers_do_not_change_the_cookie(site: Site) -> None:
    reply = site.raw("/counter", ("X-Forwarded-Proto", "http"), ("Forwarded", "proto=http"))
    assert re.fullmatch(_SET % "; Max-Age=86400", reply.set_cookies[0])


@pytest.mark.proves("AT-102")
def test_two_stores_work_side_by_side_and_the_id_of_one_is_sent_even_if_the_other_fails(open_site: OpenSite) -> None:
    storage = SpyStorage()
    second = SessionStore(SessionConfig(storage=storage, extractor=from_cookie("__Host-other")))
    site = open_site(("second", second))
    browser = site.browser()
    assert browser.get("/both").text == "1 10"
    for failing in (site.storage, storage):
        failing.fail("move")
        assert browser.get("/regenerate-both").status == 503
        failing.restore()
    assert browser.get("/both").text == "2 20"  # the browser has no dead ID of either store
    assert (site.count(), len(storage.inner)) == (1, 1)
    assert set(browser.cookies) == {"__Host-session_id", "__Host-other"}
    assert browser.get("/logout").text == "bye"
    assert set(browser.cookies) == {"__Host-other"}
    assert browser.get("/both").text == "1 30"


@pytest.mark.proves("AT-101")
def test_mounted_twice_is_one_session_and_one_cookie(open_site: OpenSite) -> None:
    site = open_site(("session", None))
    browser = site.browser()
    reply = browser.get("/counter")
    assert len(reply.set_cookies) == 1
    assert reply.one("vary") == "Cookie"
    assert browser.get("/counter").text == "2"
    assert site.calls() == ["create", "load", "replace"]


def test_a_skipped_request_has_no_session(open_site: OpenSite) -> None:
    def skip(view: RequestView) -> bool:
        return view.path == "/counter"

    site = open_site(skip=skip)
    assert site.raw("/counter").status == 500
    assert site.raw("/peek").status == 200
    assert site.raw("/mutate").text == "1"


def test_requests_leave_nothing_for_the_garbage_collector(site: Site) -> None:
    browser = site.browser()
    paths = ("/counter", "/read", "/peek", "/stream", "/file", "/login", "/regenerate", "/logout")
    for path in paths:  # caches fill
        browser.get(path)
    gc.collect()
    gc.disable()
    before = _sessions()
    try:
        # No exceptions here: a traceback holds the frames that hold the exception, in every framework.
        for path in paths * scaled(20):
            browser.get(path)
        until(lambda: _sessions() <= before + 1)  # a connection may hold its last session
    finally:
        gc.enable()


def _sessions() -> int:
    return sum(type(thing) is Session for thing in gc.get_objects())
