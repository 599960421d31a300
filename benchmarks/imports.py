"""How long an import takes, in a fresh interpreter, over one that imports nothing."""

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

__all__ = ["import_times"]

STATEMENTS = {
    "anyio, msgspec (what sessioncore needs)": "import anyio, msgspec",
    "sessioncore": "import sessioncore",
    "sessioncore_asgi": "import sessioncore_asgi",
    "sessioncore + Redis storage": "import sessioncore.storage.redis",
    "redis.asyncio": "import redis.asyncio",
    "Starlette SessionMiddleware": "import starlette.middleware.sessions",
    "starsessions": "import starsessions",
    "aiohttp": "import aiohttp.web",
    "aiohttp-session": "import aiohttp_session",
    "Litestar server-side": "import litestar.middleware.session.server_side",
}
ROOT = Path(__file__).parent.parent


def import_times(rounds: int) -> dict[str, float]:
    """Return milliseconds of CPU for each statement: the median over the rounds."""
    spent: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(rounds):
        nothing = _cpu("pass")
        for name, statement in STATEMENTS.items():
            spent[name].append(_cpu(statement) - nothing)
    return {name: statistics.median(times) * 1000 for name, times in spent.items()}


def _cpu(statement: str) -> float:
    # Bytecode is kept, as it usually is: otherwise a package that has none yet would be charged for compiling.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True, cwd=ROOT, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
