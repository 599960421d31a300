"""The scenario application in raw ASGI; Starlette's requests and responses are its tools."""

from collections.abc import MutableMapping
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect
from tests.adapters.handlers import PAGES, Said, talk

from sessioncore import Session, SessionStore
from sessioncore_asgi import SessionMiddleware, get_session

__all__ = ["make_app"]


class _Asked:
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


def _response(said: Said) -> Response:
    response: Response
    if said.file is not None:
        response = FileResponse(said.file)
    elif said.chunks is not None:
        response = StreamingResponse(said.chunks, said.status)
    else:
        response = Response(said.body, said.status, media_type="text/plain" if said.body else None)
    for name, value in said.headers:
        response.headers.append(name, value)
    return response


async def _serve(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await _talk(WebSocket(scope, receive, send))
        return
    if scope["type"] != "http":
        raise RuntimeError("this application knows no lifespan")
    request = Request(scope, receive, send)
    name, _, rest = scope["path"][1:].partition("/")
    if rest:
        scope["path_params"] = {"id": rest}
    page = PAGES.get(name)
    response = Response("not found", 404) if page is None else _response(await page(_Asked(request)))
    await response(scope, receive, send)


async def _talk(socket: WebSocket) -> None:
    async def receive() -> str | None:
        try:
            return await socket.receive_text()
        except WebSocketDisconnect:
            return None

    await talk(_Asked(socket), socket.accept, socket.close, receive, socket.send_text)


def make_app(store: SessionStore, *others: tuple[str, SessionStore]) -> Any:
    """Return the application with `store`, and with others under their `scope_key`."""
    app: Any = _serve
    for scope_key, other in reversed(others):
        app = SessionMiddleware(app, other, scope_key=scope_key)
    return SessionMiddleware(app, store)
