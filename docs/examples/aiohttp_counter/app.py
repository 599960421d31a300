"""A counter, a login and a list of devices: the smallest application that shows what sessions are for.

It keeps sessions in memory and speaks plain http, for your own machine. For the real
thing, replace `SessionConfig.development()` by `SessionConfig(storage=...)` and serve it
over TLS.

The forms carry no token against those of other sites: the session refuses what they send (403).
Only a GET is not judged, so no page changes anything when it is looked at.
"""

from datetime import UTC, datetime

from aiohttp import web

from sessioncore import SessionConfig, SessionKey, SessionStore
from sessioncore_aiohttp import get_session, setup

from . import pages

routes = web.RouteTableDef()
VISITS = SessionKey("visits", int, default=0)


@routes.get("/")
async def home(request: web.Request) -> web.Response:
    """Show the counter; a visitor who only looks is not stored."""
    session = await get_session(request)
    return pages.home(session.get(VISITS, 0), session.owner)


@routes.post("/count")
async def count(request: web.Request) -> web.Response:
    """Count once more; clicks that arrive at the same time are all counted."""
    session = await get_session(request)
    session.mutate(VISITS, lambda number: number + 1)
    raise web.HTTPSeeOther("/")


@routes.get("/login")
async def login_form(_: web.Request) -> web.Response:
    """Ask for a name."""
    return pages.login()


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    """Log in: a new ID, the counter stays, and the session appears among the devices."""
    session = await get_session(request)
    name = await field(request, "name")
    if not name:
        return pages.login("Please tell your name.")
    await session.login(name, device=request.headers.get("User-Agent", "unknown")[:120])
    raise web.HTTPSeeOther("/devices")


@routes.get("/devices")
async def devices(request: web.Request) -> web.Response:
    """List the sessions of whoever is logged in."""
    session = await get_session(request)
    if session.owner is None:
        raise web.HTTPSeeOther("/login")
    now = datetime.now(UTC)
    rows = [
        pages.Device(
            info.handle, str(info.details.get("device")), now - info.last_seen_at, info.handle == session.handle
        )
        for info in await session.store.sessions_of(session.owner)
    ]
    return pages.devices(session.owner, rows)


@routes.post("/devices/revoke")
async def revoke(request: web.Request) -> web.Response:
    """End another session of the same person, but nobody else's, whatever the form says."""
    session = await get_session(request)
    if session.owner is not None:
        await session.store.revoke(await field(request, "handle"), owner=session.owner)
    raise web.HTTPSeeOther("/devices")


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    """End the session, everywhere and at once."""
    session = await get_session(request)
    await session.destroy()
    raise web.HTTPSeeOther("/")


async def field(request: web.Request, name: str) -> str:
    """Return a field of the form, as text."""
    value = (await request.post()).get(name)
    return value.strip() if isinstance(value, str) else ""


def build(store: SessionStore | None = None) -> web.Application:
    """Return the application."""
    app = web.Application()
    setup(app, store or SessionStore(SessionConfig.development()))
    app.add_routes(routes)
    return app
