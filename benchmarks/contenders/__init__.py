"""The contenders: each module of this folder that defines NAME, FAMILY, STORAGES and `build(place)`."""

import importlib
import pkgutil
from types import ModuleType

__all__ = ["everybody"]


def everybody() -> tuple[list[ModuleType], dict[str, str]]:
    """Import every contender; return them, and why others are left out."""
    found: list[ModuleType] = []
    left_out: dict[str, str] = {}
    for entry in pkgutil.iter_modules(__path__):
        try:
            found.append(importlib.import_module(f"{__name__}.{entry.name}"))
        except ImportError as exc:
            left_out[entry.name] = str(exc).splitlines()[0]
    return found, left_out
