"""The example shop as people use it: on a phone, in the dark, by keyboard alone, read aloud; and its pictures."""

import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from docs.examples.shop.app import build
from docs.examples.shop.auth import USERS
from docs.examples.shop.check import LAPTOP, OFFICE, PHONE
from playwright.sync_api import Page, expect
from tests.adapters.conftest import Tls
from tests.adapters.servers import Server, serve, serve_asgi
from tests.browser.conftest import People
from tests.browser.kit import url

from sessioncore.testing import ManualClock

FEW: Final = ("Round teapot", "Morning cup", "Morning cup", "Field kettle")
PAGES: Final = ("/", "/cart", "/devices", "/staff?owner=ada", "/events", "/login", "/goodbye", "/nowhere")

# Elements that are wider than their place or the screen, and texts with too little contrast (WCAG 1.4.3).
FLAWS: Final = """() => {
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map(Number)
            .map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = getComputedStyle(element).backgroundColor;
            if (!/, 0\\)$|transparent/.test(colour)) return colour;
        }
    };
    const found = [], screen = document.documentElement;
    if (screen.scrollWidth > innerWidth) found.push(`the page is ${screen.scrollWidth} wide`);
    for (const element of document.querySelectorAll("body *:not(svg *, script, .unseen, .skip)")) {
        const place = element.getBoundingClientRect(), style = getComputedStyle(element);
        if (!place.width) continue;
        const inner = element.scrollWidth > element.clientWidth + 1 && style.overflowX !== "visible";
        if (inner || place.right > innerWidth + 1) found.push(`${element.outerHTML.slice(0, 60)} is cut`);
        if (![...element.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
        const [a, b] = [light(style.color), light(behind(element))].sort((x, y) => y - x);
        const size = parseFloat(style.fontSize), ratio = (a + 0.05) / (b + 0.05);
        const large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
        if (ratio < (large ? 3 : 4.5)) found.push(`${element.outerHTML.slice(0, 60)} has ${ratio.toFixed(2)}`);
    }
    return found;
}"""
# Where the focus is, and whether it can be seen: a ring, and nothing in front of it.
FOCUS: Final = """() => {
    const focused = document.activeElement, style = getComputedStyle(focused), place = focused.getBoundingClientRect();
    const [x, y] = [place.left + place.width / 2, place.top + place.height / 2];
    const top = document.elementFromPoint(x, y), label = focused.closest("label");
    const seen = top && (focused.contains(top) || top.contains(focused) && top === label);
    const ring = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    const name = focused.getAttribute("aria-label") || focused.textContent.trim().replace(/\\s+/g, " ") || focused.name;
    return [name, ring, seen];
}"""


@pytest.fixture(scope="module")
def shop(servers: ExitStack, tls: Tls, tmp_path_factory: pytest.TempPathFactory) -> Server:
    return servers.enter_context(serve(serve_asgi, build(tmp_path_factory.mktemp("shop") / "shop.sqlite3"), tls))


def log_in(page: Page, shop: Server, name: str = "ada", **fields: str) -> Page:
    page.goto(url(shop, "/login"))
    page.fill("[name=name]", name)
    page.fill("[name=password]", USERS[name].password)
    if fields:
        page.check("[name=remember]")
    with page.expect_navigation():
        page.click("main button")
    return page


def fill_the_cart(page: Page, shop: Server, *products: str) -> Page:
    page.goto(url(shop))
    for product in products:
        with page.expect_navigation():
            page.get_by_role("button", name=f"Add {product} to the cart").click()
    return page


