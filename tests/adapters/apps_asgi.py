"""The scenario application in Starlette, with the ASGI middleware around it."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from tests.adapters.page import PageRequest, PageResponse
from tests.adapters.pages import PAGES
from tests.adapters.socket_page import talk

from sessioncore import Session, SessionStore
from sessioncore_asgi import SessionMiddleware, get_session

__all__ = ["make_app"]

Page = Callable[[PageRequest], Awaitable[PageResponse]]
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]


class _Request:
    def __init__(self, connection: HTTPConnection) -> None:
        self._connection = connection

    async def session(self, scope_key: str = "session") -> Session:
        return await get_session(self._connection, scope_key=scope_key)

    def query(self, name: str) -> str | None:
        return self._connection.query_params.get(name)

    async def body(self) -> bytes:
        assert isinstance(self._connection, Request)
        return await self._connection.body()

    async def field(self, name: str) -> str | None:
        assert isinstance(self._connection, Request)
        async with self._connection.form() as form:
            value = form.get(name)
            return value if isinstance(value, str) else None


def _response(answer: PageResponse) -> Response:
    response: Response
    if answer.raised:
        raise HTTPException(answer.status, "as you asked", dict(answer.headers))
    if answer.file is not None:
        response = FileResponse(answer.file)
    elif answer.chunks is not None:
        response = StreamingResponse(answer.chunks, answer.status)
    else:
        response = Response(answer.body, answer.status, media_type="text/plain" if answer.body else None)
    for name, value in answer.headers:
        response.headers.append(name, value)
    response.background = BackgroundTask(answer.background) if answer.background is not None else None
    return response


def _handler(page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        return _response(await page(_Request(request)))

    return handle


def make_app(
    store: SessionStore,
    *others: tuple[str, SessionStore],
    pages: Mapping[str, Page] = PAGES,
    talk: Callable[..., Awaitable[None]] = talk,
    lifespan: Any = None,
) -> Any:
    """Return the application with `store`, and with others under their `scope_key`."""

    async def ws(socket: WebSocket) -> None:
        async def receive() -> str | None:
            try:
                return await socket.receive_text()
            except WebSocketDisconnect:
                return None

        await talk(_Request(socket), socket.accept, socket.close, receive, socket.send_text)

    routes = [Route(f"/{name}", _handler(page), methods=METHODS) for name, page in pages.items()]
    share = [Route("/share/{id}", _handler(page)) for name, page in pages.items() if name == "share"]
    app: Any = Starlette(routes=[*routes, *share, WebSocketRoute("/ws", ws)], lifespan=lifespan)
    for scope_key, other in reversed(others):
        app = SessionMiddleware(app, other, scope_key=scope_key)
    return SessionMiddleware(app, store)
