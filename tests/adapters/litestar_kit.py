"""What the tests of Litestar share: small handlers, and a client for an application made of handlers."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

from litestar import Litestar, Request, WebSocket, get, post
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.middleware import ASGIMiddleware
from litestar.testing import TestClient
from litestar.types import ASGIApp, Receive, Scope, Send

from sessioncore import Session, SessionStore
from sessioncore_litestar import SessionPlugin, get_session

__all__ = [
    "COOKIE", "HTTPS", "AnyConnection", "AnyRequest", "AnySocket", "Client", "Open", "OwnRequest", "SessionDep",
    "Watch", "clients", "cookie_of", "put", "read", "write",
]  # fmt: skip

AnyRequest: TypeAlias = Request[Any, Any, Any]
AnySocket: TypeAlias = WebSocket[Any, Any, Any]
AnyConnection: TypeAlias = ASGIConnection[Any, Any, Any, Any]
SessionDep: TypeAlias = NamedDependency[Session]
Client: TypeAlias = TestClient[Litestar]
Open: TypeAlias = Callable[..., Client]
COOKIE = "__Host-session_id"
HTTPS = "https://testserver.local"


class OwnRequest(Request[Any, Any, Any]):
    pass


class Watch(ASGIMiddleware):
    """An application's own middleware that uses the session on every request."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        session = await get_session(scope)
        session["seen"] = session.get("seen", 0) + 1
        await next_app(scope, receive, send)


@contextmanager
def clients(store: SessionStore, backend: Any) -> Generator[Open]:
    """Yield a function that serves handlers with the plugin, and returns a client over https."""
    with ExitStack() as stack:

        def open_(
            *handlers: Any, plugin: SessionPlugin | None = None, session_config: Any = None, **app: Any
        ) -> Client:
            # The OpenAPI description takes longer than all else: only tests that read it have it made.
            app = {"plugins": [plugin or SessionPlugin(store)], "openapi_config": None, **app}
            client: Client = TestClient(
                Litestar([*handlers], **app), HTTPS, session_config=session_config, backend=backend, timeout=10,
                raise_server_exceptions=False,
            )  # fmt: skip
            return stack.enter_context(client)

        yield open_


def cookie_of(client: Client) -> dict[str, str]:
    """The header for a WebSocket: the client knows only ws://, to which it sends no Secure cookie."""
    return {"Cookie": f"{COOKIE}={client.cookies[COOKIE]}"}


def put(connection: Any, value: object) -> None:
    """Call `set_session`, whose type is half unknown to pyright."""
    connection.set_session(value)


@post("/write")
async def write(request: AnyRequest) -> None:
    request.session["n"] = request.session.get("n", 0) + 1


@get("/read")
async def read(request: AnyRequest) -> dict[str, Any]:
    return dict(request.session)