def flaws(page: Page, path: str, scheme: Literal["light", "dark"]) -> list[str]:
    page.emulate_media(color_scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", background)[0]) < 128) is (scheme == "dark")
    return [f"{path}, {scheme}: {flaw}" for flaw in page.evaluate(FLAWS)]


def test_every_page_fits_a_phone_and_can_be_read_in_light_and_dark(another: People, shop: Server) -> None:
    phone = another(viewport={"width": 360, "height": 740}, user_agent=PHONE)
    log_in(another(user_agent=OFFICE), shop)
    log_in(fill_the_cart(phone, shop, "Round teapot", "Field kettle"), shop)
    found = flaws(phone, "after the login", "light") + flaws(phone, "after the login", "dark")
    for name, paths in (("ada", PAGES), ("radia", ["/staff?owner=ada", "/devices"])):
        if name != "ada":
            log_in(phone, shop, name)
        for path in paths:
            phone.goto(url(shop, path))
            found += flaws(phone, path, "light") + flaws(phone, path, "dark")
    assert found == []


def tab_to(page: Page, name: str) -> None:
    """Press Tab until an element of that name has the focus, which must be visible at each step."""
    for _ in range(60):
        page.keyboard.press("Tab")
        at, ring, seen = page.evaluate(FOCUS)
        assert ring, f"no ring around {at}"
        assert seen, f"something hides {at}"
        if name in at:
            return
    pytest.fail(f"Tab does not lead to {name!r}")


def enter(page: Page) -> None:
    with page.expect_navigation():
        page.keyboard.press("Enter")


@pytest.mark.parametrize("width", [360, 1120])
def test_a_visitor_needs_no_mouse(page: Page, another: People, shop: Server, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    log_in(another(user_agent=PHONE), shop)
    page.goto(url(shop))
    tab_to(page, "Skip to the content")
    page.keyboard.press("Enter")
    tab_to(page, "Add Round teapot")  # the bar was skipped
    enter(page)
    page.goto(url(shop, "/cart"))
    tab_to(page, "One Round teapot more")
    enter(page)
    expect(page.locator("output")).to_have_text("2")
    tab_to(page, "Sign in")
    enter(page)
    expect(page.locator("[name=name]")).to_be_focused()
    page.keyboard.type("ada")
    tab_to(page, "password")
    page.keyboard.type("guess")
    enter(page)
    expect(page.locator("[name=name]")).to_have_value("ada")
    expect(page.locator("[name=password]")).to_be_focused()
    page.keyboard.type(USERS["ada"].password)
    enter(page)
    expect(page).to_have_url(re.compile("/cart"))
    tab_to(page, "Your devices")
    enter(page)
    page.get_by_role("button", name="Sign out Safari on iPhone, signed in just now").wait_for()
    tab_to(page, "Sign out Safari on iPhone, signed in")
    enter(page)
    expect(page.get_by_role("button", name="Sign out Safari on iPhone")).to_have_count(0)


def test_the_shop_has_its_picture_taken(
    another: People, servers: ExitStack, tls: Tls, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """They are the pictures of README and docs: `make screenshots` keeps them."""
    folder: Path = pytestconfig.getoption("--screenshots") or tmp_path
    clock = ManualClock(time.time() - 3 * 86400)
    shop = servers.enter_context(serve(serve_asgi, build(tmp_path / "shop.sqlite3", clock=clock), tls))
    log_in(another(user_agent=PHONE), shop, remember="on")
    clock.advance(2.9 * 86400)
    log_in(another(user_agent=OFFICE), shop)
    clock.advance(0.1 * 86400)
    wide = fill_the_cart(another(user_agent=LAPTOP, viewport={"width": 1120, "height": 820}), shop, *FEW)
    log_in(wide, shop)
    wide.goto(url(shop))
    wide.screenshot(path=folder / "shop.png")
    wide.goto(url(shop, "/devices"))
    wide.screenshot(path=folder / "shop-devices.png", clip={"x": 0, "y": 0, "width": 1120, "height": 670})
    small: dict[str, Any] = {"viewport": {"width": 360, "height": 720}, "device_scale_factor": 2}
    phone = fill_the_cart(another(user_agent=PHONE, color_scheme="dark", **small), shop, *FEW)
    log_in(phone, shop).screenshot(path=folder / "shop-phone.png")
    assert len({path.stat().st_size for path in folder.glob("shop*.png")}) == 3
