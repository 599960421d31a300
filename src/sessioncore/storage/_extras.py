"""The error for a storage whose driver is not installed.

Drivers are extras of the package, so the error names the extra, as pip takes it.
"""

from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["needs_extra"]


@contextmanager
def needs_extra(extra: str) -> Generator[None]:
    """Import drivers in this block; the error for a missing one names the extra that installs it.

    Raises:
        ModuleNotFoundError: a driver is missing.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("sessioncore"):
            raise
        raise ModuleNotFoundError(
            f"this storage needs {exc.name}, which is not installed; pip install 'sessioncore[{extra}]'", name=exc.name
        ) from exc
