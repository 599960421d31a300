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


@pytest.fixture(params=["aiohttp", "litestar"])
def example(storage: SpyStorage, request: pytest.FixtureRequest) -> Iterator[Server]:
    store = SessionStore(SessionConfig.development(storage=storage))
    aiohttp = request.param == "aiohttp"
    with serve(serve_aiohttp, build_aiohttp(store)) if aiohttp else serve(serve_asgi, build_litestar(store)) as server:
        yield server


def _number(browser: Browser) -> str:
    found = re.search(r'class="number">(\d+)<', browser.get("/").text)
    assert found
    return found[1]


def _login(browser: Browser, name: str) -> Reply:
    return browser.post("/login", f"name={name}".encode())


def test_a_visitor_counts_logs_in_and_out(example: Server, storage: SpyStorage) -> None:
    browser = Browser(example.address)
    assert (_number(browser), len(storage.inner)) == ("0", 0)
    for number in ("1", "2", "3"):
        assert browser.post("/count", b"").status == 303
        assert _number(browser) == number
    before = browser.cookies["session_id"]
    empty = _login(browser, "+")
    assert (empty.status, "Please tell your name." in empty.text) == (422, True)
    _login(browser, "Ada")
    assert browser.cookies["session_id"] != before
    browser.headers = [("Sec-Fetch-Site", "cross-site")]  # forms of another site
    assert [browser.post(path, b"name=Eve").status for path in ("/count", "/login", "/devices/revoke", "/logout")] == [
        403
    ] * 4
    browser.headers = []
    assert "Hello, Ada." in browser.get("/").text
    assert _number(browser) == "3"
    assert browser.post("/logout", b"").status == 303
    assert (browser.cookies, _number(browser), len(storage.inner)) == ({}, "0", 0)


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
