"""What the tests of Litestar share: small handlers, and a client for an application made of some."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

from litestar import Litestar, Request, WebSocket, get, post
from litestar.di import NamedDependency
from litestar.testing import TestClient

from sessioncore import Session, SessionStore
from sessioncore_litestar import SessionPlugin

__all__ = ["COOKIE", "HTTPS", "AnyRequest", "AnySocket", "Open", "SessionDep", "clients", "put", "read", "write"]

AnyRequest: TypeAlias = Request[Any, Any, Any]
AnySocket: TypeAlias = WebSocket[Any, Any, Any]
SessionDep: TypeAlias = NamedDependency[Session]
Open: TypeAlias = Callable[..., TestClient[Litestar]]
COOKIE = "__Host-session_id"
HTTPS = "https://testserver.local"


@contextmanager
def clients(store: SessionStore, backend: Any) -> Generator[Open]:
    """Yield a function that serves handlers with the plugin, and returns a client over https."""
    with ExitStack() as stack:

        def open_(*handlers: Any, plugin: SessionPlugin | None = None, **options: Any) -> TestClient[Litestar]:
            options.setdefault("plugins", [plugin or SessionPlugin(store)])
            app = Litestar([*handlers], **options)
            return stack.enter_context(
                TestClient(app, HTTPS, backend=backend, raise_server_exceptions=False, timeout=10)
            )

        yield open_


def put(connection: Any, value: object) -> None:
    """Call `set_session`, whose type is half unknown to pyright."""
    connection.set_session(value)


@post("/write")
async def write(request: AnyRequest) -> None:
    request.session["n"] = request.session.get("n", 0) + 1


@get("/read")
async def read(request: AnyRequest) -> dict[str, Any]:
    return dict(request.session)
