"""aiohttp."""

from typing import Any

from aiohttp import web
from benchmarks.workloads import Handler

__all__ = ["app"]


def app(handlers: dict[str, Handler]) -> Any:
    """Return an aiohttp application, to be given to a contender's `setup`."""

    def endpoint(handler: Handler) -> Any:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(text=await handler(request) or "ok")

        return answer

    made = web.Application()
    for name, handler in handlers.items():
        made.router.add_get(f"/{name}", endpoint(handler))
    return made
