"""A counter, a login and a list of devices: the smallest application that shows what sessions are for.

It keeps sessions in memory and speaks plain http, for your own machine. For the real
thing, replace `SessionConfig.development()` by `SessionConfig(storage=...)` and serve it
over TLS.

The forms carry no token against those of other sites: the session refuses what they send (403).
Only a GET is not judged, so no page changes anything when it is looked at.
"""

from datetime import UTC, datetime
from typing import Any, TypeAlias

from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.di import NamedDependency, Provide
from litestar.response import Redirect
from litestar.status_codes import HTTP_303_SEE_OTHER

from sessioncore import Session, SessionConfig, SessionKey, SessionStore
from sessioncore_litestar import SessionPlugin

from . import pages

SessionDep: TypeAlias = NamedDependency[Session]
Form: TypeAlias = NamedDependency[dict[str, str]]
VISITS = SessionKey("visits", int, default=0)


def see(path: str) -> Redirect:
    """Redirect the browser with a GET."""
    return Redirect(path, status_code=HTTP_303_SEE_OTHER)


@get("/", media_type=MediaType.HTML)
async def home(session: SessionDep) -> str:
    """Show the counter; a visitor who only looks is not stored."""
    return pages.home(session.get(VISITS, 0), session.owner)


@post("/count")
async def count(session: SessionDep) -> Redirect:
    """Count once more; clicks that arrive at the same time are all counted."""
    session.mutate(VISITS, lambda number: number + 1)
    return see("/")


@get("/login", media_type=MediaType.HTML)
async def login_form() -> str:
    """Ask for a name."""
    return pages.login()


@post("/login")
async def login(request: Request[Any, Any, Any], session: SessionDep, form: Form) -> Response[Any]:
    """Log in: a new ID, the counter stays, and the session appears among the devices."""
    name = form.get("name", "").strip()
    if not name:
        page = pages.login("Please tell your name.")
        return Response(page, status_code=422, media_type=MediaType.HTML)
    await session.login(name, device=request.headers.get("user-agent", "unknown")[:120])
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
    return Response(pages.devices(session.owner, rows), media_type=MediaType.HTML)


@post("/devices/revoke")
async def revoke(session: SessionDep, form: Form) -> Redirect:
    """End another session of the same person, but nobody else's, whatever the form says."""
    if session.owner is not None:
        await session.store.revoke(form.get("handle", ""), owner=session.owner)
    return see("/devices")


@post("/logout")
async def logout(session: SessionDep) -> Redirect:
    """End the session, everywhere and at once."""
    await session.destroy()
    return see("/")


async def fields(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Return the form's fields, as text."""
    return {name: value for name, value in (await request.form()).items() if isinstance(value, str)}


def build(store: SessionStore | None = None) -> Litestar:
    """Return the application."""
    return Litestar(
        [home, count, login_form, login, devices, revoke, logout],
        plugins=[SessionPlugin(store or SessionStore(SessionConfig.development()))],
        dependencies={"form": Provide(fields)},
        response_headers={"Cache-Control": "no-store"},  # so that the Back button shows nothing after logging out
        openapi_config=None,
    )
