"""Bodies on ASGI: an ID may stand in a form, and the application reads every byte all the same."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from tests.asgi import Message, Wire, http_scope, run_http
from tests.stores import SpyStorage

from sessioncore import SessionConfig, SessionStore, chain, from_cookie, from_form
from sessioncore.forms import MAX_FORM
from sessioncore_asgi import SessionMiddleware, get_session

pytestmark = pytest.mark.anyio

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b0undary"


def multipart(sid: str, more: bytes = b"") -> bytes:
    return (
        b'--b0undary\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + more + b"\r\n"
        b'--b0undary\r\nContent-Disposition: form-data; name="sid"\r\n\r\n' + sid.encode() + b"\r\n--b0undary--\r\n"
    )


class Site:
    """An application that reads the body after the session was looked for in it."""

    def __init__(self, read: Callable[[Request], Awaitable[bytes]], *, lazy: bool = False) -> None:
        self.storage = SpyStorage()
        self.store = SessionStore(SessionConfig(storage=self.storage, extractor=chain(from_form("sid"), from_cookie())))
        self.read = read
        self.app = SessionMiddleware(self.serve, self.store, lazy=lazy)

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive, send)
        session = await get_session(request)
        body = await self.read(request)
        response: Response = PlainTextResponse(f"{session.get('n')} {len(body)}")
        await response(scope, receive, send)

    async def post(self, content_type: str, chunks: list[bytes]) -> Wire:
        scope = http_scope(method="POST", headers=[(b"content-type", content_type.encode())])
        return await run_http(self.app, scope, chunks)

    async def make(self) -> str:
        return (await self.store.create({"n": 7})).id


async def whole(request: Request) -> bytes:
    return await request.body()


async def fields(request: Request) -> bytes:
    async with request.form() as form:
        return str(form["sid"]).encode()


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_the_form_is_read_twice_in_whatever_pieces_it_comes(lazy: bool, size: int) -> None:
    site = Site(whole, lazy=lazy)
    sid = await site.make()
    for content_type, body in ((URLENCODED, f"a=1&sid={sid}".encode()), (MULTIPART, multipart(sid, b"\0\r\n--b0"))):
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        assert (await site.post(content_type, pieces)).body == f"7 {len(body)}".encode()
        assert (await site.post(content_type, [b"", *pieces, b""])).body == f"7 {len(body)}".encode()


@pytest.mark.parametrize("lazy", [False, True])
async def test_the_frameworks_own_parser_finds_the_same_field(lazy: bool) -> None:
    site = Site(fields, lazy=lazy)
    sid = await site.make()
    assert (await site.post(URLENCODED, [f"sid={sid}".encode()])).body == b"7 43"
    assert (await site.post(MULTIPART, [multipart(sid)])).body == b"7 43"


async def test_a_body_over_the_bound_is_not_searched_and_arrives_whole() -> None:
    site = Site(whole)
    sid = await site.make()
    for start in (multipart(sid), b"x" * 100):
        chunks = [start, *[b"y" * 65536] * (MAX_FORM // 65536 + 2)]
        assert (await site.post(MULTIPART, chunks)).body == f"None {sum(map(len, chunks))}".encode()
    assert site.storage.calls == ["create"]


async def test_a_body_that_is_no_form_is_not_read_by_the_core() -> None:
    site = Site(whole)
    sid = await site.make()
    for content_type in ("application/json", "text/plain", "", "application/octet-stream"):
        assert (await site.post(content_type, [f"sid={sid}".encode()])).body == b"None 47"


async def test_the_session_is_found_once_for_several_form_fields() -> None:
    site = Site(whole)
    site.store = SessionStore(SessionConfig(storage=site.storage, extractor=chain(from_form("a"), from_form("sid"))))
    site.app = SessionMiddleware(site.serve, site.store)
    sid = await site.make()
    assert (await site.post(URLENCODED, [b"b=1&", f"sid={sid}".encode()])).body == b"7 51"


async def test_a_client_that_leaves_while_its_form_is_read_is_told_to_the_application() -> None:
    site = Site(whole)
    scope = http_scope(method="POST", headers=[(b"content-type", URLENCODED.encode())])
    incoming: list[Message] = [
        {"type": "http.request", "body": b"sid=", "more_body": True},
        {"type": "http.disconnect"},
    ]
    wire = Wire(incoming)
    with pytest.raises(ClientDisconnect):
        await site.app(scope, wire.receive, wire.send)
    assert wire.sent == []
