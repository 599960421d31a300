"""docs/libraries/authlib.md against a provider on a port of its own."""

from collections.abc import Generator
from typing import Any

import httpx
import pytest

pytest.importorskip("authlib", reason="it is in the extra `recipes`")
from authlib.integrations.base_client import MismatchingStateError  # type: ignore[import-untyped]
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse
from starlette.routing import Route
from tests.adapters.servers import serve, serve_asgi
from tests.recipes.kit import Client, program
from tests.recipes.provider import CLIENT_ID, CLIENT_SECRET, Provider

from sessioncore import SessionConfig, SessionStore
from sessioncore_asgi import SessionMiddleware, get_session

pytestmark = pytest.mark.anyio
ADA = {"sub": "ada", "name": "Ada Lovelace"}


@pytest.fixture(scope="module")
def provider() -> Generator[tuple[Provider, str]]:
    provider = Provider(ADA)
    with serve(serve_asgi, provider.app) as server:
        yield provider, f"http://127.0.0.1:{server.address.port}"


@pytest.fixture
def shop(provider: tuple[Provider, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    environment = {"PROVIDER": provider[1], "CLIENT_ID": CLIENT_ID, "CLIENT_SECRET": CLIENT_SECRET}
    return program("libraries/authlib.md", monkeypatch, **environment)


def browser(app: Any) -> httpx.AsyncClient:
    """A client that reaches the shop in this process and the provider over the network."""
    return Client(app, transport=None, mounts={"https://shop.example": httpx.ASGITransport(app)}, follow_redirects=True)


async def test_ada_logs_in_at_the_provider_and_out_here(shop: Any) -> None:
    async with browser(shop.app) as ada:
        await ada.get("/login", follow_redirects=False)
        before = ada.cookies["__Host-session_id"]
        assert (await ada.get("/login")).text == "hello Ada Lovelace"
        assert ada.cookies["__Host-session_id"] != before
        [info] = await shop.store.sessions_of("ada")
        session = await shop.store.get_by_id(ada.cookies["__Host-session_id"])
        assert list(session) == ["user"], "Authlib has cleared its state"
        assert type(session["user"]).__name__ == "UserInfo"
        assert info.handle == session.handle
        await ada.post("/logout")
        assert (await ada.get("/")).text == "hello stranger"
        assert await shop.store.sessions_of("ada") == []


async def test_the_line_that_the_page_adds_is_needed(shop: Any, caplog: pytest.LogCaptureFixture) -> None:
    async with browser(SessionMiddleware(Starlette(routes=shop.routes), SessionStore(SessionConfig()))) as ada:
        assert (await ada.get("/login")).status_code == 500
    assert "store.register_type(authlib.oidc.core.claims.UserInfo)" in caplog.text


async def test_authlib_keeps_the_state_of_the_latest_login(shop: Any) -> None:
    async with browser(shop.app) as ada:
        first, second = [(await ada.get("/login", follow_redirects=False)).headers["location"] for _ in range(2)]
        with pytest.raises(MismatchingStateError):
            await ada.get(first)
        assert (await ada.get(second)).text == "hello Ada Lovelace"


async def test_a_logout_at_the_provider_ends_the_session_when_the_visitor_is_back(
    shop: Any, provider: tuple[Provider, str]
) -> None:
    async def leave(request: Request) -> RedirectResponse:
        result: RedirectResponse = await shop.oauth.provider.logout_redirect(request, request.url_for("left"))
        return result

    async def left(request: Request) -> RedirectResponse:
        await shop.oauth.provider.validate_logout_response(request)
        await (await get_session(request)).destroy()
        return RedirectResponse("/", 303)

    routes = [*shop.routes, Route("/leave", leave), Route("/left", left)]
    async with browser(SessionMiddleware(Starlette(routes=routes), shop.store)) as ada:
        assert (await ada.get("/login")).text == "hello Ada Lovelace"
        assert (await ada.get("/leave")).text == "hello stranger"
        assert (provider[0].logouts, await shop.store.sessions_of("ada")) == (1, [])


async def test_a_provider_that_posts_finds_the_handshake_and_begins_a_session(
    shop: Any, provider: tuple[Provider, str]
) -> None:
    async with browser(shop.posting) as ada:
        form = (await ada.get("/login")).json()
        assert list(ada.cookies) == ["__Host-handshake"]
        post = {"origin": provider[1], "sec-fetch-site": "cross-site"}
        evil = post | {"origin": "https://evil.example"}
        assert (await ada.post(form["action"], data=form["fields"], headers=evil)).status_code == 403
        welcome = await ada.post(form["action"], data=form["fields"], headers=post)
        assert welcome.text == "hello Ada Lovelace"
        assert list(ada.cookies) == ["__Host-session_id"], "the handshake is over"
        assert len(await shop.accounts.sessions_of("ada")) == 1
