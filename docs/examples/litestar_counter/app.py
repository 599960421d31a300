"""A counter, a login and a list of devices: the smallest application that shows what sessions are for.

It keeps sessions in memory and speaks plain http, for your own machine. For the real
thing, replace `SessionConfig.development()` by `SessionConfig(storage=...)` and serve it
over TLS.
"""

import hmac
import secrets
from datetime import UTC, datetime
from typing import Any, TypeAlias

from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.exceptions import PermissionDeniedException
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from sessioncore import Session, SessionConfig, SessionKey, SessionStore
from sessioncore_litestar import SessionPlugin

from . import pages

SessionDep: TypeAlias = NamedDependency[Session]
Form: TypeAlias = NamedDependency[dict[str, str]]
VISITS = SessionKey("visits", int, default=0)
CSRF = SessionKey("csrf", str)


def see(path: str) -> Redirect:
    """Send the browser on, with a GET."""
    return Redirect(path, status_code=HTTP_303_SEE_OTHER)


@get("/", media_type=MediaType.HTML)
async def home(session: SessionDep) -> str:
    """Show the counter; a visitor who only looks is not stored."""
    return pages.home(session.get(VISITS, 0), session.owner, token(session) if not session.empty else "")


@post("/count")
async def count(session: SessionDep, form: Form) -> Redirect:
    """Count once more; clicks that arrive at the same time are all counted."""
    session.mutate(VISITS, lambda number: number + 1)
    token(session)
    return see("/")


@get("/login", media_type=MediaType.HTML)
async def login_form(session: SessionDep) -> str:
    """Ask for a name; the form carries a token, so the session begins here."""
    return pages.login(token(session))


@post("/login")
async def login(request: Request[Any, Any, Any], session: SessionDep, form: Form) -> Response[Any]:
    """Log in: a new ID, the counter stays, and the session appears among the devices."""
    name = form.get("name", "").strip()
    if not name:
        page = pages.login(token(session), "Please tell your name.")
        return Response(page, status_code=422, media_type=MediaType.HTML)
    await session.login(name, device=request.headers.get("user-agent", "unknown")[:120])
    session[CSRF] = secrets.token_urlsafe()
    return see("/devices")


@get("/devices")
async def devices(session: SessionDep) -> Response[Any]:
    """List the sessions of whoever is logged in."""
    if session.owner is None:
        return see("/login")
    now = datetime.now(UTC)
    rows = [
        pages.Device(
            info.handle, str(info.details.get("device")), now - info.last_seen_at, info.handle == session.handle
        )
        for info in await session.store.sessions_of(session.owner)
    ]
    return Response(pages.devices(session.owner, rows, token(session)), media_type=MediaType.HTML)


@post("/devices/revoke")
async def revoke(session: SessionDep, form: Form) -> Redirect:
    """End another session of the same person; nobody else's, whatever the form says."""
    if session.owner is not None:
        await session.store.revoke(form.get("handle", ""), owner=session.owner)
    return see("/devices")


@post("/logout")
async def logout(session: SessionDep, form: Form) -> Redirect:
    """End the session, everywhere and at once."""
    await session.destroy()
    return see("/")


def token(session: Session) -> str:
    """Return this session's token for forms."""
    known = session.get(CSRF)
    if known is None:
        known = session[CSRF] = secrets.token_urlsafe()
    return known


async def check(request: Request[Any, Any, Any], session: SessionDep) -> dict[str, str]:
    """Return the form's fields, if it is one of ours."""
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    known = session.get(CSRF)
    if known is None and request.url.path == "/count":
        return form  # a stranger's first click has no token yet, and nothing to protect
    if known is None or not hmac.compare_digest(form.get("csrf", "").encode(), known.encode()):
        raise PermissionDeniedException("This form is out of date. Go back and load the page again.")
    return form


def build(store: SessionStore | None = None) -> Litestar:
    """Return the application."""
    return Litestar(
        [home, count, login_form, login, devices, revoke, logout],
        plugins=[SessionPlugin(store or SessionStore(SessionConfig.development()))],
        dependencies={"form": Provide(check)},
        response_headers={"Cache-Control": "no-store"},  # so that the Back button shows nothing after logging out
        openapi_config=None,
    )
