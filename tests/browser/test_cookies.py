"""What a browser does with the session's cookie: keeps it, hides it, sends it, drops it."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import BrowserContext, Page, Playwright
from tests.adapters.conftest import ADAPTERS, Sites
from tests.adapters.servers import Server
from tests.browser.attacks import send_form
from tests.browser.kit import HOME, OTHER, SIBLING, Certificate, chromium, cookies, open_frame, text, url
from tests.stores import SpyStorage

from sessioncore import from_cookie

NAME: Final = "__Host-session_id"


@pytest.mark.proves("ASVS 3.3.1")
def test_the_cookie_is_kept_as_it_was_meant_and_sent_back(page: Page, adapter: str, sites: Sites) -> None:
    site = sites(adapter, SpyStorage).reset()
    for number in ("1", "2", "3"):
        page.goto(url(site, "/counter"))
        assert text(page) == number
    kept = cookies(page)
    assert kept.keys() == {NAME}
    assert {name: kept[NAME][name] for name in ("domain", "path", "secure", "httpOnly", "sameSite")} == {
        "domain": HOME, "path": "/", "secure": True, "httpOnly": True, "sameSite": "Lax",
    }  # fmt: skip
    page.goto(url(site, "/counter", SIBLING))
    assert text(page) == "1"  # a `__Host-` cookie belongs to one host


@pytest.mark.proves("ASVS 3.3.4")
@pytest.mark.parametrize("http_only", [True, False])
def test_scripts_see_the_cookie_unless_it_is_http_only(page: Page, adapter: str, sites: Sites, http_only: bool) -> None:
    page.goto(url(sites(adapter, SpyStorage, cookie_http_only=http_only).reset(), "/counter"))
    assert page.evaluate("document.cookie").startswith(f"{NAME}=") is not http_only
    assert NAME in cookies(page)


@pytest.mark.proves("P1", "ASVS 3.3.3")
@pytest.mark.parametrize(("name", "kept"), [(NAME, False), ("__Secure-session_id", True)])
def test_a_sibling_host_cannot_plant_a_host_cookie(page: Page, elsewhere: Server, name: str, kept: bool) -> None:
    page.goto(url(elsewhere, host=SIBLING))
    page.evaluate(f"document.cookie = '{name}=planted; Secure; Path=/; Domain=shop.example'")
    page.goto(url(elsewhere))
    assert (name in page.evaluate("document.cookie")) is kept


def test_the_browser_drops_a_session_only_cookie_when_it_ends_and_keeps_the_other(
    playwright: Playwright, certificate: Certificate, tmp_path: Path, sites: Sites
) -> None:
    # Cookies do not tell ports apart, so each of these stores needs a name of its own.
    stores = {
        f"__Host-{adapter}-{only}": sites(
            adapter, SpyStorage, cookie_session_only=only, extractor=from_cookie(f"__Host-{adapter}-{only}")
        ).reset()
        for adapter in ADAPTERS
        for only in (True, False)
    }
    for run in (1, 2):
        with chromium(playwright, certificate, tmp_path / "profile") as window:
            page = window.new_page()
            for name, site in stores.items():
                page.goto(url(site, "/counter"))
                assert text(page) == ("1" if name.endswith("True") else str(run))
            assert cookies(page).keys() == stores.keys()


PLACES: Final[dict[str, dict[str, Any]]] = {
    "of one host": {},
    "of a domain": {"extractor": from_cookie("__Secure-session_id"), "cookie_domain": "shop.example"},
    "of a path": {"extractor": from_cookie("__Secure-session_id"), "cookie_path": "/destroy"},
    "session-only": {"cookie_session_only": True},
    "SameSite=None": {"cookie_same_site": "none"},
    "partitioned": {"cookie_same_site": "none", "cookie_partitioned": True},
}


# Deletion depends on the browser alone, so each place is tried on one adapter.
@pytest.mark.proves("AT-28", "ASVS 14.3.1")
@pytest.mark.parametrize(("adapter", "place"), [*zip(itertools.cycle(ADAPTERS), PLACES, strict=False)])
def test_deletion_really_deletes(page: Page, adapter: str, sites: Sites, place: str) -> None:
    site = sites(adapter, SpyStorage, **PLACES[place]).reset()
    page.goto(url(site, "/counter"))
    assert (len(cookies(page)), site.count()) == (1, 1)
    page.goto(url(site, "/destroy"))
    assert (cookies(page), site.count()) == ({}, 0)
    page.goto(url(site, "/read"))
    assert text(page) == "{}"


# -- SameSite


# Whether the browser sends the cookie when somebody follows a link (get), and when a page sends a form (post). This
# depends on the browser alone, so each row is tried on one adapter.
SAME_SITE: Final = [
    ("asgi", "strict", OTHER, "get", False), ("aiohttp", "strict", SIBLING, "get", True),
    ("litestar", "lax", OTHER, "get", True), ("asgi", "lax", OTHER, "post", False),
    ("aiohttp", "lax", SIBLING, "post", True), ("litestar", "lax", HOME, "post", True),
    ("aiohttp", "none", OTHER, "get", True), ("asgi", "none", OTHER, "post", True),
]  # fmt: skip


@pytest.mark.proves("ASVS 3.3.2")
@pytest.mark.parametrize(("adapter", "same_site", "host", "method", "sent"), SAME_SITE)
def test_same_site_says_whose_links_and_forms_bring_the_cookie(
    page: Page, adapter: str, sites: Sites, elsewhere: Server, same_site: str, host: str, method: str, sent: bool
) -> None:
    site = sites(adapter, SpyStorage, cookie_same_site=same_site, cross_site="allow").reset()
    page.goto(url(site, "/counter"))
    page.goto(url(elsewhere, host=host))
    send_form(page, url(site, "/counter"), method)
    assert text(page) == ("2" if sent else "1")


# -- frames of other sites


@pytest.fixture(scope="module")
def strict_window(
    playwright: Playwright, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory, window: BrowserContext
) -> Iterator[BrowserContext]:
    """A browser that blocks third-party cookies."""
    profile = tmp_path_factory.mktemp("strict") / "profile"
    with chromium(playwright, certificate, profile, third_party_cookies=False) as running:
        yield running


@pytest.mark.parametrize("partitioned", [True, False])
def test_a_partitioned_cookie_lives_in_another_sites_frame_and_apart_from_all_others(
    strict_window: BrowserContext, adapter: str, sites: Sites, elsewhere: Server, partitioned: bool
) -> None:
    site = sites(adapter, SpyStorage, cookie_same_site="none", cookie_partitioned=partitioned).reset()
    strict_window.clear_cookies()
    with strict_window.new_page() as page:
        page.goto(url(elsewhere, host=OTHER))
        seen = [open_frame(page, url(site, "/counter")) for _ in range(3)]
        assert seen == (["1", "2", "3"] if partitioned else ["1", "1", "1"])
        page.goto(url(site, "/counter"))
        assert text(page) == "1"
        page.goto(url(elsewhere, host=OTHER))
        open_frame(page, url(site, "/destroy"))
        assert open_frame(page, url(site, "/counter")) == "1"
        page.goto(url(site, "/counter"))
        assert text(page) == "2"  # the session that ended in the frame was another one
