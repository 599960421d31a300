"""What a server's own settings take away from the promises: read once, and told once."""

from typing import cast

from sessioncore.storage.redis._errors import ErrorReply
from sessioncore.storage.redis._transport import Reply

__all__ = ["warnings_of"]

_HARMLESS = {"noeviction", "volatile-ttl"}  # an owner's index lives longer than what it lists, so it would go last


def warnings_of(info: Reply) -> list[str]:
    """Return what to warn of, by the reply to INFO; nothing if the server does not tell."""
    settings = _parsed(info)
    told: list[str] = []
    policy = settings.get("maxmemory_policy", "noeviction")
    if policy not in _HARMLESS and settings.get("maxmemory", "0") != "0":
        told.append(
            f"Redis runs with maxmemory-policy {policy}: when memory is full it may drop the index of an owner, and "
            "revoke_all() then misses that owner's sessions until their next use; set noeviction or volatile-ttl "
            "(docs/server-settings.md)"
        )
    if settings.get("aof_enabled") == "0":
        told.append(
            "Redis runs without an append-only file: after a restart it has its last snapshot or nothing, so sessions "
            "that ended since then live again and later logins are gone; set appendonly yes (docs/server-settings.md)"
        )
    return told


def _parsed(info: Reply) -> dict[str, str]:
    if isinstance(info, ErrorReply):
        return {}  # the right to INFO is not required
    if isinstance(info, dict):  # redis-py's own commands parse it
        return {name: str(value) for name, value in cast("dict[str, object]", info).items()}
    lines = info.decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)
