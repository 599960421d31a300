"""Who signs in, from what device, and whether a form is really ours.

Two things guard a form. The browser says which site a request comes from, and the
session keeps a token that every form of the shop carries and no other site can read.
"""

import secrets
from collections.abc import Mapping

from msgspec import Struct
from starlette.requests import Request

from sessioncore import Session, SessionKey

__all__ = ["CSRF", "USERS", "User", "device_of", "find_user", "form_is_ours", "new_token"]

CSRF: SessionKey[str] = SessionKey("csrf", str, default="")


class User(Struct, frozen=True):
    """Somebody with an account."""

    id: str
    name: str
    password: str  # on show in this demo; a real shop keeps argon2 hashes


USERS = {
    user.id: user
    for user in (
        User("ada", "Ada", "analytical-engine"),
        User("grace", "Grace", "nanoseconds"),
        User("radia", "Radia", "spanning-tree"),
    )
}


def find_user(name: str, password: str) -> User | None:
    """Return the user if name and password belong together."""
    user = USERS.get(name.strip().lower())
    expected = user.password if user else secrets.token_hex()  # a wrong name takes as long as a wrong password
    return user if secrets.compare_digest(password.encode(), expected.encode()) else None


def new_token() -> str:
    """Return what a session keeps under CSRF: set when it begins, and anew at every login."""
    return secrets.token_urlsafe(16)


def form_is_ours(request: Request, session: Session, form: Mapping[str, str]) -> bool:
    """Tell whether a form was sent from a page that this visitor got from this shop."""
    if not _same_site(request):
        return False
    given = form.get("csrf", "")
    if not given:
        # From a page shown to a stranger. Strangers get no session for looking around, hence no token;
        # what they may do with such a page ends when they sign in.
        return session.owner is None
    return secrets.compare_digest(given.encode(), session[CSRF].encode())


def _same_site(request: Request) -> bool:
    """What the browser says about the page that the form stood on; no other site can change these headers."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    return origin is None or origin == f"{request.url.scheme}://{request.url.netloc}"


_BROWSERS = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "Chrom": "Chrome", "Safari": "Safari"}
_SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Mac OS": "Mac",
    "Linux": "Linux",
}


def device_of(user_agent: str) -> str:
    """Name a device as its owner would: "Firefox on Linux"."""
    browser = next((name for mark, name in _BROWSERS.items() if mark in user_agent), "A browser")
    system = next((name for mark, name in _SYSTEMS.items() if mark in user_agent), "an unknown system")
    return f"{browser} on {system}"
