"""The applications around the sessions: one way per framework, the same paths in each.

`raw` is ASGI without a framework: what is left over is the session's own cost.
Litestar and aiohttp are imported when they are asked for.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.places import Place
from benchmarks.workloads import Handler, bare_handlers

__all__ = ["aiohttp_app", "bare", "litestar_app", "raw_app", "starlette_app"]

App = Any
Handlers = dict[str, Handler]


def raw_app(handlers: Handlers) -> App:
    """An ASGI application that answers each path with two bytes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        text = await handlers[scope["path"][1:]](scope)
        body = b"ok" if text is None else str(text).encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def starlette_app(handlers: Handlers, middleware: Any = (), **options: Any) -> App:
    """A Starlette application; `middleware` as Starlette takes it."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    def endpoint(handler: Handler) -> Callable[[Any], Awaitable[Any]]:
        async def answer(request: Any) -> Any:
            return PlainTextResponse(await handler(request) or "ok")

        return answer

    routes = [Route(f"/{name}", endpoint(handler)) for name, handler in handlers.items()]
    return Starlette(routes=routes, middleware=list(middleware), **options)


def aiohttp_app(handlers: Handlers) -> App:
    """An aiohttp application, to be given to the contender's `setup`."""
    from aiohttp import web

    def endpoint(handler: Handler) -> Any:
        async def answer(request: web.Request) -> web.Response:
            return web.Response(text=await handler(request) or "ok")

        return answer

    app = web.Application()
    for name, handler in handlers.items():
        app.router.add_get(f"/{name}", endpoint(handler))
    return app


def litestar_app(handlers: Handlers, **options: Any) -> App:
    """A Litestar application; `options` are Litestar's own."""
    from litestar import Litestar, MediaType, Request, get

    def endpoint(name: str, handler: Handler) -> Any:
        async def answer(request: Request[Any, Any, Any]) -> str:
            return await handler(request) or "ok"

        return get(f"/{name}", media_type=MediaType.TEXT, name=name)(answer)

    routes = [endpoint(name, handler) for name, handler in handlers.items()]
    return Litestar(routes, openapi_config=None, logging_config=None, **options)


def bare(family: str, place: Place) -> App:
    """Return the application of this family without any session: what all others are measured over."""
    del place
    makers = {"asgi": raw_app, "starlette": starlette_app, "aiohttp": aiohttp_app, "litestar": litestar_app}
    return makers[family](bare_handlers())
