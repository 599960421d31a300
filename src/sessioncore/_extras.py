"""The error for an optional package that is not installed or has another version: it names the extra."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

__all__ = ["needs_extra"]


@contextmanager
def needs_extra(extra: str) -> Generator[None]:
    """Import packages in this block; the error for one that fails names the extra that installs it.

    Raises:
        ModuleNotFoundError: a package is missing.
        ImportError: a package lacks a name or a module: it is too old or too new, or another one of the same name.
    """
    try:
        yield
    except ImportError as exc:
        name = exc.name
        if name is None or name.startswith("sessioncore"):
            raise
        advice = f"pip install 'sessioncore[{extra}]'"
        package = name.partition(".")[0]
        if sys.modules.get(package) is None:
            raise ModuleNotFoundError(f"this needs {package}, which is not installed; {advice}", name=package) from exc
        raise ImportError(f"this version of {package} is not supported ({exc}); {advice}", name=name) from exc
