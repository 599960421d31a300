"""Who signs in, from what device, and for how long."""

import secrets
from datetime import timedelta

from msgspec import Struct

from sessioncore import Session

__all__ = ["USERS", "User", "device_of", "find_user", "sign_in"]

REMEMBERED = timedelta(days=30)


class User(Struct, frozen=True):
    """Somebody with an account."""

    id: str
    name: str
    password: str  # shown in this demo; a real shop stores argon2 hashes
    staff: bool = False  # may see and end everybody's sessions


USERS = {
    user.id: user
    for user in (
        User("ada", "Ada", "analytical-engine"),
        User("grace", "Grace", "nanoseconds"),
        User("radia", "Radia", "spanning-tree", staff=True),
    )
}


def find_user(name: str, password: str) -> User | None:
    """Return the user if name and password are right."""
    user = USERS.get(name.strip().lower())
    expected = user.password if user else secrets.token_hex()  # a wrong name takes as long as a wrong password
    return user if secrets.compare_digest(password.encode(), expected.encode()) else None


async def sign_in(session: Session, owner: str, device: str, *, remember: bool) -> None:
    """Sign in: the cart stays, the ID changes, and the old ID is dead."""
    await session.login(owner, device=device, remembered=remember)
    if remember:  # for this login only: at the next one, without the box ticked, the configured timeouts apply again
        session.set_persistent(True)
        session.set_absolute_timeout(REMEMBERED)
        session.set_idle_timeout(REMEMBERED)


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
