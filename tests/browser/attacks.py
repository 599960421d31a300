"""What a page can make a visitor's browser send to another origin. The page cannot see the answer; the test can."""

from collections.abc import Callable, Mapping
from typing import Final

from playwright.sync_api import Page
from tests.browser.kit import open_socket

__all__ = ["ATTACKS", "Attack", "send_form", "show_image"]

Attack = Callable[[Page, str], int]  # POST to an address from a page; returns the status of the answer


def send_form(page: Page, address: str, method: str = "post") -> int:
    """Send a form that the visitor never saw; the answer replaces the page."""
    with page.expect_navigation() as answer:
        page.evaluate(
            """([action, method]) => {
                const form = document.createElement("form");
                Object.assign(form, { action, method }); document.body.append(form); form.submit();
            }""",
            [address, method],
        )
    return answer.value.status


def _fetch(page: Page, address: str) -> int:
    return _send(page, address, "a => fetch(a, { method: 'POST', mode: 'no-cors', credentials: 'include' })")


def _beacon(page: Page, address: str) -> int:
    return _send(page, address, "a => navigator.sendBeacon(a, 'x=1')")


def _send(page: Page, address: str, script: str) -> int:
    with page.expect_response(address) as answer:
        page.evaluate(f"a => {{ ({script})(a); }}", address)
    return answer.value.status


def _socket(page: Page, address: str) -> int:
    # A browser does not reveal the status of a handshake that failed.
    return 101 if open_socket(page, address.replace("https:", "wss:").replace("/status?", "/ws?")) else 403


ATTACKS: Final[Mapping[str, Attack]] = {
    "form": send_form, "fetch": _fetch, "beacon": _beacon, "socket": _socket
}  # fmt: skip


def show_image(page: Page, address: str) -> int:
    """Show an image of another server; return its width, or 0 if the answer is no image."""
    return int(
        page.evaluate(
            """address => new Promise(done => {
                const image = new Image();
                image.onload = () => done(image.naturalWidth); image.onerror = () => done(0); image.src = address;
            })""",
            address,
        )
    )
