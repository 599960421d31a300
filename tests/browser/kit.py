"""A real Chromium against real servers over TLS: hosts, certificate, profiles, and what a test asks a page to do.

Every host name below `.example` leads to this machine and every other name nowhere. The
certificate is made for one run; Chromium trusts its key and no other, so that all else is
as on the web: secure contexts, Secure cookies, Sec-Fetch-Site, HTTP caches and the
back/forward cache.
"""

import base64
import hashlib
import json
import shutil
import ssl
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_pem_x509_certificate
from msgspec import Struct
from playwright.sync_api import BrowserContext, Error, Page, Playwright
from tests.adapters.browser import PATIENCE
from tests.adapters.conftest import Site
from tests.adapters.servers import Server

__all__ = [
    "HOME", "OTHER", "SIBLING", "Certificate", "blank_pages", "chromium", "cookies", "go_back", "ids", "leave",
    "open_frame", "open_socket", "text", "url",
]  # fmt: skip

HOME: Final = "www.shop.example"  # where the application is
SIBLING: Final = "blog.shop.example"  # another host of the same site
OTHER: Final = "www.other.example"  # another site

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")  # scripts/chromium looks for the same
# By default Chromium blocks cookies in other sites' frames and requests. A visitor who allows them is easier to attack.
ALLOW_THIRD_PARTY_COOKIES: Final = {"profile": {"cookie_controls_mode": 0, "block_third_party_cookies": False}}


class Certificate(Struct, frozen=True):
    """One certificate for all hosts: for servers and the test's own clients; Chromium needs the hash of its key."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    key_hash: str

    @classmethod
    def make(cls) -> "Certificate":
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", HOME, SIBLING, OTHER)
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        issued.configure_cert(server)  # pyright: ignore[reportUnknownMemberType]  # pyOpenSSL's type
        authority.configure_trust(client)  # pyright: ignore[reportUnknownMemberType]  # pyOpenSSL's type
        key = load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).public_key()
        digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
        return cls(server, client, base64.b64encode(digest).decode())


@contextmanager
def chromium(
    playwright: Playwright, certificate: Certificate, profile: Path, *, third_party_cookies: bool = True
) -> Generator[BrowserContext]:
    """Run Chromium's process on a profile while the block lasts; a later process on the same profile continues it.

    `new_context()` of its `.browser` is another person's window.
    """
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    assert program, "there is no Chromium: `make test-browser` says what to install"
    if third_party_cookies and not profile.exists():
        (profile / "Default").mkdir(parents=True)
        (profile / "Default" / "Preferences").write_text(json.dumps(ALLOW_THIRD_PARTY_COOKIES), "utf-8")
    window = playwright.chromium.launch_persistent_context(
        profile,
        executable_path=program,
        args=[
            f"--ignore-certificate-errors-spki-list={certificate.key_hash}",
            "--host-resolver-rules=MAP *.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE localhost",
            "--disable-gpu",
        ],
        ignore_default_args=["--disable-back-forward-cache"],  # real browsers have it
    )
    try:
        window.set_default_timeout(PATIENCE * 1000)
        yield window
    finally:
        window.close()


def url(of: Site | Server, path: str = "/", host: str = HOME, scheme: str = "https") -> str:
    """An address of a server under one of its names."""
    return f"{scheme}://{host}:{of.address.port}{path}"


def cookies(page: Page) -> dict[str, Any]:
    """The cookies in the browser's jar, by name; a list of them if there is one for each of several partitions."""
    found: dict[str, Any] = {}
    for cookie in page.context.cookies():
        found.setdefault(cookie.get("name", ""), []).append(cookie)
    return {name: kept[0] if len(kept) == 1 else kept for name, kept in found.items()}


def ids(page: Page) -> list[str]:
    """The values of the cookies in the browser's jar."""
    return [cookie.get("value", "") for cookie in page.context.cookies()]


def text(page: Page) -> str:
    """The text of the page."""
    return page.inner_text("body").strip()


def go_back(page: Page) -> None:
    """Press the Back button. Playwright's own `go_back` waits for a load, which a page from the cache does not do."""
    with page.expect_event("framenavigated"):
        page.evaluate("history.back()")
    page.wait_for_function("document.readyState === 'complete'")


def leave(pages: Iterable[Page]) -> None:
    """Show an empty page in each before it is closed: Chromium 156 never closes a page that is being reloaded.

    The shop's "your devices" reloads itself whenever another page changes a session. A reload that has just begun can
    interrupt the empty page, or be shown after it; so the empty page is requested three times.
    """
    for page in pages:
        for _ in range(3):
            with suppress(Error):
                page.goto("about:blank")
        page.wait_for_url("about:blank")


def open_frame(page: Page, address: str) -> str:
    """Show another page in a frame of this one, and return its text."""
    page.evaluate(
        """address => new Promise(loaded => {
            const frame = document.createElement("iframe");
            frame.onload = loaded; frame.src = address; document.body.append(frame);
        })""",
        address,
    )
    return page.frames[-1].inner_text("body").strip()


def open_socket(page: Page, address: str) -> bool:
    """Open a WebSocket, which stays open as `window.socket`; False: the handshake was refused."""
    return bool(
        page.evaluate(
            """address => new Promise(done => {
                const socket = window.socket = new WebSocket(address);
                socket.onopen = () => done(true); socket.onerror = () => done(false);
            })""",
            address,
        )
    )


async def blank_pages(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that answers everything with an empty page, in which scripts of other sites run."""
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"<!doctype html><title>elsewhere</title><body>"})
