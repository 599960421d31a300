"""The scenario application in Litestar."""

from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Litestar, Request, Response, WebSocket, route, websocket
from litestar.background_tasks import BackgroundTask
from litestar.exceptions import HTTPException, WebSocketDisconnect
from litestar.handlers import HTTPRouteHandler
from litestar.response import File, Stream
from litestar.response.base import ASGIResponse
from tests.adapters.page import PageRequest, PageResponse
from tests.adapters.pages import PAGES
from tests.adapters.socket_page import talk, talk_by_text

from sessioncore import SessionStore
from sessioncore_litestar import SessionPlugin, get_session

__all__ = ["make_app"]

AnyRequest = Request[Any, Any, Any]
AnySocket = WebSocket[Any, Any, Any]
Page = Callable[[PageRequest], Awaitable[PageResponse]]


class _Plain(Response[bytes]):
    """A response with repeated headers: Litestar keeps headers in a dict, which cannot hold two Set-Cookie lines."""

    def __init__(self, answer: PageResponse) -> None:
        background = BackgroundTask(answer.background) if answer.background is not None else None
        super().__init__(answer.body, status_code=answer.status, media_type="text/plain", background=background)
        self._lines = answer.headers

    def to_asgi_response(self, *args: Any, **options: Any) -> ASGIResponse:
        render: Any = super().to_asgi_response  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # theirs
        response: ASGIResponse = render(*args, **options)
        for name, value in self._lines:
            response.headers.add(name, value)
        return response


def _respond(answer: PageResponse) -> Response[Any]:
    if answer.raised:
        raise HTTPException(status_code=answer.status, detail="as you asked", headers=dict(answer.headers))
    if answer.file is not None:
        return File(answer.file)
    if answer.chunks is not None:
        media = dict(answer.headers).get("Content-Type", "text/plain")
        return Stream(answer.chunks, status_code=answer.status, media_type=media)
    return _Plain(answer)


def _handler(name: str, page: Page) -> HTTPRouteHandler:
    paths = [f"/{name}", "/share/{id:str}"] if name == "share" else [f"/{name}"]

    @route(paths, http_method=["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"], status_code=200)
    async def handle(request: AnyRequest) -> Response[Any]:
        return _respond(await page(PageRequest(request, get_session)))

    return handle


@websocket("/ws")
async def _talk(socket: AnySocket) -> None:
    await talk_by_text(talk, PageRequest(socket, get_session), socket, WebSocketDisconnect)


def make_app(store: SessionStore, *others: tuple[str, SessionStore]) -> Any:
    """Return the application with `store`, and with others under their `scope_key`."""
    more = [SessionPlugin(other, scope_key=scope_key) for scope_key, other in others]
    handlers = [_handler(name, page) for name, page in PAGES.items()]
    return Litestar([*handlers, _talk], plugins=[SessionPlugin(store), *more], openapi_config=None)
