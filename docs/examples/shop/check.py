"""Visits the shop with the browsers of three people, prints what it sees, and stops at the first failure."""

import base64
import tempfile
from pathlib import Path

import anyio
import httpx

from .auth import USERS
from .browser import Browser, Disappointment, Page, Server

__all__ = ["main"]

LAPTOP = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Version/18.5 Safari/604.1"
OFFICE = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/138.0.0.0 Safari/537.36 Edg/138.0.0.0"
TOGETHER = 30  # requests at a time


def main() -> int:
    """Run the check with a separate server and database; return the exit status."""
    trouble: BaseException | None = None
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "shop.sqlite3"
        try:
            with Server(database) as server:
                say("started", f"{server.url}, process {server.pid}")
                anyio.run(visit, server, database)
        except* (Disappointment, httpx.HTTPError) as group:
            trouble = group
    while isinstance(trouble, BaseExceptionGroup):
        trouble = trouble.exceptions[0]
    if trouble is not None:
        say("DISAPPOINTED", str(trouble) or type(trouble).__name__)
        return 1
    say("stopped", "the server has gone. All as promised.")
    return 0


async def visit(server: Server, database: Path) -> None:
    """Use everything that the shop offers, in the order in which people would."""
    async with Browser(server, LAPTOP) as laptop, Browser(server, PHONE) as phone, Browser(server, OFFICE) as office:
        await look_around(laptop)
        await fill_the_cart(laptop)
        await add_in_parallel(laptop)
        await survive_a_power_cut(server, laptop)
        await sign_in(laptop, server)
        await close_the_browser(server, laptop)
        await refuse_forged_forms(laptop)
        await see_the_devices(laptop, phone, office)
        await sign_out_one(server, laptop, phone)
        await sign_out_the_others(laptop, office)
        await let_the_staff_end_one(laptop, phone, office)
        await read_the_events(laptop)
        await anyio.to_thread.run_sync(look_into_the_file, database, laptop.ids | phone.ids | office.ids)
        await log_out(laptop)


def say(topic: str, text: str) -> None:
    """Print one line of what was seen."""
    print(f"{topic:<13}{text}", flush=True)


def expect(truth: object, promise: str) -> None:
    """Print the line if the condition is true; otherwise fail."""
    if not truth:
        raise Disappointment(promise)


async def look_around(laptop: Browser) -> None:
    """A visitor who only looks gets no session."""
    for path in ("/", "/cart", "/login", "/events", "/static/style.css"):
        page = await laptop.open(path)
        expect(page.status == 200, f"{path} should open, but answered {page.status}")
        expect(not page.set_cookie, f"looking at {path} should set no cookie")
    expect((await laptop.open("/devices")).path == "/login", "the devices page should ask strangers to sign in")
    say("look", "five pages opened; no cookie, nothing stored")


async def fill_the_cart(laptop: Browser) -> None:
    """An anonymous visitor has a cart: add, more, fewer, remove."""
    page = await laptop.send("/cart/add", sku="teapot")
    expect("Round teapot" in page.note, "adding the teapot should be confirmed")
    attributes = page.set_cookie.partition("; ")[2]
    expect("HttpOnly" in attributes and "SameSite=Lax" in attributes, f"the cookie has only {attributes}")
    expect("Max-Age" not in attributes, "an anonymous visitor's cookie should go when the browser closes")
    say("cart", f"“{page.note}” Session {page.handle[:10]}…, an anonymous one; its cookie: {attributes}")
    await laptop.send("/cart/add", sku="bowl")
    for step in ("more", "more", "fewer"):
        page = await laptop.send("/cart/change", sku="bowl", step=step)
    expect(page.cart == {"teapot": 1, "bowl": 2}, f"1 teapot and 2 bowls were meant, the cart shows {page.cart}")
    expect("126.00" in page.text, "64.00 + 2 x 31.00 should be 126.00")
    page = await laptop.send("/cart/remove", sku="bowl")
    expect(page.cart == {"teapot": 1}, f"the bowls were removed, the cart shows {page.cart}")
    say("cart", "bowl added, one more, one more, one fewer, removed: 1 teapot is left")


