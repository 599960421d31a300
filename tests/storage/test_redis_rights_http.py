"""If any one right is missing, a request gets an error, or its changes are stored; a 200 always means the latter."""

from typing import Any

import httpx
import pytest
from servers.redis_server import Server
from tests.storage.test_redis_acl import rules
from tests.storage.test_redis_rights import RIGHTS

from sessioncore import SessionConfig, SessionStore
from sessioncore.storage.redis import RedisStorage
from sessioncore_asgi import SessionMiddleware, get_session

pytestmark = [pytest.mark.anyio, pytest.mark.redis]


async def app(scope: Any, receive: Any, send: Any) -> None:
    session = await get_session(scope)
    match scope["path"]:
        case "/visit":
            session["seen"] = session.get("seen", 0) + 1
        case "/login":
            await session.login("ada")
        case "/logout":
            await session.destroy()
        case path:
            assert path == "/"
    body = f"{session.owner} {session.get('seen')}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


# The requests before, the one without the right, and what the session holds after that.
REQUESTS = [
    ((), "/visit", "None 1"),
    (("/visit",), "/visit", "None 2"),
    (("/visit", "/visit"), "/login", "ada 2"),
    (("/visit", "/visit", "/login"), "/logout", "None None"),
]


@pytest.mark.parametrize("right", RIGHTS)
async def test_a_request_without_a_right_is_an_error_or_keeps_its_session(server: Server, right: str) -> None:
    server.do("FLUSHALL")
    server.do("ACL", "SETUSER", "web", "reset", *rules(), ">word")
    storage = RedisStorage.from_url(f"redis://web:word@127.0.0.1:{server.port}")
    transport = httpx.ASGITransport(SessionMiddleware(app, SessionStore(SessionConfig(storage=storage))))
    try:
        for before, path, then in REQUESTS:
            async with httpx.AsyncClient(transport=transport, base_url="https://shop.example") as client:
                for each in before:
                    assert (await client.get(each)).status_code == 200
                cookies = dict(client.cookies)
                was = (await client.get("/")).text
                server.do("ACL", "SETUSER", "web", f"-{right}")
                answered = (await client.get(path)).status_code
                server.do("ACL", "SETUSER", "web", f"+{right}")
                now = (await client.get("/")).text
                if answered == 200:
                    assert now == then, "after a 200 the changes are stored"
                else:
                    assert answered in {500, 503}
                    assert (now, dict(client.cookies)) == (was, cookies), "after an error nothing has changed"
    finally:
        await storage.aclose()
