"""How much is played, and what the core of this tree can do."""

from dataclasses import fields, is_dataclass
from datetime import timedelta
from typing import Any

import msgspec
from tests.numbers import FULL

from sessioncore import SessionConfig

__all__ = ["FOLLOWS", "FULL", "window"]


def _names(kind: Any) -> set[str]:
    if is_dataclass(kind):
        return {field.name for field in fields(kind)}
    return {field.name for field in msgspec.structs.fields(kind)}


_KNOWS_MOVES = "stale_id_window" in _names(SessionConfig)

# Known deviations from DESIGN.md: what, why, and until when.
#
# - A destroy or revoke of an ID that another request moved a moment ago does not end the session (P2 [2], 4.9).
#   There are no tombstones yet. As soon as SessionConfig has `stale_id_window`, `follows=True` is played, too.
FOLLOWS: list[bool] = [False, True] if _KNOWS_MOVES else [False]


def window(*, follows: bool) -> dict[str, Any]:
    """The setting by which ends follow moves, or do not."""
    if not _KNOWS_MOVES:
        return {}
    return {"stale_id_window": timedelta(seconds=20 if follows else 0)}
