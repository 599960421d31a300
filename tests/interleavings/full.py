"""How much is played, and with which settings."""

from datetime import timedelta
from typing import Any, Final

from tests.numbers import FULL

__all__ = ["FOLLOWS", "FULL", "window"]


FOLLOWS: Final = (False, True)  # a destroy or revoke of an ID that was just replaced ends the session, or not


def window(*, follows: bool) -> dict[str, Any]:
    """The setting by which ends follow moves, or do not."""
    return {"stale_id_window": timedelta(seconds=20 if follows else 0)}
