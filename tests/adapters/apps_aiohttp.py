"""The scenario application in aiohttp."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from multidict import CIMultiDict
from tests.adapters.page import PageRequest, PageResponse
from tests.adapters.pages import PAGES
from tests.adapters.socket_page import talk

from sessioncore import SessionStore
from sessioncore_aiohttp import get_session, setup

__all__ = ["make_app"]

Page = Callable[[PageRequest], Awaitable[PageResponse]]
_RAISED: Mapping[int, type[web.HTTPClientError]] = {
    401: web.HTTPUnauthorized,
    403: web.HTTPForbidden,
    404: web.HTTPNotFound,
}


class _Request(PageRequest):
    def query(self, name: str) -> str | None:
        value: str | None = self.connection.query.get(name)
        return value

    async def body(self) -> bytes:
        parts = [part async for part in self.connection.content.iter_any()]  # as upload handlers do: no limit
        return b"".join(parts)

    async def field(self, name: str) -> str | None:
        value = (await self.connection.post()).get(name)
        return value if isinstance(value, str) else None


def _handler(page: Page) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        answer = await page(_Request(request, get_session))
        headers = CIMultiDict(answer.headers)
        if answer.raised:
            if answer.status == 302:
                raise web.HTTPFound(headers.pop("Location", "/"), headers=headers)
            raise _RAISED[answer.status](headers=headers, text=answer.body.decode())
        if answer.file is not None:
            return web.FileResponse(answer.file, headers=headers)
        if answer.chunks is not None:
            stream = web.StreamResponse(status=answer.status, headers=headers)
            await stream.prepare(request)
            async for chunk in answer.chunks:
                await stream.write(chunk)
            return stream
        kind = "text/plain" if answer.body else None
        response = web.Response(body=answer.body, status=answer.status, headers=headers, content_type=kind)
        if answer.background is not None:  # aiohttp has no background tasks: its handlers do this instead
            await response.prepare(request)
            await response.write_eof()
            await answer.background()
        return response

    return handle


def make_app(
    store: SessionStore,
    *others: tuple[str, SessionStore],
    pages: Mapping[str, Page] = PAGES,
    talk: Callable[..., Awaitable[None]] = talk,
) -> Any:
    """Return the application with `store`, and with others under their `scope_key`."""

    async def ws(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()

        async def accept() -> None:
            await socket.prepare(request)

        async def refuse(code: int = 1000) -> None:
            if not socket.prepared:
                raise web.HTTPForbidden
            await socket.close(code=code)

        async def receive() -> str | None:
            message = await socket.receive()
            return message.data if message.type is web.WSMsgType.TEXT else None

        await talk(_Request(request, get_session), accept, refuse, receive, socket.send_str)
        return socket

    app = web.Application()
    setup(app, store)
    for scope_key, other in others:
        setup(app, other, scope_key=scope_key)
    for name, page in pages.items():
        app.router.add_route("*", f"/{name}", _handler(page))
        if name == "share":
            app.router.add_route("*", "/share/{id}", _handler(page))
    app.router.add_get("/ws", ws)
    return app
