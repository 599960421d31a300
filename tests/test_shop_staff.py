"""The staff page of the example shop: who may end whose sessions, and when the password is asked for again."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from docs.examples.shop import browser
from docs.examples.shop.app import build
from docs.examples.shop.auth import USERS
from docs.examples.shop.browser import Browser
from tests.test_shop import PATHS, database, server, sign_in, visitor

from sessioncore.testing import ManualClock

__all__ = ["database", "server", "visitor"]  # fixtures


@pytest.mark.anyio
async def test_the_staffs_pages_are_for_the_staff(visitor: Browser) -> None:
    paths = {path for path in PATHS["POST"] if path.startswith("/staff")}
    assert len(paths) == 3
    assert {(await visitor.send(path, owner="ada")).path for path in paths} == {"/login"}
    await sign_in(visitor)
    assert {(await visitor.send(path, owner="grace")).status for path in paths} == {403}
    assert (await visitor.open("/devices")).status == 200


@pytest.mark.proves("ASVS 7.4.5", "ASVS 7.5.1")
@pytest.mark.anyio
async def test_the_staff_ends_sessions_of_one_owner_after_a_login_that_is_recent(tmp_path: Path) -> None:
    clock = ManualClock()
    app = build(tmp_path / "shop.sqlite3", clock=clock)
    clients = [
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", follow_redirects=True)
        for _ in range(4)
    ]
    staff, *devices = clients

    async def send(client: httpx.AsyncClient, path: str, **fields: str) -> browser.Page:
        return browser.Page(await client.post(path, data=fields))

    async def ended() -> list[bool]:
        return [(await device.get("/devices")).url.path == "/login" for device in devices]

    await send(staff, "/login", name="radia", password="spanning-tree", remember="on")
    for device, user in zip(devices, ("ada", "ada", "grace"), strict=True):
        await send(device, "/login", name=user, password=USERS[user].password)
    clock.advance(601)
    page = browser.Page(await staff.get("/staff?owner=ada"))
    (_, second), handles = [*page.devices], [*page.devices, browser.Page(await devices[2].get("/")).handle]
    assert "Sign out" not in page.text.replace("Sign out</button>", "", 1)  # the bar's, for their own
    for path in ("/staff/end", "/staff/end-all"):
        await send(staff, path, owner="ada", handle=second)
    assert await ended() == [False] * 3
    page = await send(staff, "/staff/confirm", owner="ada", password="guess")
    assert "not your password" in page.note
    page = await send(staff, "/staff/confirm", owner="ada", password="spanning-tree")
    assert "; Max-Age=2592000;" in page.set_cookie
    for handle in (handles[2], "x", second):  # Grace's, nobody's, one of Ada's
        page = await send(staff, "/staff/end", owner="ada", handle=handle)
        assert page.note == f"Sessions of Ada ended: {int(handle == second)}."
    assert sorted(await ended()) == [False, False, True]
    page = await send(staff, "/staff/end-all", owner="ada")
    assert (page.note, await ended()) == ("Sessions of Ada ended: 1.", [True, True, False])
    page = await send(staff, "/staff/end-all", owner="radia")
    assert (page.note, page.path) == ("Sessions of Radia ended: 0.", "/staff")
    assert (await send(staff, "/staff/end", owner="nobody", handle="x")).path == "/staff"
    for client in clients:
        await client.aclose()
    store: Any = app.user_middleware[0].kwargs["store"]
    await store.aclose()  # as a server's lifespan does
