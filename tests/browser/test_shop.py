"""The example shop, whose cookie goes everywhere here (SameSite=None), and three origins that show it as an image."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from docs.examples.shop.app import ROUTES, build
from playwright.sync_api import Page
from starlette.routing import Route
from tests.adapters.conftest import Tls
from tests.adapters.servers import Server, serve, serve_asgi
from tests.browser.attacks import show_image
from tests.browser.conftest import People
from tests.browser.kit import HOME, OTHER, SIBLING, url
from tests.test_shop import dump

ORIGINS: Final = (OTHER, SIBLING, HOME)
GETS: Final = [route.path for route in ROUTES if isinstance(route, Route) and "GET" in (route.methods or ())]


class Shop:
    """A running shop, and the file with its sessions."""

    def __init__(self, servers: ExitStack, tls: Tls, folder: Path) -> None:
        self._database = folder / "shop.sqlite3"
        app = build(self._database, cookie_same_site="none", cookie_secure=True)
        self.known: list[str] = []  # the paths of requests that carried a cookie

        async def noticing(scope: Any, receive: Any, send: Any) -> None:
            if any(name == b"cookie" for name, _ in scope.get("headers", ())):
                self.known.append(scope["path"])
            await app(scope, receive, send)

        self.server: Server = servers.enter_context(serve(serve_asgi, noticing, tls))

    def stored(self) -> list[str]:
        return dump(self._database)

    def log_in(self, page: Page) -> None:
        """Fill the cart and sign in."""
        page.goto(url(self.server))
        page.click("text=Add >> nth=0")
        page.goto(url(self.server, "/login"))
        page.fill("[name=name]", "ada")
        page.fill("[name=password]", "analytical-engine")
        with page.expect_navigation():
            page.click("main button")


@pytest.fixture(scope="module")
def shop(servers: ExitStack, tls: Tls, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(servers, tls, tmp_path_factory.mktemp("shop"))


def test_what_another_origin_shows_as_an_image_changes_nothing(page: Page, shop: Shop, elsewhere: Server) -> None:
    shop.log_in(page)
    before = shop.stored()
    for host in ORIGINS:
        page.goto(url(elsewhere, host=host))
        assert show_image(page, url(shop.server, "/static/icon.svg")) > 0
        shop.known.clear()
        for path in GETS:
            assert show_image(page, url(shop.server, path)) == 0  # because it is a page
        assert shop.known == GETS
        assert shop.stored() == before


def test_the_devices_page_shows_who_comes_and_that_it_was_signed_out(page: Page, another: People, shop: Shop) -> None:
    shop.log_in(page)
    page.goto(url(shop.server, "/devices"))
    if page.is_visible("text=Sign out all others"):  # devices of other tests
        page.click("text=Sign out all others")
    other = another()
    shop.log_in(other)
    other.goto(url(shop.server, "/devices"))
    page.wait_for_selector(".device:not(.here) button")
    page.click(".device:not(.here) button")
    other.wait_for_url("**/login")  # without a click on this page
    page.wait_for_function("document.querySelectorAll('.device').length === 1")
