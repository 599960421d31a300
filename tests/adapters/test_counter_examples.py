"""The small examples in docs/examples, visited as people's browsers would: the same in both frameworks."""

import re
from collections.abc import Iterator

import pytest
from docs.examples.aiohttp_counter.app import build as build_aiohttp
from docs.examples.litestar_counter.app import build as build_litestar
from tests.adapters.browser import Browser, Reply
from tests.adapters.servers import Server, serve, serve_aiohttp, serve_asgi
from tests.stores import SpyStorage

from sessioncore import SessionConfig, SessionStore


@pytest.fixture
def storage() -> SpyStorage:
    return SpyStorage()


@pytest.fixture(params=["aiohttp", "litestar"])
def example(storage: SpyStorage, request: pytest.FixtureRequest) -> Iterator[Server]:
    store = SessionStore(SessionConfig.development(storage=storage))
    if request.param == "aiohttp":
        running = serve(serve_aiohttp, build_aiohttp(store))
    else:
        running = serve(serve_asgi, build_litestar(store))
    with running as server:
        yield server


def _number(reply: Reply) -> str:
    found = re.search(r'class="number">(\d+)<', reply.text)
    assert found
    return found[1]


def _login(browser: Browser, name: str) -> Reply:
    return browser.post("/login", f"name={name}".encode())


def test_a_visitor_counts_logs_in_and_out(example: Server, storage: SpyStorage) -> None:
    browser = Browser(example.address)
    page = browser.get("/")
    assert (_number(page), len(storage.inner)) == ("0", 0)
    assert browser.post("/count", b"").status == 303
    for number in ("1", "2", "3"):
        page = browser.get("/")
        assert _number(page) == number
        browser.post("/count", b"")
    before = browser.cookies["session_id"]
    assert _login(browser, "Ada").headers
    assert browser.cookies["session_id"] != before
    page = browser.get("/")
    assert "Hello, Ada." in page.text
    assert _number(page) == "4"
    assert browser.post("/logout", b"").status == 303
    assert browser.cookies == {}
    assert _number(browser.get("/")) == "0"
    assert len(storage.inner) == 0


def test_somebody_logs_another_device_out(example: Server) -> None:
    laptop = Browser(example.address, [("User-Agent", "laptop <b>")])
    phone = Browser(example.address, [("User-Agent", "phone")])
    stranger = Browser(example.address)
    for browser, name in ((laptop, "Ada"), (phone, "Ada"), (stranger, "Eve")):
        assert _login(browser, name).one("location") == "/devices"
    page = laptop.get("/devices")
    assert page.text.count("<li>") == 2
    assert "laptop &lt;b&gt;" in page.text
    handle = re.search(r'name="handle" value="([^"]+)"', page.text)
    assert handle
    stranger.post("/devices/revoke", f"handle={handle[1]}".encode())
    assert phone.get("/devices").status == 200  # not hers to end
    laptop.post("/devices/revoke", f"handle={handle[1]}".encode())
    assert phone.get("/devices").one("location") == "/login"
    assert laptop.get("/devices").text.count("<li>") == 1


def test_a_form_of_another_site_is_refused(example: Server) -> None:
    browser = Browser(example.address)
    paths = ("/count", "/logout", "/devices/revoke", "/login")
    browser.headers = [("Sec-Fetch-Site", "cross-site")]
    for path in ("/count", "/login"):
        assert browser.post(path, b"name=Eve").status == 403
    browser.headers = []
    _login(browser, "Ada")
    browser.headers = [("Sec-Fetch-Site", "cross-site")]
    for path in paths:
        assert browser.post(path, b"name=Eve").status == 403
    assert "Hello, Ada." in browser.get("/").text


def test_a_login_needs_a_name(example: Server) -> None:
    browser = Browser(example.address)
    reply = _login(browser, "+")
    assert reply.status == 422
    assert "Please tell your name." in reply.text
