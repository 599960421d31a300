"""What the tests of aiohttp share: a handler that counts, and applications made of handlers."""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sessioncore import SessionStore
from sessioncore_aiohttp import get_session, session_middleware, setup

__all__ = ["application", "count", "prepared", "proxied", "route", "touch", "with_middleware_alone"]

Page = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def count(request: web.Request) -> web.Response:
    session = await get_session(request)
    session["n"] = session.get("n", 0) + 1
    return web.Response(text=str(session["n"]))


async def prepared(request: web.Request) -> web.StreamResponse:
    response = await count(request)
    await response.prepare(request)
    return response


@web.middleware
async def touch(request: web.Request, handler: Handler) -> web.StreamResponse:
    """An application's own middleware that uses the session on every request."""
    session = await get_session(request)
    session["seen"] = session.get("seen", 0) + 1
    return await handler(request)


@web.middleware
async def proxied(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Clone the request, as middlewares for proxies do: the server prepares the response with the original one."""
    return await handler(request.clone(scheme="https", remote="192.0.2.1"))


def route(app: web.Application, *pages: Page) -> web.Application:
    """Serve each handler under its name."""
    for page in pages:
        app.router.add_route("*", f"/{page.__name__}", page)
    return app


def application(
    store: SessionStore, *pages: Page, outside: Sequence[Middleware] = (), inside: Sequence[Middleware] = ()
) -> web.Application:
    """An application with `setup`, and middlewares outside and inside of it."""
    app = web.Application(middlewares=outside)
    setup(app, store)
    app.middlewares.extend(inside)
    return route(app, *pages)


def with_middleware_alone(store: SessionStore, *pages: Page) -> web.Application:
    """An application with the middleware and without `setup`."""
    return route(web.Application(middlewares=[session_middleware(store)]), *pages)
