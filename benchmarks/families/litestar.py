"""Litestar."""

from typing import Any

from benchmarks.workloads import Handler
from litestar import Litestar, MediaType, Request, get

__all__ = ["app"]


def app(handlers: dict[str, Handler], **options: Any) -> Any:
    """Return a Litestar application; `options` are Litestar's own."""

    def endpoint(name: str, handler: Handler) -> Any:
        async def answer(request: Request[Any, Any, Any]) -> str:
            return await handler(request) or "ok"

        return get(f"/{name}", media_type=MediaType.TEXT, name=name)(answer)

    routes = [endpoint(name, handler) for name, handler in handlers.items()]
    return Litestar(routes, openapi_config=None, logging_config=None, **options)
