"""The applications around the sessions: one module per framework, the same paths in each.

`asgi` is ASGI without a framework: what is left over is the session's own cost. Each module has
`app(handlers, ...)`; a framework is imported only when somebody asks for it.
"""

import importlib
from typing import Any

from benchmarks.workloads import bare_handlers

__all__ = ["bare"]


def bare(family: str) -> Any:
    """Return the application of this family without any session: the base that is subtracted from all others."""
    return importlib.import_module(f"{__name__}.{family}").app(bare_handlers())
