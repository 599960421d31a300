"""The documentation as readers see it: on phone and screen, light and dark, with every other host out of reach."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Literal

import pytest
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from tests.adapters.conftest import Tls
from tests.adapters.servers import Server, serve, serve_asgi
from tests.browser.kit import HOME, url

ROOT: Final = Path(__file__).parents[2]
WIDTHS: Final = (360, 1280)
# What a reader has to scroll the page for, or cannot reach at all. Tables and code scroll in boxes of their own.
CUT_OFF: Final = """() => {
    const wide = document.documentElement.scrollWidth > innerWidth ? ["the page"] : [];
    const scrolls = e => e.closest(".md-typeset__scrollwrap, .highlight, pre");
    return wide.concat([...document.querySelectorAll(".md-content *")]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && e.checkVisibility() && !scrolls(e))
        .map(e => `${e.tagName} ${e.textContent.trim().slice(0, 60)}`));
}"""

# Each page builds the index of its search in a worker, which would take half of this test's time.
NO_INDEX: Final = "window.Worker = class extends EventTarget { postMessage() {} }"


class Docs:
    """The site on a server, and what goes wrong when a page is shown."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.pages = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.html"))
        self.server = server

    def show(self, page: Page, path: str) -> None:
        page.goto(url(self.server, f"/{path}"))

    def trouble_of(self, page: Page) -> list[str]:
        found: list[str] = []
        page.on("console", lambda message: found.append(f"console: {message.text}") if is_bad(message.type) else None)
        page.on("pageerror", lambda error: found.append(f"script: {error}"))
        page.on("requestfailed", lambda request: found.append(f"failed: {request.url}"))
        page.on("response", lambda got: found.append(f"{got.status}: {got.url}") if got.status >= 400 else None)
        here = (url(self.server, "/"), "data:", "blob:")
        page.on("request", lambda request: None if request.url.startswith(here) else found.append(request.url))
        return found


def is_bad(kind: str) -> bool:
    return kind in {"error", "warning", "assert"}


@pytest.fixture(scope="module")
def docs(servers: ExitStack, tls: Tls, tmp_path_factory: pytest.TempPathFactory) -> Docs:
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=True)
    app = Starlette(routes=[Mount("/", StaticFiles(directory=folder, html=True))])
    return Docs(folder, servers.enter_context(serve(serve_asgi, app, tls)))


@pytest.mark.timeout(600)
def test_every_page_fits_and_loads_nothing_from_elsewhere(page: Page, docs: Docs) -> None:
    page.add_init_script(NO_INDEX)
    page.emulate_media(reduced_motion="reduce")  # the search box moves when the width changes
    trouble, schemes = docs.trouble_of(page), {"light": "default", "dark": "slate"}
    for number, path in enumerate(docs.pages):
        docs.show(page, path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 600})
            trouble += [f"{path} at {width} is cut off: {what}" for what in page.evaluate(CUT_OFF)]
        scheme: Literal["light", "dark"] = "dark" if number % 2 == 0 else "light"  # the next page loads with it
        page.emulate_media(color_scheme=scheme)
        expect(page.locator("body")).to_have_attribute("data-md-color-scheme", schemes[scheme])
    assert trouble == []
    assert len(docs.pages) > 70


@pytest.mark.parametrize("width", WIDTHS)
def test_search_finds_the_page_about_a_name(page: Page, docs: Docs, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    trouble = docs.trouble_of(page)
    docs.show(page, "index.html")
    if width < 1000:
        page.click("label[for=__search] >> visible=true")
    page.fill("[data-md-component=search-query]", "OwnerLimitReached")
    results = page.locator(".md-search-result__link")
    expect(results.first).to_be_visible()
    found = [link.get_attribute("href") or "" for link in results.all()]
    assert any("/api/errors.html" in address for address in found)
    assert all(HOME in address for address in found)
    assert trouble == []


def test_a_reader_can_choose_light_or_dark(page: Page, docs: Docs) -> None:
    page.emulate_media(color_scheme="dark")
    docs.show(page, "index.html")
    body = page.locator("body")
    for scheme in ("slate", "default", "slate", "slate"):  # the system's, light, dark, the system's again
        expect(body).to_have_attribute("data-md-color-scheme", scheme)
        page.click("label[for^=__palette] >> visible=true")
    docs.show(page, "quickstart.html")
    expect(body).to_have_attribute("data-md-color-scheme", "default")
