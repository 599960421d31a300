"""How much is played, and with which settings."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final, TypeVar

import pytest
from tests.numbers import FULL

__all__ = ["FOLLOWS", "FULL", "PATIENT", "some", "window"]

T = TypeVar("T")


def some(everything: Iterable[T], each: int) -> list[T]:
    """Return one of `each` of these, or all in a full run; test_faults shows that they find every planted fault."""
    return list(everything)[:: 1 if FULL else each]


PATIENT: Final = pytest.mark.timeout(7200 if FULL else 900)  # a busy machine is no defect
FOLLOWS: Final = (False, True)  # a destroy or revoke of an ID that was just replaced ends the session, or not


def window(*, follows: bool) -> dict[str, Any]:
    """The setting by which ends follow moves, or do not."""
    return {"stale_id_window": timedelta(seconds=20 if follows else 0)}
