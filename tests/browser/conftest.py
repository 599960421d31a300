"""What the browser tests share: one Chromium, one server for each adapter and configuration, one for other origins.

They need a process of their own, which `make test-browser` starts: Playwright keeps an event loop in the main thread,
with which the async tests of other folders fail.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Playwright, sync_playwright
from tests.adapters.conftest import Sites, Tls, adapter, sites
from tests.adapters.servers import Server, serve, serve_asgi
from tests.browser.kit import Certificate, blank_pages, chromium, leave

__all__ = ["adapter", "sites"]  # fixtures


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, help="the folder for pictures of the shop, such as docs/images")


@pytest.fixture(scope="session")
def certificate() -> Certificate:
    return Certificate.make()


@pytest.fixture(scope="session")
def tls(certificate: Certificate) -> Tls:
    return certificate.server, certificate.client


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def servers() -> Iterator[ExitStack]:
    """Servers of single tests, and whatever else may end only after Chromium has closed its connections."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def window(
    playwright: Playwright,
    certificate: Certificate,
    tmp_path_factory: pytest.TempPathFactory,
    sites: Sites,
    servers: ExitStack,
    elsewhere: Server,
) -> Iterator[BrowserContext]:
    """The Chromium that the tests use one after another; it ends before the servers, which would wait for it."""
    profile = tmp_path_factory.mktemp("chromium") / "profile"
    with chromium(playwright, certificate, profile) as running:
        yield running


@pytest.fixture
def page(window: BrowserContext) -> Iterator[Page]:
    """An empty page of a browser without cookies."""
    window.clear_cookies()
    opened = window.new_page()
    yield opened
    opened.close()


People = Callable[..., Page]


@pytest.fixture
def another(window: BrowserContext, page: Page) -> Iterator[People]:
    """Open the browser of another person, or of the same person on another device; `options` are Playwright's."""
    pages = [page]
    with ExitStack() as stack:

        def open_(**options: Any) -> Page:
            assert window.browser is not None
            pages.append(stack.enter_context(window.browser.new_context(**options)).new_page())
            return pages[-1]

        yield open_
        leave(pages)


@pytest.fixture(scope="session")
def elsewhere(tls: Tls) -> Iterator[Server]:
    """A server apart from the application's: for other sites, other hosts, and another port of the same host."""
    with serve(serve_asgi, blank_pages, tls) as running:
        yield running
