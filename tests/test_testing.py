"""The helper that users' own tests begin with."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from sessioncore import ConfigError, SessionConfig, SessionStore, chain, from_cookie, from_header, from_query
from sessioncore.testing import sign_in
from sessioncore_asgi import SessionMiddleware, get_session

pytestmark = pytest.mark.anyio


async def me(request: Request) -> JSONResponse:
    session = await get_session(request)
    return JSONResponse({"owner": session.owner, "data": dict(session), "details": session.details})


async def test_a_signed_in_visitor_is_known_by_cookie_and_by_header() -> None:
    store = SessionStore(SessionConfig(extractor=chain(from_cookie("__Host-sid"), from_header("X-Session"))))
    visitor = await sign_in(store, "ada", {"cart": ["tea"]}, device="laptop")
    app = SessionMiddleware(Starlette(routes=[Route("/", me)]), store)
    expected = {"owner": "ada", "data": {"cart": ["tea"]}, "details": {"device": "laptop"}}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="https://testserver") as client:
        assert (await client.get("/")).json()["owner"] is None
        assert (await client.get("/", headers={"X-Session": visitor.session_id})).json() == expected
        assert (await client.get("/", headers=visitor.headers)).json() == expected
        client.cookies.update(visitor.cookies)
        assert (await client.get("/")).json() == expected
    assert visitor.session_id not in repr(visitor)
    assert [info.handle for info in await store.sessions_of("ada")] == [visitor.handle]


async def test_a_store_that_no_client_can_reach_is_refused() -> None:
    with pytest.raises(ConfigError):
        await sign_in(SessionStore(SessionConfig(extractor=from_query("sid"))))
