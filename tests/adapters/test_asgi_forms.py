"""Bodies on ASGI: an ID may stand in a form, and the application reads every byte all the same."""

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from tests.adapters.asgi import ask, http_scope, run
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


async def session_first(request: Request) -> Response:
    session = await get_session(request)
    return PlainTextResponse(f"{session.get('n')} {len(await request.body())}")


async def body_first(request: Request) -> Response:
    body = await request.body()
    return PlainTextResponse(f"{(await get_session(request)).get('n')} {len(body)}")


class Site:
    """An application that reads the session and the body."""

    def __init__(self, *, lazy: bool = False) -> None:
        self.storage = SpyStorage()
        extractor = chain(from_form("a"), from_form("sid"), from_cookie())
        self.store = SessionStore(SessionConfig(storage=self.storage, extractor=extractor))
        pages = [Route(f"/{page.__name__}", page, methods=["POST"]) for page in (session_first, body_first)]
        self.app = SessionMiddleware(Router(pages), self.store, lazy=lazy)

    async def post(self, content_type: str, *chunks: bytes, path: str = "/session_first") -> bytes:
        headers = [(b"content-type", content_type.encode())]
        return (await ask(self.app, path, method="POST", headers=headers, chunks=chunks)).body

    async def make(self) -> str:
        return (await self.store.create({"n": 7})).id


@pytest.mark.parametrize(("lazy", "path"), [(False, "/session_first"), (True, "/session_first"), (True, "/body_first")])
async def test_the_form_is_read_twice_in_whatever_pieces_it_comes(lazy: bool, path: str) -> None:
    site = Site(lazy=lazy)
    sid = await site.make()
    for content_type, body in ((URLENCODED, f"b=1&sid={sid}".encode()), (MULTIPART, multipart(sid, b"\0\r\n--b0"))):
        for size in (1, 7, 1000):
            pieces = [body[start : start + size] for start in range(0, len(body), size)]
            assert await site.post(content_type, *pieces, path=path) == f"7 {len(body)}".encode()
            assert await site.post(content_type, b"", *pieces, b"", path=path) == f"7 {len(body)}".encode()


@pytest.mark.parametrize(("lazy", "path"), [(False, "/session_first"), (True, "/body_first")])
async def test_a_body_over_the_bound_is_not_searched_and_arrives_whole(lazy: bool, path: str) -> None:
    site = Site(lazy=lazy)
    sid = await site.make()
    for start in (multipart(sid), b"x" * 100):
        chunks = [start, *[b"y" * 65536] * (MAX_FORM // 65536 + 2)]
        assert await site.post(MULTIPART, *chunks, path=path) == f"None {sum(map(len, chunks))}".encode()
    assert site.storage.calls == ["create"]


async def test_a_client_that_leaves_while_its_form_is_read_is_told_to_the_application() -> None:
    scope = http_scope("/session_first", method="POST", headers=[(b"content-type", URLENCODED.encode())])
    half = {"type": "http.request", "body": b"sid=", "more_body": True}
    assert (await run(Site().app, scope, half, {"type": "http.disconnect"}, raises=ClientDisconnect)).sent == []