async def add_in_parallel(laptop: Browser) -> None:
    """Many tabs at once lose nothing."""

    async def add(sku: str) -> None:
        page = await laptop.send("/cart/add", sku=sku)
        expect(page.status == 200, f"each parallel add should succeed, one answered {page.status}")

    async with anyio.create_task_group() as tasks:
        for number in range(TOGETHER):
            tasks.start_soon(add, ("cup", "whisk", "linen")[number % 3])
    cart = (await laptop.open("/cart")).cart
    each = TOGETHER // 3
    expect(cart == {"teapot": 1, "cup": each, "whisk": each, "linen": each}, f"pieces were lost: {cart}")
    say("parallel", f"{TOGETHER} pieces added at once from one session, {sum(cart.values())} in the cart: none lost")


async def survive_a_power_cut(server: Server, laptop: Browser) -> None:
    """What was confirmed is on the disk."""
    before = (await laptop.open("/cart")).cart
    pid = server.pid
    await anyio.to_thread.run_sync(server.kill)
    await anyio.to_thread.run_sync(server.start)
    after = (await laptop.open("/cart")).cart
    expect(after == before, f"kill -9 should lose nothing; before {before}, after {after}")
    say(
        "kill -9",
        f"process {pid} killed, {server.pid} started on the same file: the cart has {sum(after.values())} pieces",
    )


async def sign_in(laptop: Browser, server: Server) -> None:
    """Login keeps the cart, changes the ID, and leaves nothing under the old ID."""
    page = await laptop.open("/cart")
    old_id, old_handle, cart = laptop.cookie, page.handle, page.cart
    wrong = await laptop.send("/login", name="ada", password="guess")
    expect(wrong.status == 401 and laptop.cookie == old_id, "a wrong password should change nothing")
    page = await log_in(laptop, "ada", remember="on")
    expect(page.cart == cart, f"the cart should come along; before {cart}, after {page.cart}")
    expect(laptop.cookie != old_id and page.handle != old_handle, "login should change the ID")
    say("sign in", f"“{page.note}”")
    say("sign in", f"session {old_handle[:10]}… became {page.handle[:10]}…; the cart came along")
    async with Browser(server, "somebody who kept the old cookie") as thief:
        thief.cookie = old_id
        page = await thief.open("/cart")
        expect(not page.cart and not page.handle, "the ID from before the login should be dead")
    say("old cookie", "the ID from before the login opens nothing")


async def log_in(browser: Browser, name: str, **fields: str) -> Page:
    """Fill in the login form."""
    page = await browser.send("/login", name=name, password=USERS[name].password, **fields)
    expect(page.status == 200 and "Welcome" in page.note, f"{name} should be welcomed, got {page.status}")
    return page


async def close_the_browser(server: Server, laptop: Browser) -> None:
    """A user who asked to be remembered is still signed in after the browser was closed; another one is not."""
    async with Browser(server, PHONE) as borrowed:
        remembered = await log_in(borrowed, "grace", remember="on")
        expect("Max-Age=2592000;" in remembered.set_cookie, "the remembered cookie should last for 30 days")
        forgotten = await log_in(borrowed, "grace")
        expect("Max-Age" not in forgotten.set_cookie, "the next login did not ask to be remembered")
        for browser in (laptop, borrowed):
            browser.close()
        expect((await laptop.open("/devices")).path == "/devices", "the laptop should still be signed in")
        expect((await borrowed.open("/devices")).path == "/login", "the borrowed phone should be signed out")
    say("remember", "browsers closed and opened: only the one that asked to be remembered is signed in, for 30 days")


async def refuse_forged_forms(laptop: Browser) -> None:
    """A form on a page of another site does nothing, although the browser sends the cookie with it."""
    page = await laptop.open("/cart")
    forged = {
        "another site": await laptop.send("/cart/add", site="cross-site", sku="tray"),
        "another host of this site": await laptop.send("/cart/add", site="same-site", sku="tray"),
    }
    for name, answer in forged.items():
        expect(answer.status == 403, f"a form of {name} should be refused, got {answer.status}")
    expect((await laptop.open("/cart")).cart == page.cart, "a refused form should change nothing")
    say("forged", f"forms of {' and of '.join(forged)}: refused with 403, nothing changed")


