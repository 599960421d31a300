"""Checks what a handler passes as an owner or a timeout."""

from typing import Final

from sessioncore._config import is_duration
from sessioncore._errors import ConfigError

__all__ = ["check_owner", "seconds_of"]

_MAX_OWNER: Final = 1024  # characters


def check_owner(owner: object) -> None:
    """Raise ConfigError for what cannot be an owner, such as an int."""
    if type(owner) is not str or not 0 < len(owner) <= _MAX_OWNER or not _is_valid_text(owner):
        raise ConfigError(f"an owner is a str of 1 to {_MAX_OWNER} Unicode characters without NUL: pass str(user.id)")


def _is_valid_text(text: str) -> bool:
    """Return whether every database can hold this text: valid Unicode without NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def seconds_of(method: str, timeout: object) -> float | None:
    """Return a timeout in seconds, or None for the configured one; `method` is for the error text.

    Raises:
        ConfigError: `timeout` is not a timedelta above zero.
    """
    if timeout is None:
        return None
    if not is_duration(timeout):
        raise ConfigError(f"{method}() takes a timedelta above zero, at most 100 years, or None")
    return timeout.total_seconds()
