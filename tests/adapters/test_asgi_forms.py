"""Forms on ASGI: an ID is read from the body, and the application still gets every byte of it."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from tests.adapters.asgi import Message, Wire, ask, http_scope, run

from sessioncore import SessionConfig, SessionStore, chain, from_cookie, from_form
from sessioncore.forms import MAX_FORM
from sessioncore_asgi import SessionMiddleware, get_session
from sessioncore_asgi._view import AsgiView

pytestmark = pytest.mark.anyio
FORM = [(b"content-type", b"application/x-www-form-urlencoded")]


async def session_first(request: Request) -> Response:
    session = await get_session(request)
    return PlainTextResponse(f"{session.get('n')} {len(await request.body())}")


async def body_first(request: Request) -> Response:
    body = await request.body()
    return PlainTextResponse(f"{(await get_session(request)).get('n')} {len(body)}")


@pytest.mark.parametrize(("lazy", "path"), [(False, "/session_first"), (True, "/session_first"), (True, "/body_first")])
async def test_the_form_is_read_twice_in_whatever_pieces_it_comes_up_to_a_bound(lazy: bool, path: str) -> None:
    store = SessionStore(SessionConfig(extractor=chain(from_form("a"), from_form("sid"), from_cookie())))
    pages = [Route(f"/{page.__name__}", page, methods=["POST"]) for page in (session_first, body_first)]
    app = SessionMiddleware(Router(pages), store, lazy=lazy)
    body = f"b=1&sid={(await store.create({'n': 7})).id}".encode()
    for size in (1, 7, 1000):
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        for chunks in (pieces, [b"", *pieces, b""]):
            wire = await ask(app, path, method="POST", headers=FORM, chunks=chunks)
            assert wire.body == f"7 {len(body)}".encode()
    large = [b"c=", *[b"y" * 65536] * (MAX_FORM // 65536 + 2)]
    for chunks, n in ([body + b"&", *large], 7), ([*large, b"&" + body], None):
        wire = await ask(app, path, method="POST", headers=FORM, chunks=chunks)
        assert wire.body == f"{n} {sum(map(len, chunks))}".encode()


async def test_the_application_receives_that_a_client_left_while_its_form_was_read() -> None:
    store = SessionStore(SessionConfig(extractor=from_form("sid")))
    app = SessionMiddleware(Route("/", session_first, methods=["POST"]), store)
    half = {"type": "http.request", "body": b"sid=", "more_body": True}
    leave = {"type": "http.disconnect"}
    scope = http_scope(method="POST", headers=FORM)
    assert (await run(app, scope, half, leave, raises=ClientDisconnect)).sent == []
    heard: list[Message] = []

    async def hear(scope: Any, receive: Any, send: Any) -> None:
        heard.extend([await receive(), await receive()])

    pieces = [{**half, "body": piece} for piece in (b"", b"si", b"", b"d=", b"")]
    await run(SessionMiddleware(hear, store), http_scope(method="POST", headers=FORM), *pieces, leave)
    assert heard == [half, leave]  # one message, because a client can send any number of pieces, even empty ones


@pytest.mark.parametrize("content_type", [b"application/x-www-form-urlencoded", b"application/octet-stream"])
async def test_the_headers_are_searched_once_in_however_many_pieces_the_body_comes(content_type: bytes) -> None:
    searched: list[bytes] = []

    class Headers(list[tuple[bytes, bytes]]):
        def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
            searched.append(content_type)
            return super().__iter__()

    wire = Wire([{"type": "http.request", "body": b"a", "more_body": True}] * 3)
    view = AsgiView(
        {**http_scope(method="POST"), "headers": Headers([(b"content-type", content_type)])}, wire.receive, "POST"
    )
    for _ in range(3):
        await view.receive()
    assert len(searched) == 1
