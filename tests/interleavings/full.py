"""How many interleavings are played."""

from collections.abc import Iterable
from typing import Final, TypeVar

import pytest
from tests.numbers import FULL

__all__ = ["FOLLOWS", "FULL", "PATIENT", "some"]

T = TypeVar("T")


def some(everything: Iterable[T], each: int) -> list[T]:
    """Return every `each`-th item, or all in a full run; test_faults shows that these find every planted fault."""
    return list(everything)[:: 1 if FULL else each]


PATIENT: Final = pytest.mark.timeout(7200 if FULL else 900)  # long, so that no test fails because the machine is busy
FOLLOWS: Final = (False, True)  # whether a destroy or revoke of an ID that was just replaced ends the session
