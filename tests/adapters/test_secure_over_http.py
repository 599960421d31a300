"""Test clients talk plain http to an application whose cookie is Secure: one warning says why nothing is kept."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from aiohttp.test_utils import TestClient as AiohttpClient
from aiohttp.test_utils import TestServer
from anyio import to_thread
from litestar import Litestar, get
from litestar.testing import TestClient as LitestarClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.adapters.aiohttp_kit import application, count
from tests.adapters.litestar_kit import AnyRequest

from sessioncore import SessionConfig, SessionStore
from sessioncore_asgi import SessionMiddleware
from sessioncore_litestar import SessionPlugin

pytestmark = pytest.mark.anyio


async def _page(request: Request) -> JSONResponse:
    request.session["n"] = 1
    return JSONResponse(None)


def _starlette(store: SessionStore) -> Any:
    return SessionMiddleware(Starlette(routes=[Route("/", _page)]), store)


@get("/")
async def _litestar_page(request: AnyRequest) -> None:
    request.session["n"] = 1


def _twice(client: Any) -> None:
    with client:
        client.get("/")
        client.get("/")


async def by_aiohttp(store: SessionStore) -> None:
    async with AiohttpClient(TestServer(application(store, count))) as client:
        for _ in range(2):
            await client.get("/count")


async def by_starlette(store: SessionStore) -> None:
    from starlette.testclient import TestClient  # noqa: PLC0415 - warns of httpx when it is imported

    await to_thread.run_sync(_twice, TestClient(_starlette(store)))


async def by_httpx(store: SessionStore) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(_starlette(store)), base_url="http://test") as client:
        for _ in range(2):
            await client.get("/")


async def by_litestar(store: SessionStore) -> None:
    app = Litestar([_litestar_page], plugins=[SessionPlugin(store)], logging_config=None)
    await to_thread.run_sync(_twice, LitestarClient(app))


@pytest.mark.filterwarnings("ignore:Using `httpx` with")
@pytest.mark.parametrize("client", [by_aiohttp, by_starlette, by_httpx, by_litestar])
@pytest.mark.parametrize("development", [False, True])
async def test_a_secure_cookie_over_http_is_warned_of_in_every_test_client(
    client: Callable[[SessionStore], Awaitable[None]], development: bool, caplog: pytest.LogCaptureFixture
) -> None:
    await client(SessionStore(SessionConfig.development() if development else SessionConfig()))
    warned = [record.getMessage() for record in caplog.records if record.name == "sessioncore"]
    assert len(warned) == (0 if development else 1)
    assert all("SessionConfig.development()" in text for text in warned)
