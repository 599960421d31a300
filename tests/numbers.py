"""How often tests repeat something: a tenth of the full number in `make test`, all of it in `make test-full`."""

import os

__all__ = ["FULL", "scaled"]

FULL = os.environ.get("SESSIONCORE_TEST_FULL") == "1"


def scaled(number: int) -> int:
    """Return `number` in a full run, else a tenth of it, at least one."""
    return number if FULL else max(1, number // 10)
