"""The three examples in docs/examples, clicked through: signing another device out, and the Back button."""

import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

import pytest
from docs.examples.aiohttp_counter.app import build as build_aiohttp
from docs.examples.litestar_counter.app import build as build_litestar
from docs.examples.shop.app import build as build_shop
from msgspec import Struct
from playwright.sync_api import Page, expect
from tests.adapters.conftest import Sites, Tls
from tests.adapters.servers import Server, serve, serve_aiohttp, serve_asgi
from tests.browser.conftest import People
from tests.browser.kit import go_back, text, url
from tests.stores import SpyStorage

from sessioncore import SessionStore


class Example(Struct, frozen=True):
    """An application that is being served, and where its buttons are."""

    server: Server
    password: str | None
    other_device: str  # the button that signs another device out

    def log_in(self, page: Page) -> None:
        page.goto(url(self.server, "/login"))
        page.fill("[name=name]", "ada")
        if self.password:
            page.fill("[name=password]", self.password)
        page.click("main button")
        page.wait_for_url(re.compile(r"/devices\b"))


Serving = Callable[[ExitStack, Tls, pytest.TempPathFactory], Example]
EXAMPLES: Final[dict[str, Serving]] = {
    "shop": lambda stack, tls, folder: Example(
        stack.enter_context(serve(serve_asgi, build_shop(folder.mktemp("shop") / "shop.sqlite3"), tls)),
        "analytical-engine",
        ".device button",
    ),
    "aiohttp": lambda stack, tls, _: Example(
        stack.enter_context(serve(serve_aiohttp, build_aiohttp(SessionStore()), tls)), None, "li button"
    ),
    "litestar": lambda stack, tls, _: Example(
        stack.enter_context(serve(serve_asgi, build_litestar(SessionStore()), tls)), None, "li button"
    ),
}


@pytest.fixture(scope="session", params=EXAMPLES)
def example(
    request: pytest.FixtureRequest, servers: ExitStack, tls: Tls, tmp_path_factory: pytest.TempPathFactory
) -> Example:
    return EXAMPLES[request.param](servers, tls, tmp_path_factory)


@pytest.mark.proves("P2", "ASVS 7.5.2")
def test_a_device_signed_out_by_another_is_out_at_its_next_click(page: Page, another: People, example: Example) -> None:
    phone = another()
    for device in (page, phone):
        example.log_in(device)
    page.reload()
    page.click(example.other_device)
    expect(page.locator(example.other_device)).to_have_count(0)
    phone.reload()
    expect(phone).to_have_url(url(example.server, "/login"))
    page.reload()
    assert "/devices" in page.url


@pytest.mark.proves("ASVS 14.3.2")
def test_the_back_button_shows_nothing_private_after_logout(page: Page, example: Example) -> None:
    example.log_in(page)  # in spite of no-store Chromium may show the page after the login again
    private = 1
    if not page.locator("nav form button").count():
        page.click("a[href='/']")
        expect(page).to_have_url(url(example.server, "/"))
        private = 2
    with page.expect_navigation():
        page.click("nav form button")  # signs out
    for _ in range(private):
        go_back(page)
        assert "ada" not in text(page).lower() or "/login" in page.url
    expect(page).to_have_url(url(example.server, "/login"))


def test_without_no_store_the_back_button_shows_the_page_of_before(page: Page, adapter: str, sites: Sites) -> None:
    site = sites(adapter, SpyStorage).reset()
    for path in ("/login", "/who", "/destroy"):
        page.goto(url(site, path))
    go_back(page)
    assert '"owner":"ada"' in text(page)
