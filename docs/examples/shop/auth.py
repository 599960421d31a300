"""Who signs in, and from what device."""

import secrets

from msgspec import Struct

__all__ = ["USERS", "User", "device_of", "find_user"]


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
