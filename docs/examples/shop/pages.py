"""Turns values into pages, and keeps the notes that the next page shows."""

import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import wraps
from pathlib import Path
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.templating import Jinja2Templates

from sessioncore import Session, SessionKey
from sessioncore_asgi import get_session

from .auth import USERS
from .shop import CART

__all__ = ["HERE", "Endpoint", "Form", "Note", "form", "leave_note", "message", "page", "redirect"]

Form = dict[str, str]
Endpoint = Callable[[Request], Awaitable[Response]]

HERE = Path(__file__).parent
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",  # so that the Back button shows nothing after signing out; see also static/back.js
    "Referrer-Policy": "same-origin",
}


class Note(Struct, frozen=True):
    """A message that the next page shows."""

    text: str
    moved_from: str | None = None  # the session's former handle, if it has just changed


NOTES: SessionKey[dict[str, Note]] = SessionKey("notes", dict[str, Note], default_factory=dict)
MOST_NOTES = 8  # a tab shows its note at once, so the oldest ones can be dropped


def leave_note(session: Session, text: str, moved_from: str | None = None) -> str:
    """Leave a note for the visitor's next page; return the name by which the address of that page refers to it.

    Showing it does not remove it: a page that is only looked at changes nothing, whoever makes the browser look.
    """
    name = secrets.token_urlsafe(6)
    note = {name: Note(text, moved_from)}
    session.mutate(NOTES, lambda notes: dict([*notes.items(), *note.items()][-MOST_NOTES:]))
    return name


async def page(request: Request, template: str, status: int = 200, **context: Any) -> Response:
    """Render a page with what all pages show: cart, user, notes and the state of the session."""
    session = await get_session(request)
    context |= {
        "session": session,
        "cart": session[CART],
        "user": USERS.get(session.owner or ""),
        "note": session[NOTES].get(request.query_params.get("note", "")),
    }
    return _templates.TemplateResponse(request, template, context, status_code=status, headers=HEADERS)


async def message(request: Request, status: int, title: str, text: str) -> Response:
    """Render a page with a title and one message."""
    return await page(request, "message.html", status, title=title, text=text)


def redirect(path: str, note: str = "", place: str = "") -> Response:
    """Redirect to another page with GET, after a form; it shows the note that `leave_note` has named."""
    query = f"{'&' if '?' in path else '?'}note={note}" if note else ""
    return RedirectResponse(f"{path}{query}{f'#{place}' if place else ''}", 303)


def form(handler: Callable[[Request, Session, Form], Awaitable[Response]]) -> Endpoint:
    """Give a handler the session and the form's fields.

    The forms carry no token against those of other sites: the session refuses their requests (403).
    That holds for what is sent by POST, so no page of the shop changes anything when it is looked at.
    """

    @wraps(handler)
    async def handle(request: Request) -> Response:
        fields = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        return await handler(request, await get_session(request), fields)

    return handle


def _money(amount: Decimal) -> str:
    return f"€\u2009{amount:.2f}"


def _short(handle: str) -> str:
    return f"{handle[:10]}…"


def _ago(moment: datetime) -> str:
    seconds = (datetime.now(UTC) - moment).total_seconds()
    if seconds < 60:
        return "just now"
    return f"{_span(seconds)} ago"


def _ahead(moment: datetime) -> str:
    return f"in {_span((moment - datetime.now(UTC)).total_seconds())}"


def _span(seconds: float) -> str:
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = round(seconds / size)
        if count:
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "less than a minute"


_templates = Jinja2Templates(HERE / "templates")
_templates.env.filters |= {"money": _money, "short": _short, "ago": _ago, "ahead": _ahead}
_templates.env.trim_blocks = _templates.env.lstrip_blocks = True
