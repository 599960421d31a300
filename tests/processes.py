"""The environment of a process that a test starts."""

import os
import sys

__all__ = ["ENVIRONMENT"]

# It imports what the tests import.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
