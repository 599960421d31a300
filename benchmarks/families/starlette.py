"""Starlette."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.workloads import Handler
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

__all__ = ["app"]


def app(handlers: dict[str, Handler], middleware: Sequence[Middleware] = ()) -> Any:
    """Return a Starlette application."""

    def endpoint(handler: Handler) -> Callable[[Any], Awaitable[Any]]:
        async def answer(request: Any) -> Any:
            return PlainTextResponse(await handler(request) or "ok")

        return answer

    routes = [Route(f"/{name}", endpoint(handler)) for name, handler in handlers.items()]
    return Starlette(routes=routes, middleware=list(middleware))
