"""Whether this Python was built without the GIL."""

import sys
from typing import Final

__all__ = ["FREE_THREADED"]

# `sysconfig` says it, too, but is slow to import.
FREE_THREADED: Final = "free-threading build" in sys.version
