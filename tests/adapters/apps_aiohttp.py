"""The scenario application in aiohttp."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from multidict import CIMultiDict
from tests.adapters.handlers import PAGES, Asked, Said, talk

from sessioncore import Session, SessionStore
from sessioncore_aiohttp import get_session, setup

__all__ = ["make_app"]

Page = Callable[[Asked], Awaitable[Said]]
_RAISED: Mapping[int, type[web.HTTPClientError]] = {
    401: web.HTTPUnauthorized,
    403: web.HTTPForbidden,
    404: web.HTTPNotFound,
}


class _Asked:
    def __init__(self, request: web.Request) -> None:
        self._request = request

    async def session(self, scope_key: str = "session") -> Session:
        return await get_session(self._request, scope_key=scope_key)

    def query(self, name: str) -> str | None:
        return self._request.query.get(name)

    async def body(self) -> bytes:
        parts = [part async for part in self._request.content.iter_any()]  # as an upload handler does: of any size
        return b"".join(parts)

    async def field(self, name: str) -> str | None:
        value = (await self._request.post()).get(name)
        return value if isinstance(value, str) else None


def _handler(page: Page) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        said = await page(_Asked(request))
        headers = CIMultiDict(said.headers)
        if said.raised:
            if said.status == 302:
                location = headers.pop("Location", "/")
                raise web.HTTPFound(location, headers=headers)
            raise _RAISED[said.status](headers=headers, text=said.body.decode())
        if said.file is not None:
            return web.FileResponse(said.file, headers=headers)
        if said.chunks is not None:
            return await _stream(request, said)
        return web.Response(body=said.body, status=said.status, headers=headers)

    return handle


async def _stream(request: web.Request, said: Said) -> web.StreamResponse:
    assert said.chunks is not None
    response = web.StreamResponse(status=said.status, headers=CIMultiDict(said.headers))
    await response.prepare(request)
    async for chunk in said.chunks:
        await response.write(chunk)
    return response


async def _talk(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse()

    async def accept() -> None:
        await socket.prepare(request)

    async def refuse() -> None:
        raise web.HTTPForbidden

    async def receive() -> str | None:
        message = await socket.receive()
        return message.data if message.type is web.WSMsgType.TEXT else None

    await talk(_Asked(request), accept, refuse, receive, socket.send_str)
    return socket


def make_app(store: SessionStore, *others: tuple[str, SessionStore]) -> Any:
    """Return the application with `store`, and with others under their `scope_key`."""
    app = web.Application()
    setup(app, store)
    for scope_key, other in others:
        setup(app, other, scope_key=scope_key)
    for name, page in PAGES.items():
        app.router.add_route("*", f"/{name}", _handler(page))
    app.router.add_route("*", "/share/{id}", _handler(PAGES["share"]))
    app.router.add_get("/ws", _talk)
    return app
