"""What to install for a storage whose driver is not here.

The drivers are extras of the package, so a missing one is no fault of the
program: the error names the extra, in the words of pip.
"""

from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["needs_extra"]


@contextmanager
def needs_extra(extra: str) -> Generator[None]:
    """Import drivers in this block; one that is missing is told with the extra that brings it.

    Raises:
        ModuleNotFoundError: with the name of what is missing.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("sessioncore"):
            raise
        raise ModuleNotFoundError(
            f"this storage needs {exc.name}, which is not installed; pip install 'sessioncore[{extra}]'", name=exc.name
        ) from exc
