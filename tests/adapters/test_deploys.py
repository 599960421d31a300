"""A deploy that moves the cookie, on every adapter, with a browser that keeps cookies by path."""

from tests.adapters.browser import Browser
from tests.adapters.conftest import OpenSite
from tests.stores import SpyStorage

from sessioncore import chain, from_cookie


def sent(browser: Browser, path: str) -> list[str]:
    """The values of the session cookie that the browser would send to this path."""
    return [pair for pair in browser.cookie_header(path).split("; ") if pair.startswith("sid=")]


def test_a_cookie_that_moved_to_another_path_is_one_cookie_again(open_site: OpenSite) -> None:
    storage = SpyStorage()
    first = open_site(storage=storage, extractor=from_cookie("sid"), cookie_path="/counter")
    moved = open_site(storage=storage, extractor=from_cookie("sid"))
    mended = open_site(storage=storage, extractor=from_cookie("sid"), former_cookies=[("/counter", None)])
    browser = first.browser()
    assert browser.get("/counter").text == "1"
    browser.address = moved.address
    assert browser.get("/counter").text == "2"  # the session goes on with the cookie that it has
    browser.get("/login")
    assert (len(sent(browser, "/login")), len(sent(browser, "/counter"))) == (1, 2)
    assert [browser.get("/counter").text for _ in range(2)] == ["1", "1"]  # two values, no session
    browser.address = mended.address
    reply = browser.get("/counter")
    [line] = reply.set_cookies
    assert line.startswith("sid=; Max-Age=0; ")
    assert ("Path=/counter" in line, reply.one("cache-control")) == (True, "no-store")
    assert sent(browser, "/counter") == sent(browser, "/login")
    assert [browser.get("/counter").text for _ in range(2)] == ["1", "2"]
    assert '"owner":"ada"' in browser.get("/who").text


def test_an_applications_own_cookie_of_that_name_is_dropped_and_ours_pass(open_site: OpenSite) -> None:
    both = chain(from_cookie("__Host-session_id"), from_cookie("sid"))
    site = open_site(extractor=both, former_cookies=[("/old", None), ("/older", "localhost")])
    lines = site.browser().get("/vary?case=clash").set_cookies
    assert [line.partition("=")[0] for line in lines] == ["b", "sid", "sid", "__Host-session_id", "sid"]
    assert ["Max-Age=0" in line for line in lines] == [False, True, True, False, False]


def test_an_error_in_place_of_the_response_ends_the_former_cookie_too(open_site: OpenSite) -> None:
    site = open_site(extractor=from_cookie("sid"), former_cookies=[("/old", None)])
    reply = site.browser().get("/regenerate-save-boom")
    assert (reply.status, ["Max-Age=0" in line for line in reply.set_cookies]) == (500, [True, False])