async def see_the_devices(laptop: Browser, phone: Browser, office: Browser) -> None:
    """All sessions of the user are listed, and nobody else's."""
    await log_in(phone, "ada")
    await log_in(office, "ada")
    page = await laptop.open("/devices")
    for text in page.devices.values():
        say("devices", text)
    texts = " | ".join(page.devices.values())
    for device in ("Firefox on Linux", "Safari on iPhone", "Edge on Windows"):
        expect(device in texts, f"{device} should be listed, the page shows: {texts}")
    expect(len(page.devices) == 3, f"three devices were meant, the page shows {len(page.devices)}")
    here = page.devices.get(page.handle, "")
    expect("this one" in here and "Firefox" in here, "this device should be marked")
    expect("remembered" in here and "in 30 days" in here, "the remembered device should live for 30 days unused")
    expect("in 30 minutes" in page.devices[(await phone.open("/")).handle], "the others should end after 30 minutes")


async def sign_out_one(server: Server, laptop: Browser, phone: Browser) -> None:
    """Signing another device out takes effect on its next request; another user cannot do it."""
    target = (await phone.open("/devices")).handle
    async with Browser(server, LAPTOP) as stranger:
        await log_in(stranger, "grace")
        await stranger.send("/devices/sign-out", handle=target)
        expect((await phone.open("/devices")).handle == target, "Grace should not be able to end Ada's session")
    page = await laptop.send("/devices/sign-out", handle=target)
    expect(target not in page.devices and len(page.devices) == 2, "the phone should have left the list")
    expect((await phone.open("/devices")).path == "/login", "the phone's next request should find it signed out")
    say("sign out", f"“{page.note}” The phone's next request was sent to the login page; Grace could not do that")


async def sign_out_the_others(laptop: Browser, office: Browser) -> None:
    """All other devices are signed out; this one stays signed in."""
    page = await laptop.send("/devices/sign-out-others")
    expect(list(page.devices) == [page.handle], "only this device should be left")
    expect((await office.open("/devices")).path == "/login", "the office should be signed out")
    say("sign out", f"“{page.note}” The laptop stays signed in")


async def let_the_staff_end_one(laptop: Browser, phone: Browser, office: Browser) -> None:
    """The staff may end anybody's session; other users cannot even see the page."""
    await log_in(phone, "ada")
    await log_in(office, "radia")
    target = (await phone.open("/devices")).handle
    expect((await laptop.open("/staff?owner=ada")).status == 403, "Ada should not get behind the counter")
    expect(len((await office.open("/staff?owner=ada")).devices) == 2, "Radia should see Ada's two sessions")
    page = await office.send("/staff/end", owner="ada", handle=target)
    expect(len(page.devices) == 1, "one of Ada's sessions should be left")
    expect((await phone.open("/devices")).path == "/login", "Ada's phone should be signed out")
    say("staff", f"“{page.note}” By Radia, who works here; Ada herself got 403 there")


async def read_the_events(laptop: Browser) -> None:
    """The events name sessions by handle; no event contains an ID."""
    page = await laptop.open("/events")
    for kind in ("created", "login", "revoked", "unknown"):
        expect(f'class="kind {kind}"' in page.text, f"an event “{kind}” should be listed")
    expect(laptop.cookie not in page.text, "no page may contain the ID")
    count = page.text.count('class="kind')
    say("events", f"{count} listed, among them created, login, revoked and unknown; no ID")


def look_into_the_file(database: Path, ids: set[str]) -> None:
    """The raw ID is in no byte of the database."""
    files = sorted(database.parent.glob(f"{database.name}*"))
    content = b"".join(file.read_bytes() for file in files)
    for text in ids:
        raw = base64.urlsafe_b64decode(f"{text}=")
        expect(text.encode() not in content and raw not in content, "no raw ID should be in the database")
    names = ", ".join(file.name for file in files)
    say("at rest", f"{len(content)} bytes in {names}: none of the {len(ids)} IDs is among them")


async def log_out(laptop: Browser) -> None:
    """After the logout the cookie is useless, even if it is sent again."""
    kept = laptop.cookie
    page = await laptop.send("/logout")
    expect(page.path == "/goodbye" and not laptop.cookie, "logout should remove the cookie")
    laptop.cookie = kept
    page = await laptop.open("/devices")
    expect(page.path == "/login" and not page.handle, "a replayed cookie should find nothing")
    expect(not (await laptop.open("/cart")).cart, "a replayed cookie should find no cart")
    say("log out", "cookie removed; sent again by hand, it opens nothing")
