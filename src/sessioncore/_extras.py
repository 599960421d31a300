"""The error for an optional package that is not installed, such as a storage's driver: it names the extra."""

from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["needs_extra"]


@contextmanager
def needs_extra(extra: str) -> Generator[None]:
    """Import packages in this block; the error for a missing one names the extra that installs it.

    Raises:
        ModuleNotFoundError: a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("sessioncore"):
            raise
        raise ModuleNotFoundError(
            f"this needs {exc.name}, which is not installed; pip install 'sessioncore[{extra}]'", name=exc.name
        ) from exc
