"""The example shop: the visit that `make demo-check` makes, and what that visit leaves out."""

import contextlib
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from docs.examples.shop import browser, check
from docs.examples.shop.app import ROUTES
from docs.examples.shop.auth import device_of
from docs.examples.shop.browser import Browser, Server
from docs.examples.shop.shop import CATALOGUE, Cart
from starlette.routing import Route
from tests.forks import forking

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[1]
PATHS = {
    method: {route.path for route in ROUTES if isinstance(route, Route) and method in (route.methods or ())}
    for method in ("GET", "POST")
}
IMPOSTOR = """
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
print("open: http://127.0.0.1:%d" % server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture(scope="module", autouse=True)
def forks() -> Iterator[None]:
    with forking("docs.examples.shop.app"):
        yield


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shop") / "shop.sqlite3"


@pytest.fixture(scope="module")
def server(database: Path) -> Iterator[Server]:
    with Server(database) as running:
        yield running


@pytest.fixture
async def visitor(server: Server) -> AsyncIterator[Browser]:
    async with Browser(server, "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0") as fresh:
        yield fresh


async def sign_in(visitor: Browser, name: str = "grace", password: str = "nanoseconds", **fields: str) -> browser.Page:
    return await visitor.send("/login", name=name, password=password, **fields)


# -- the check


def test_the_check_finds_everything_as_promised(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main() == 0
    topics = [line[:12].strip() for line in capsys.readouterr().out.splitlines()]
    assert topics[0] == "started"
    assert topics[-1] == "stopped"
    assert {"parallel", "kill -9", "old cookie", "remember", "forged", "devices", "staff", "at rest", "log out"} <= set(
        topics
    )


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (IMPOSTOR, "\nDISAPPOINTED /cart should open, but answered 404\n"),
        ("print('closed today')", "the server did not start; it said 'closed today\\n'"),
    ],
)
def test_the_check_says_what_disappointed_it_or_that_no_server_starts_and_fails(
    program: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(browser, "COMMAND", (sys.executable, "-c", program))
    assert check.main() == 1
    assert said in capsys.readouterr().out


def test_the_shop_says_that_its_port_is_taken(server: Server) -> None:
    port = server.url.rpartition(":")[2]
    done = subprocess.run(
        [*browser.COMMAND, "--port", port], check=False, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("The shop cannot open: ")
    assert "Traceback" not in done.stderr


# -- forms


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_sites_form_starts_no_session_and_changes_none(visitor: Browser, site: str) -> None:
    fields = {"sku": "cup", "handle": "x", "name": "radia", "password": "spanning-tree"}
    for path in ("/cart/add", "/login"):
        assert (await visitor.send(path, site=site, **fields)).status == 403
    assert not visitor.cookie
    await sign_in(visitor)
    for path in PATHS["POST"]:
        assert (await visitor.send(path, site=site, **fields)).status == 403, path
    assert "grace" in (await visitor.open("/devices")).text
    assert (await visitor.open("/cart")).cart == {}


@pytest.mark.parametrize(
    ("origin", "status"), [("http://evil.example", 403), ("null", 403), (None, 303)], ids=["other", "null", "none"]
)
async def test_a_browser_with_only_an_origin_is_judged_by_it(server: Server, origin: str | None, status: int) -> None:
    headers = {} if origin is None else {"origin": origin}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
        assert (await client.post("/cart/add", data={"sku": "cup"})).status_code == status


async def test_what_the_shop_does_not_have_is_a_page_that_says_so(visitor: Browser) -> None:
    assert (await visitor.send("/cart/add", sku="samovar")).status == 404
    assert (await visitor.open("/static/nothing.css")).status == 404
    assert "This shelf is empty" in (await visitor.open("/nowhere")).text


async def test_a_page_that_is_only_looked_at_changes_nothing(visitor: Browser, database: Path) -> None:
    """Another site may show any address of the shop as an image, and `cross_site` does not judge a GET."""
    assert PATHS["GET"] == {"/", "/cart", "/login", "/goodbye", "/devices", "/devices/changes", "/events", "/staff"}
    await sign_in(visitor)
    page = await visitor.send("/cart/add", sku="cup")
    before = dump(database)
    for path in (*PATHS["GET"], "/static/icon.svg", f"/?{page.response.url.query.decode()}"):
        assert (await visitor.open(path)).status == {"/devices/changes": 406, "/staff": 403}.get(path, 200)
    assert dump(database) == before


def dump(database: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


# -- signing in


async def test_signing_in_as_somebody_else_leaves_the_cart_to_its_owner(visitor: Browser) -> None:
    await sign_in(visitor)
    await visitor.send("/cart/add", sku="bowl")
    page = await sign_in(visitor, "radia", "spanning-tree")
    assert "Welcome, Radia" in page.note
    assert (await visitor.open("/cart")).cart == {}


async def test_a_closed_browser_forgets_the_visitor_unless_the_last_login_said_remember_me(visitor: Browser) -> None:
    anonymous = await visitor.send("/cart/add", sku="cup")
    assert "Max-Age" not in anonymous.set_cookie
    remembered = await sign_in(visitor, remember="on")
    assert "; Max-Age=2592000;" in remembered.set_cookie
    visitor.close()
    assert "remembered, ends unused in 30 days" in (await visitor.open("/devices")).text
    assert "Max-Age" not in (await sign_in(visitor)).set_cookie
    assert "ends unused in 30 minutes" in (await visitor.open("/devices")).text
    visitor.close()
    assert (await visitor.open("/devices")).path == "/login"


async def test_the_devices_page_and_its_forms_are_for_people_who_signed_in(visitor: Browser) -> None:
    for path in ("/devices/sign-out", "/devices/sign-out-others"):
        assert (await visitor.send(path, handle="x")).path == "/login"
    assert (await visitor.open("/devices")).path == "/login"
    assert (await visitor.send("/logout")).path == "/goodbye"


async def test_ending_this_very_session_signs_out(visitor: Browser) -> None:
    await sign_in(visitor)
    page = await visitor.open("/devices")
    assert (await visitor.send("/devices/sign-out", handle=page.handle)).path == "/login"
    assert (await visitor.open("/devices")).handle == ""


async def test_pages_forbid_scripts_and_storage_by_caches(visitor: Browser) -> None:
    headers = (await visitor.open("/")).response.headers
    assert headers["cache-control"] == "no-store"
    assert "default-src 'none'" in headers["content-security-policy"]


async def test_a_wrong_password_leaves_what_was_typed(visitor: Browser) -> None:
    page = await sign_in(visitor, 'gr"ace', "guess", remember="on")
    assert page.status == 401
    assert re.search(r'<input name="name"[^>]* value="gr&#34;ace"', page.text)
    assert re.search(r'<input type="checkbox" name="remember" checked>', page.text)
    assert "guess" not in page.text


# -- values


def test_a_cart_counts_steps_and_drops_empty_lines() -> None:
    cup = CATALOGUE["cup"]
    cart = Cart().change(cup, +1).change(cup, +1)
    assert (cart.count, cart.total) == (2, Decimal("37.00"))
    assert cart.change(cup, -1).change(cup, -1) == Cart()
    assert Cart().change(cup, -1) == Cart()
    assert cart.change(cup, +500).count == 99


def test_a_device_is_named_as_its_owner_would() -> None:
    phone = "Mozilla/5.0 (Linux; Android 15) Chrome/138.0 Mobile Safari/537.36"
    agents = [check.LAPTOP, check.PHONE, check.OFFICE, phone, "curl/8.14", ""]
    names = ["Firefox on Linux", "Safari on iPhone", "Edge on Windows", "Chrome on Android"]
    assert [device_of(agent) for agent in agents] == [*names, *["A browser on an unknown system"] * 2]
