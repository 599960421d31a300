"""docs/libraries/sqladmin.md and starlette-admin.md, visited as an administrator's browser does."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("sqladmin", reason="it is in the extra `recipes`")
from sqladmin import Admin
from sqladmin.authentication import AuthenticationBackend
from starlette.applications import Starlette
from starlette.middleware import Middleware
from tests.recipes.kit import Client, program

from sessioncore_asgi import SessionMiddleware

pytestmark = pytest.mark.anyio


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    shop = program("libraries/sqladmin.md", monkeypatch)
    yield shop
    shop.engine.dispose()


async def test_sqladmin_logs_in_flashes_and_logs_out_by_its_own_pages(shop: Any) -> None:
    async with Client(shop.app, follow_redirects=True) as ada:
        assert (await ada.get("/admin/tea/list")).url.path == "/admin/login"
        form = {"username": "ada", "password": "wrong"}
        assert "Invalid credentials" in (await ada.post("/admin/login", data=form)).text
        assert not ada.cookies, "there is no session without a login"
        assert (await ada.post("/admin/login", data=form | {"password": "enchantress"})).url.path == "/admin/"
        assert [cookie.name for cookie in ada.cookies.jar] == ["__Host-session_id"]
        made = await ada.post("/admin/tea/create", data={"name": "Darjeeling", "save": "Save"})
        assert "Darjeeling" in made.text
        praised = await ada.get("/admin/tea/action/praise?pks=1")
        assert "What a tea" in praised.text
        assert "What a tea" not in (await ada.get("/admin/tea/list")).text
        [info] = await shop.store.sessions_of("ada")
        assert info.details == {"where": "admin"}
        kept = dict(ada.cookies)
        assert (await ada.get("/admin/logout")).url.path == "/admin/login"
        assert await shop.store.sessions_of("ada") == []
    async with Client(shop.app, cookies=kept) as thief:
        assert (await thief.get("/admin/")).headers["location"].endswith("/admin/login")


async def test_sqladmin_works_lazily_and_has_another_session_without_the_line(
    shop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with Client(SessionMiddleware(shop.app.router, shop.store, lazy=True)) as ada:
        assert (await ada.get("/admin/login")).status_code == 200
        form = {"username": "ada", "password": "enchantress"}
        assert (await ada.post("/admin/login", data=form)).status_code == 302
        assert (await ada.get("/admin/tea/list")).status_code == 200

    class Unchanged(shop.AdminLogin):  # type: ignore[misc]
        def __init__(self) -> None:
            AuthenticationBackend.__init__(self, secret_key="a secret")

    app = Starlette(middleware=[Middleware(SessionMiddleware, store=shop.store)])
    Admin(app, shop.engine, authentication_backend=Unchanged())
    async with Client(app) as ada:
        assert (await ada.post("/admin/login", data=form)).status_code == 302
    assert "the session 'session' of a request was replaced by another library's" in caplog.text


async def test_sqladmin_can_have_a_session_of_its_own(shop: Any) -> None:
    app = Starlette()
    Admin(
        app,
        shop.engine,
        middlewares=[Middleware(SessionMiddleware, store=shop.store)],
        authentication_backend=shop.AdminLogin(),
    )
    async with shop.store, Client(app) as ada:
        await ada.post("/admin/login", data={"username": "ada", "password": "enchantress"})
        assert (await ada.get("/admin/")).status_code == 200


async def test_starlette_admin_logs_in_creates_and_logs_out_by_its_own_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = program("libraries/starlette-admin.md", monkeypatch)
    async with Client(shop.app, follow_redirects=True) as ada:

        async def send(path: str, **form: str) -> httpx.Response:
            page = await ada.get(path)
            [token] = set(re.findall(r'name="csrftoken" value="([^"]+)"', page.text))
            return await ada.post(path, data=form | {"csrftoken": token})

        assert (await ada.get("/admin/tea/list")).url.path == "/admin/login"
        assert "Wrong name" in (await send("/admin/login", username="ada", password="wrong")).text
        assert "__Host-session_id" not in ada.cookies
        before = await send("/admin/login", username="ada", password="enchantress", remember_me="on")
        assert before.url.path == "/admin/"
        [cookie] = [cookie for cookie in ada.cookies.jar if cookie.name == "__Host-session_id"]
        assert cookie.expires is not None
        assert (await send("/admin/tea/create", name="Darjeeling")).url.path == "/admin/tea/list"
        assert (await ada.post("/admin/logout")).status_code == 403, "its own CSRF check"
        token = {"X-CSRFToken": ada.cookies["starlette_admin_csrftoken"]}
        assert (await ada.post("/admin/logout", headers=token)).url.path == "/admin/login"
        assert await shop.store.sessions_of("ada") == []
    shop.engine.dispose()
