"""The page for the staff: they see the sessions of an owner, and end them.

Ending somebody's sessions is worth a second look, so it asks for the password again unless the last login is recent.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import wraps

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sessioncore import Session
from sessioncore_asgi import get_session

from .auth import USERS, User, find_user, sign_in
from .pages import Endpoint, Form, form, leave_note, message, page, redirect

__all__ = ["STAFF_ROUTES"]

RECENT = timedelta(minutes=10)  # for so long the password is not asked for again


def staff_only(handler: Endpoint) -> Endpoint:
    """Let in users who are signed in and belong to the staff."""

    @wraps(handler)
    async def handle(request: Request) -> Response:
        session = await get_session(request)
        if session.owner is None:
            return redirect("/login")
        if not USERS[session.owner].staff:
            return await message(request, 403, "Staff only", "This door is for the people who run the shop.")
        return await handler(request)

    return handle


def signed_in_lately(session: Session) -> bool:
    """Return whether the password was entered recently: `login` sets `created_at`."""
    now = datetime.fromtimestamp(session.store.config.clock(), UTC)
    return now - session.created_at < RECENT


@staff_only
async def sessions(request: Request) -> Response:
    """List the owners, and the sessions of the one that was asked for."""
    session = await get_session(request)
    owner = USERS.get(request.query_params.get("owner", ""))
    listed = [] if owner is None else await session.store.sessions_of(owner.id)
    lately = signed_in_lately(session)
    return await page(request, "staff.html", users=USERS.values(), owner=owner, sessions=listed, lately=lately)


Ending = Callable[[Session, User, Form], Awaitable[int]]


def ends_sessions(end: Ending) -> Endpoint:
    """Make a handler for a form from a function that ends sessions of an owner and returns how many."""

    @staff_only
    @form
    async def handle(_: Request, session: Session, fields: Form) -> Response:
        owner = USERS.get(fields.get("owner", ""))
        if owner is None:
            return redirect("/staff")
        here = f"/staff?owner={owner.id}"
        if not signed_in_lately(session):
            return redirect(here)  # which asks for the password
        count = await end(session, owner, fields)
        return redirect(here, leave_note(session, f"Sessions of {owner.name} ended: {count}."))

    return handle


@ends_sessions
async def end_one(session: Session, owner: User, fields: Form) -> int:
    """End one session, if it is this owner's."""
    return int(await session.store.revoke(fields.get("handle", ""), owner=owner.id))


@ends_sessions
async def end_all(session: Session, owner: User, _: Form) -> int:
    """End all sessions of this owner except the one that makes the request."""
    return await session.store.revoke_all(owner.id, keep=session)


@staff_only
@form
async def confirm(_: Request, session: Session, fields: Form) -> Response:
    """Check the password again. This is a login: the ID changes, and both clocks restart."""
    assert session.owner is not None  # or `staff_only` had sent them away
    here = f"/staff?owner={owner.id}" if (owner := USERS.get(fields.get("owner", ""))) else "/staff"
    if find_user(session.owner, fields.get("password", "")) is None:
        return redirect(here, leave_note(session, "That was not your password."))
    await sign_in(session, session.owner, session.details["device"], remember=session.details["remembered"])
    return redirect(here, leave_note(session, "Thank you. You can end sessions now."))


STAFF_ROUTES = [
    Route("/staff", sessions),
    Route("/staff/end", end_one, methods=["POST"]),
    Route("/staff/end-all", end_all, methods=["POST"]),
    Route("/staff/confirm", confirm, methods=["POST"]),
]
