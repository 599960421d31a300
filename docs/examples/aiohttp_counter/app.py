"""A counter, a login and a list of devices: the smallest application that shows what sessions are for.

It keeps sessions in memory and speaks plain http, for your own machine. For the real
thing, replace `SessionConfig.development()` by `SessionConfig(storage=...)` and serve it
over TLS.
"""

import hmac
import secrets
from datetime import UTC, datetime

from aiohttp import web

from sessioncore import Session, SessionConfig, SessionKey, SessionStore
from sessioncore_aiohttp import get_session, setup

from . import pages

routes = web.RouteTableDef()
VISITS = SessionKey("visits", int, default=0)
CSRF = SessionKey("csrf", str)


@routes.get("/")
async def home(request: web.Request) -> web.Response:
    """Show the counter; a visitor who only looks is not stored."""
    session = await get_session(request)
    return pages.home(session.get(VISITS, 0), session.owner, token(session) if not session.empty else "")


@routes.post("/count")
async def count(request: web.Request) -> web.Response:
    """Count once more; clicks that arrive at the same time are all counted."""
    session = await get_session(request)
    if not session.fresh:  # a stranger's first click has no token yet, and nothing to protect
        await check(request, session)
    session.mutate(VISITS, lambda number: number + 1)
    token(session)
    raise web.HTTPSeeOther("/")


@routes.get("/login")
async def login_form(request: web.Request) -> web.Response:
    """Ask for a name; the form carries a token, so the session begins here."""
    return pages.login(token(await get_session(request)))


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    """Log in: a new ID, the counter stays, and the session appears among the devices."""
    session = await get_session(request)
    form = await check(request, session)
    name = form.get("name", "").strip()
    if not name:
        return pages.login(token(session), "Please tell your name.")
    await session.login(name, device=request.headers.get("User-Agent", "unknown")[:120])
    session[CSRF] = secrets.token_urlsafe()
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
    return pages.devices(session.owner, rows, token(session))


@routes.post("/devices/revoke")
async def revoke(request: web.Request) -> web.Response:
    """End another session of the same person; nobody else's, whatever the form says."""
    session = await get_session(request)
    form = await check(request, session)
    if session.owner is not None:
        await session.store.revoke(form.get("handle", ""), owner=session.owner)
    raise web.HTTPSeeOther("/devices")


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    """End the session, everywhere and at once."""
    session = await get_session(request)
    await check(request, session)
    await session.destroy()
    raise web.HTTPSeeOther("/")


def token(session: Session) -> str:
    """Return this session's token for forms."""
    known = session.get(CSRF)
    if known is None:
        known = session[CSRF] = secrets.token_urlsafe()
    return known


async def check(request: web.Request, session: Session) -> dict[str, str]:
    """Return the form's fields, if it is one of ours."""
    form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
    known = session.get(CSRF)
    if known is None or not hmac.compare_digest(form.get("csrf", "").encode(), known.encode()):
        raise web.HTTPForbidden(text="This form is out of date. Go back and load the page again.")
    return form


def build(store: SessionStore | None = None) -> web.Application:
    """Return the application."""
    app = web.Application()
    setup(app, store or SessionStore(SessionConfig.development()))
    app.add_routes(routes)
    return app
